"""Snapshots: a project's runs as they are now, whoever drives them.

A run that this process drives is looked at in its memory, any other one in the journal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleetprompt_agent.engine.core.apply import apply, fold
from fleetprompt_protocol.errors import FleetPromptError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetprompt_agent.engine.active import ActiveRun
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.engine.groups import ConcurrencyGroups
    from fleetprompt_agent.engine.journal_port import JournalPort, RunRow
    from fleetprompt_agent.engine.owner import Owner


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A run as it is now."""

    state: RunState
    status: str
    """`pending running waiting succeeded failed canceled interrupted`."""
    tokens: Mapping[str, str] = field(default_factory=dict)
    """Gate id to token, for gates that this call opened or issued anew."""
    waits_for: tuple[str, str] | None = None
    """The run of the same concurrency group that has to end first, and its status."""
    note: str | None = None
    """What the caller should know of the call itself."""


class Snapshots:
    """Looks at runs; changes nothing.

    Args:
        journal: Where the runs are.
        project: The workspace's real path; runs of other projects are not seen.
        owner: This process.
        active: The runs that this process drives, by id.
        groups: The project's concurrency groups.
    """

    def __init__(
        self,
        journal: JournalPort,
        project: str,
        owner: Owner,
        active: Mapping[str, ActiveRun],
        groups: ConcurrencyGroups,
    ) -> None:
        self._journal = journal
        self._project = project
        self._owner = owner
        self._active = active
        self._groups = groups
        self._last_read: RunState | None = None
        """Whoever looks at a run often looks again: only what came since is read then."""

    def find(self, prefix: str) -> str:
        """The id of the only run that begins so; the latest run for an empty prefix.

        Raises:
            RequestError: `run.not_found`, or `run.ambiguous` when several begin so.
        """
        rows = self._journal.find_runs(self._project, prefix, 6)
        if not rows:
            raise _not_found(prefix)
        if prefix and len(rows) > 1 and all(row.run_id != prefix for row in rows):
            ids = ", ".join(row.run_id for row in rows[:5])
            raise RequestError(
                "run.ambiguous",
                f"Several runs begin with {prefix}: {ids}. Give more of the id.",
                details={"run_ids": [row.run_id for row in rows]},
            )
        return prefix if any(row.run_id == prefix for row in rows) else rows[0].run_id

    def load(self, run_id: str) -> RunState:
        """The run's state as it is in the journal.

        Raises:
            RequestError: `run.not_found`, also for the runs of other projects.
            JournalError: `journal.corrupt`, `journal.version`.
        """
        self._row(run_id)
        return fold(run_id, self._journal.load(run_id))

    def _row(self, run_id: str) -> RunRow:
        row = self._journal.get_run(run_id)
        if row is None or row.project != self._project:
            raise _not_found(run_id)
        return row

    def state(self, run_id: str) -> RunState:
        """The run's state; raises as `load` does."""
        run = self._active.get(run_id)
        return run.state if run is not None else self.load(run_id)

    def get(self, run_id: str) -> Snapshot:
        """The run as it is now; raises as `load` does."""
        run = self._active.get(run_id)
        if run is not None:
            return self.of(run.state, self._status(run.state, is_driven=True))
        row, known, self._last_read = self._row(run_id), self._last_read, None
        # A run that was forgotten may have left its id to a younger one.
        if known is not None and (known.run_id, known.created_ms) != (run_id, row.created_ms):
            known = None
        self._last_read, status = self.read(run_id, known)
        return self.of(self._last_read, status)

    def of(self, state: RunState, status: str, tokens: Mapping[str, str] | None = None) -> Snapshot:
        """The snapshot of a run whose state and status are known."""
        return Snapshot(state, status, tokens or {}, self._waits_for(state, status))

    def of_active(self, run: ActiveRun, tokens: Mapping[str, str]) -> Snapshot:
        """The snapshot of a run that this process drives, or has just driven."""
        return self.of(
            run.state, self._status(run.state, is_driven=not run.parked.is_set()), tokens
        )

    def read(self, run_id: str, known: RunState | None = None) -> tuple[RunState, str]:
        """The run as the journal has it, and its status.

        The lease is read first: an owner gives it back together with its last events, so that
        a run without an owner has no events still to come.

        Args:
            run_id: The run.
            known: Its state as of before, which is carried on; else all events are read.
        """
        is_driven = self.is_driven(run_id)
        if known is None:
            known = self.load(run_id)
        else:
            for event in self._journal.load(run_id, after=known.seq):
                apply(known, event)
        return known, self._status(known, is_driven=is_driven)

    def status_of(self, run_id: str) -> str:
        """The status of a run, `unreadable` when its events cannot be read."""
        try:
            return self.get(run_id).status
        except FleetPromptError:
            return "unreadable"

    def is_driven(self, run_id: str) -> bool:
        """Whether some process drives the run: a lease of this one alone does not say so.

        It may have let the run go when the journal could not be written.
        """
        if run_id in self._active:
            return True
        return self._journal.has_live_owner(run_id, besides=self._owner)

    def is_held_up(self, state: RunState) -> bool:
        """Whether the run's turn in its group cannot come, as nobody drives the one before it."""
        before = self._groups.before(state)
        return before is not None and self.status_of(before) == "interrupted"

    def _waits_for(self, state: RunState, status: str) -> tuple[str, str] | None:
        before = self._groups.before(state) if status in ("pending", "interrupted") else None
        return None if before is None else (before, self.status_of(before))

    def _status(self, state: RunState, *, is_driven: bool) -> str:
        """The derived status: the fold, whether somebody drives the run, and what it waits for."""
        folded = folded_status(state)
        if folded != "running":
            return folded
        if not is_driven:
            return "interrupted"
        return "pending" if self._groups.before(state) is not None else "running"


def folded_status(state: RunState) -> str:
    """What the events alone say of the run; `running` if it could go on."""
    if state.ended is not None:
        return state.ended
    return "waiting" if state.is_waiting else "running"


def _not_found(run_id: str) -> FleetPromptError:
    shown = run_id or "at all"
    return RequestError(
        "run.not_found",
        f"There is no run {shown} in this project. `fleetprompt runs` lists them.",
    )
