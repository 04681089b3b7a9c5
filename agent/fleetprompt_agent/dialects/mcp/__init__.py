"""The Model Context Protocol: the tools, and the project's workflows, for any MCP client."""
