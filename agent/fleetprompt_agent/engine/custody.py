"""Custody: how a run comes into this process's hands, newly made or taken over.

Either way its lease is taken in the transaction that journals it, and the run is then to be driven.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetprompt_agent.engine import tokens
from fleetprompt_agent.engine.active import now_ms
from fleetprompt_agent.engine.core.apply import apply, begin, fold
from fleetprompt_agent.engine.core.events import LeaseTaken, RunCreated, RunReopened
from fleetprompt_agent.engine.journal_port import PRUNED, RunRow
from fleetprompt_agent.engine.requests import asked_event
from fleetprompt_agent.engine.snapshots import folded_status
from fleetprompt_agent.language.plan import canonical_json, plan_to_json
from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.engine.core.events import Json
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.engine.groups import ConcurrencyGroups
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.engine.owner import Owner
    from fleetprompt_agent.engine.requests import Asker
    from fleetprompt_agent.language.plan import Plan


@dataclass(frozen=True, slots=True)
class NewRun:
    """What a run is started with."""

    plan: Plan
    inputs: dict[str, Json]
    cwd: str | None = None
    intent: str | None = None
    timeout_s: float | None = None
    max_output_bytes: int | None = None
    metadata: Json = None
    caller: str | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """A run whose lease this process has."""

    state: RunState
    epoch: int
    replaces: list[str]
    """Ids of the runs of its concurrency group that are to be cancelled for it."""


class Custody:
    """Takes runs into this process's hands.

    Args:
        journal: Where the runs are.
        project: The workspace's real path.
        owner: This process.
        groups: The project's concurrency groups.
        status_of: The status of a run by its id.
    """

    def __init__(
        self,
        journal: JournalPort,
        project: str,
        owner: Owner,
        groups: ConcurrencyGroups,
        status_of: Callable[[str], str],
    ) -> None:
        self._journal = journal
        self._project = project
        self._owner = owner
        self._groups = groups
        self._status_of = status_of

    def create(self, new: NewRun, asker: Asker) -> Held | str:
        """The new run, or the id of the one that has the idempotency key already.

        Raises:
            RequestError: `run.conflict`: the key belongs to other inputs, or the run's group is
                busy; `run.pruned`. Nothing was made.
            JournalError: nothing was made.
        """
        now = now_ms()
        fingerprint = tokens.token_hash(canonical_json([new.plan.digest, new.inputs, new.cwd]))
        with self._journal.transaction(durable=True):
            run_id = self._new_run_id(asker.correlation_id)
            if new.idempotency_key is not None:
                scope = canonical_json(["local", self._project, new.plan.workflow_id, new.caller])
                holder, kept = self._journal.claim_key(
                    scope, new.idempotency_key, fingerprint, run_id, now
                )
                if kept != fingerprint:
                    raise RequestError(
                        "run.conflict",
                        f"The idempotency key was used for run {holder} with another workflow, "
                        "other inputs or another directory. Use a new key.",
                        details={"run_id": holder},
                    )
                if holder.startswith(PRUNED):
                    raise _pruned(holder.removeprefix(PRUNED))
                if holder != run_id:
                    return holder
            created = RunCreated(
                plan=plan_to_json(new.plan),
                inputs=new.inputs,
                root=self._project,
                cwd=new.cwd,
                intent=new.intent,
                timeout_s=new.timeout_s,
                max_output_bytes=new.max_output_bytes,
                metadata=new.metadata,
                caller=new.caller,
                idempotency_key=new.idempotency_key,
            )
            replaces = self._groups.join(new.plan, run_id, self._status_of)
            self._journal.create_run(
                RunRow(run_id, self._project, new.plan.workflow_id, asker.correlation_id, now),
                tenant="local",
                parent_run_id=None,
            )
            epoch = self._journal.acquire(run_id, self._owner)
            line = asker.correlation_id
            first = asked_event(1, now, created, asker, asker.causation_id, line)
            lease = LeaseTaken(self._owner.to_text(), epoch)
            second = asked_event(2, now, lease, asker, first.event_id, line)
            self._journal.append(run_id, epoch, [first, second])
        return Held(apply(begin(run_id, first, new.plan), second), epoch, replaces)

    def _new_run_id(self, correlation_id: str) -> str:
        """The correlation id for the first root run under it, else an id of its own."""
        if self._journal.get_run(correlation_id) is None:
            return correlation_id
        return new_id()

    def take_over(self, run_id: str, asker: Asker, reopened: RunReopened | None = None) -> Held:
        """The run, which nobody drives.

        Args:
            run_id: The run.
            asker: Who wants it to go on.
            reopened: For a failed run: what makes it go on.

        Raises:
            RequestError: `run.conflict`: somebody else drives it, or has just brought it to its
                end.
        """
        with self._journal.transaction(durable=True):
            epoch = self._journal.acquire(run_id, self._owner)
            state = fold(run_id, self._journal.load(run_id))
            # Whoever was asked looked before it had the lease: the end may have come in between.
            if state.ended != (None if reopened is None else "failed"):
                raise RequestError(
                    "run.conflict",
                    f"Run {run_id} has just been brought to its end elsewhere: "
                    f"it is {folded_status(state)}.",
                )
            bodies: list[LeaseTaken | RunReopened] = [LeaseTaken(self._owner.to_text(), epoch)]
            replaces: list[str] = []
            if reopened is not None:
                replaces = self._groups.join(state.plan, run_id, self._status_of)
                bodies.append(reopened)
            at, line = max(now_ms(), state.last_ms), state.correlation_id
            events = [
                asked_event(seq, at, body, asker, asker.request_id, line)
                for seq, body in enumerate(bodies, state.seq + 1)
            ]
            self._journal.append(run_id, epoch, events)
        for event in events:
            apply(state, event)
        return Held(state, epoch, replaces)


def _pruned(run_id: str) -> RequestError:
    return RequestError(
        "run.pruned",
        f"The idempotency key belongs to run {run_id}, whose record has been removed; the key is "
        "kept so that nothing is done twice. Use a new key to run it again.",
        details={"run_id": run_id},
    )
