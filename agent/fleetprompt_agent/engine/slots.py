"""Slots: how many steps act at once in this process, and which runs wait for one to be free."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetprompt_agent.engine.active import ActiveRun

SLOTS = 64
"""Steps that act at once, whatever the runs allow (engine.md §3, Slots)."""


class Slots:
    """The slots of one process. Steps that wait for nothing need none."""

    def __init__(self) -> None:
        self.taken = 0
        """By tasks that perform a step, and by steps of this turn that will get one."""
        self._starved: dict[str, ActiveRun] = {}

    @property
    def is_free(self) -> bool:
        """Whether another step may act."""
        return self.taken < SLOTS

    def starve(self, run: ActiveRun) -> None:
        """The run has a step that no slot is free for."""
        self._starved[run.run_id] = run

    def forget(self, run: ActiveRun) -> None:
        """The run needs no slot any more."""
        self._starved.pop(run.run_id, None)

    def feed(self) -> list[ActiveRun]:
        """The runs that have waited longest, as many as there are free slots; they wait no more."""
        if not self._starved:
            return []
        ids = list(islice(self._starved, max(0, SLOTS - self.taken)))
        return [self._starved.pop(run_id) for run_id in ids]
