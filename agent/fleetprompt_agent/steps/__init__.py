"""The steps of the agent."""
