"""What a call reports while it lasts: the run's transitions as MCP progress."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from fleetprompt_agent.engine.projection import status_data
from fleetprompt_protocol.redaction import escape_controls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetprompt_agent.engine.active import Progress
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunState

_SMALLEST_STEP = 0.01
"""Progress must grow with every message, also when no step has ended in between."""


class ProgressReports:
    """A listener that sends a step's newest transition; the first message names the run.

    Use it as a context manager around the call: at its end everything has been sent.

    Args:
        report: Sends `(done, total, text)`.
    """

    def __init__(self, report: Callable[[float, float | None, str], Awaitable[None]]) -> None:
        self._report = report
        self._waiting: dict[str, tuple[Progress, str]] = {}
        self._has_more = asyncio.Event()
        self._sent = -1.0
        self._run_id: str | None = None
        self._is_over = False
        self._task: asyncio.Task[None] | None = None

    def on_event(self, state: RunState, event: Event, progress: Progress) -> None:
        """Keeps the transition until it can be sent; of each step the newest."""
        data = status_data(state, event, progress)
        if data is None:
            return
        key = data["step_path"] or ""
        self._waiting.pop(key, None)
        self._waiting[key] = (progress, data["text"])
        if self._run_id is None:
            self._run_id = state.run_id
        self._has_more.set()

    def on_output(self, step_path: str, channel: str, text: str) -> None:
        """What a step prints is not sent: it is in the result."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._send_all())
        return self

    async def __aexit__(self, *_: object) -> None:
        task = self._task
        if task is None:
            return
        self._is_over = True
        self._has_more.set()
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()  # nothing may follow a call that was cancelled
            raise

    async def _send_all(self) -> None:
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            while self._waiting:
                key = next(iter(self._waiting))
                progress, text = self._waiting.pop(key)
                await self._send(progress, text)
            if self._is_over:
                return

    async def _send(self, progress: Progress, text: str) -> None:
        if self._sent < 0:
            text = f"run {self._run_id}: {text}"
        done = max(float(progress.completed), round(self._sent + _SMALLEST_STEP, 6))
        self._sent = done
        await self._report(done, float(max(progress.total, 1)), escape_controls(text))
