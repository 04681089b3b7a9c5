"""The dialects of the agent."""
