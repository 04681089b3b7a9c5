"""Alarms: what wakes a run by itself, when nothing has happened.

A retry that is due, the run's own time limit, and the budget of `finally`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetprompt_agent.engine.core.events import RunCancelRequested
from fleetprompt_agent.engine.core.schedule import FINALLY_S, run_timeout_s

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.engine.active import ActiveRun


class Alarms:
    """The alarms of one run.

    Args:
        run: Whose.
        wake: Has the run looked at in the next turn.
    """

    def __init__(self, run: ActiveRun, wake: Callable[[ActiveRun], None]) -> None:
        self._run = run
        self._wake = wake
        self._loop = asyncio.get_running_loop()
        self._limit_s = run_timeout_s(run.state)
        self._retry: asyncio.TimerHandle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._finally: asyncio.TimerHandle | None = None

    def retry_in(self, in_ms: int) -> None:
        """Wake the run then; the last call holds."""
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(in_ms / 1000, self._wake, self._run)

    def watch(self) -> None:
        """Set what the run's state calls for. Its own clock stops while it waits."""
        state = self._run.state
        if self._finally is None and state.root_scope.phase == "finally":
            self._finally = self._loop.call_later(FINALLY_S, self._finally_over)
        if self._limit_s is None or state.cancels or self._deadline is not None:
            return
        left_s = self._limit_s - state.active_ms / 1000
        self._deadline = self._loop.call_later(max(0.0, left_s), self._time_is_up)

    def cancel(self) -> None:
        """Nothing of this run wakes the loop any more."""
        for timer in (self._retry, self._deadline, self._finally):
            if timer is not None:
                timer.cancel()
        self._retry = self._deadline = self._finally = None

    def _time_is_up(self) -> None:
        self._deadline = None
        run = self._run
        state = run.state
        if self._limit_s is None or state.is_terminal or state.cancels or run.parked.is_set():
            return
        idle_ms = run.read_clock() - state.last_ms if state.running or state.startable else 0
        if state.active_ms + idle_ms >= self._limit_s * 1000 - 1:
            self._cancel_for(RunCancelRequested("timeout", timed_out=True))
        else:
            self.watch()

    def _finally_over(self) -> None:
        if not self._run.state.is_terminal and not self._run.parked.is_set():
            self._cancel_for(RunCancelRequested("finally", timed_out=True, ends_finally=True))

    def _cancel_for(self, body: RunCancelRequested) -> None:
        self._run.wanted.append(body)
        self._wake(self._run)
