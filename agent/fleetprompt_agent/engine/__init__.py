"""The engine of the agent."""
