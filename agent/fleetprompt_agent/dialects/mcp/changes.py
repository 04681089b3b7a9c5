"""Hearing of changed workflow files, so that clients can be told that lists are out of date."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from fleetprompt_agent.dialects.changes import workflow_changes
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetprompt_agent.agent import Agent

log = get_logger("mcp")


class Changes:
    """Watches the project's workflow files once somebody has asked for them.

    Args:
        agent: Whose project.
        tell: Called after every batch of changes.
    """

    def __init__(self, agent: Agent, tell: Callable[[], Awaitable[None]]) -> None:
        self._agent = agent
        self._tell = tell
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Watch from now on."""
        if self._task is None:
            self._task = asyncio.ensure_future(self._follow(self._state()))

    async def stop(self) -> None:
        """Watch no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _state(self) -> list[tuple[str, str | None]]:
        return [(entry.file_path, entry.sha256) for entry in self._agent.scan().entries]

    async def _follow(self, told: list[tuple[str, str | None]]) -> None:
        try:
            async with aclosing(workflow_changes(self._agent)) as batches:
                async for changes in batches:
                    if changes or self._state() != told:
                        told = self._state()
                        await self._tell()
        except Exception as fault:
            log.error("mcp.not_watching", exc_info=fault)
