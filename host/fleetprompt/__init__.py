"""The host: what a person or a program uses to reach agents. It routes; it executes no step.

`fleetprompt.Client` is the way in for programs. Importing this imports nothing else.
"""

from __future__ import annotations

from fleetprompt_protocol.version import __version__

TYPE_CHECKING = False  # importing typing would double what `fleetprompt --version` costs
if TYPE_CHECKING:
    from fleetprompt.client import Client
    from fleetprompt_protocol.errors import FleetPromptError
else:

    def __getattr__(name: str) -> object:
        """Import what is exported when it is first asked for."""
        if name == "Client":
            from fleetprompt.client import Client

            return Client
        if name == "FleetPromptError":
            from fleetprompt_protocol.errors import FleetPromptError

            return FleetPromptError
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = ["Client", "FleetPromptError", "__version__"]
