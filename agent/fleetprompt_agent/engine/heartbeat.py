"""The heartbeat of a process that drives runs: it renews their leases, and looks into the inbox.

It beats while there are runs, and stops by itself when there are none.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from fleetprompt_protocol.errors import JournalError
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetprompt_agent.engine.active import ActiveRun
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_protocol.errors import FleetPromptError

log = get_logger("engine")

INBOX_POLL_S = 0.05
"""Requests of other processes are folded in within 100 ms (engine.md §4)."""


class Driver(Protocol):
    """Who drives the runs, and hears what the heartbeat finds."""

    def look_into_inbox(self, run: ActiveRun) -> None:
        """Somebody has left a request for the run."""
        ...

    def wake_queued(self) -> None:
        """Another process has written: a run of the same group may have ended."""
        ...

    def let_go(self, run: ActiveRun, error: FleetPromptError) -> None:
        """Another process has taken over the run."""
        ...


class Heartbeat:
    """The heartbeat of one process.

    Args:
        journal: Where the leases and the inbox are.
        active: The runs that are driven, by id; it changes while this beats.
        driver: Who drives them.
    """

    def __init__(
        self, journal: JournalPort, active: Mapping[str, ActiveRun], driver: Driver
    ) -> None:
        self._journal = journal
        self._active = active
        self._driver = driver
        self._loop = asyncio.get_running_loop()
        self._inbox_timer: asyncio.TimerHandle | None = None
        self._renew_timer: asyncio.TimerHandle | None = None
        self._data_version = -1

    def start(self) -> None:
        """Beat, if it does not already."""
        if self._inbox_timer is None:
            self._inbox_timer = self._loop.call_later(INBOX_POLL_S, self._look)
            self._renew_timer = self._loop.call_later(self._journal.lease_s / 4, self._renew)

    def stop(self) -> None:
        """Beat no more."""
        for timer in (self._inbox_timer, self._renew_timer):
            if timer is not None:
                timer.cancel()
        self._inbox_timer = self._renew_timer = None

    def _look(self) -> None:
        if not self._active:
            self.stop()
            return
        try:
            version = self._journal.data_version()
            if version != self._data_version:
                self._data_version = version
                self._driver.wake_queued()
                for run_id in self._journal.runs_with_requests() & self._active.keys():
                    self._driver.look_into_inbox(self._active[run_id])
        except JournalError as error:
            log.warning("journal.inbox_unread", code=error.code)
        self._inbox_timer = self._loop.call_later(INBOX_POLL_S, self._look)

    def _renew(self) -> None:
        held = {run.run_id: run.epoch for run in self._active.values()}
        try:
            with self._journal.transaction():
                lost = self._journal.renew(held)
        except JournalError as error:
            log.warning("journal.leases_unrenewed", code=error.code)
            lost = set()
        for run_id in lost:
            self._driver.let_go(
                self._active[run_id],
                JournalError(
                    "journal.fenced",
                    f"Run {run_id} has been taken over by another process.",
                    details={"run_id": run_id},
                ),
            )
        self._renew_timer = self._loop.call_later(self._journal.lease_s / 4, self._renew)
