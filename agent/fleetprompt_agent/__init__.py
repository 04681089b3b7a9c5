"""The agent: the workflow language, the engine, the step runners, the tools and their dialects.

Nothing here opens a listening socket, prints to stdout, or decides what belongs to the host.
"""
