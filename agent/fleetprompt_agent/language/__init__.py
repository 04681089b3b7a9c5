"""The language of the agent."""
