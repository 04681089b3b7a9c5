"""Concurrency groups: at most one run of a group acts at a time, per project."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.language.plan import Plan


class ConcurrencyGroups:
    """The queues of one project's groups; the first run of a queue may act."""

    def __init__(self, journal: JournalPort, project: str) -> None:
        self._journal = journal
        self._project = project

    def join(self, plan: Plan, run_id: str, status_of: Callable[[str], str]) -> list[str]:
        """Queue the run, if its plan is of a group; gives the runs that it replaces.

        Call it within a transaction.

        Args:
            plan: The run's.
            run_id: The run.
            status_of: The status of another run, for the refusal.

        Raises:
            RequestError: `run.conflict`: the plan does not wait, and another run has not ended.
        """
        group = plan.concurrency
        if group is None:
            return []
        others = self._journal.group_members(self._project, group.group)
        if others and group.on_conflict == "refuse":
            status = status_of(others[0])
            raise RequestError(
                "run.conflict",
                f"Run {others[0]} of the group {group.group} has not ended (it is {status}), and "
                "this workflow does not wait. "
                f"{'Resume it' if status == 'interrupted' else 'Let it end'}, or cancel it.",
                details={"run_id": others[0], "status": status},
                retryable=True,
            )
        self._journal.join_group(self._project, group.group, run_id)
        return others if group.on_conflict == "cancel_running" else []

    def before(self, state: RunState) -> str | None:
        """The run that has to end before this one may act, or None."""
        group = state.plan.concurrency
        if group is None or state.is_terminal:
            return None
        members = self._journal.group_members(self._project, group.group)
        return members[0] if members and members[0] != state.run_id else None

    def leave(self, state: RunState) -> None:
        """The run has ended: the next one of its group may act. Call it within a transaction."""
        if state.plan.concurrency is not None:
            self._journal.leave_group(state.run_id)
