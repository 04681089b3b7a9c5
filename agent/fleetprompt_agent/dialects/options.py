"""What the spawner lets a client see."""

from __future__ import annotations

from typing import NamedTuple


class Options(NamedTuple):
    """From the agent's command line."""

    all_tools: bool = False
    """Every `fp_*` tool rather than the few that most MCP clients need."""
    workflow_tools: bool = False
    """Each valid workflow as a tool of its own; its texts come from the repository."""
    elicitation: bool = True
    """Whether a person may decide in a form of the client."""
