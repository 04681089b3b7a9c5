"""What can be known about workflows without running anything.

Nothing here executes, expands aliases or variables, touches the network, or imports the agent.
"""
