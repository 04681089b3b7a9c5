"""The pure core: events folded into a state, and the commands that follow from it.

No module here imports asyncio, os, subprocess, time, random, sqlite3 or logging: clock readings,
ids and random numbers arrive inside events. A test walks the imports.
"""
