"""The host: what a person or a program uses to reach agents. It routes; it executes no step."""

from fleetprompt_protocol.version import __version__

__all__ = ["__version__"]
