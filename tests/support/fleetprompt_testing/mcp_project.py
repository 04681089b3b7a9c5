"""A project whose agents are spoken to by the MCP SDK's own client, in both eras."""

from __future__ import annotations

import json
import os
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fleetprompt_testing.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mcp import Client

HANDSHAKE, STATELESS = "legacy", "2026-07-28"
"""The eras, in the words of the SDK's client."""


class McpProject(Workspace):
    """A workspace that MCP clients connect to."""

    @property
    def argv(self) -> list[str]:
        """How an MCP client spawns the agent, without flags."""
        return [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", str(self.root)]

    @property
    def environ(self) -> dict[str, str]:
        """What the agent is spawned with."""
        return {**os.environ, "FLEETPROMPT_HOME": str(self.home)}

    @asynccontextmanager
    async def connect(self, mode: str, *flags: str, **options: Any) -> AsyncIterator[Client]:
        """The SDK's client, with an agent of its own; `options` are the client's."""
        from mcp import Client, StdioServerParameters

        program, *arguments = self.argv
        server = StdioServerParameters(command=program, args=[*arguments, *flags], env=self.environ)
        async with Client(server, mode=mode, **options) as client:
            yield client


def run_of(result: Any) -> dict[str, Any]:
    """The run that a tool's result shows; its text says the same."""
    run: dict[str, Any] = result.structured_content
    assert [json.loads(block.text) for block in result.content] == [run]
    return run


def text_of(result: Any) -> str:
    """The only text of a tool's result."""
    (block,) = result.content
    return str(block.text)


def error_of(result: Any) -> dict[str, Any]:
    """The error of a tool's result."""
    assert result.is_error
    error: dict[str, Any] = json.loads(text_of(result))["error"]
    return error
