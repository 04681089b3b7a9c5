"""The engine as its callers see it: start, resume, decide, cancel, look at a run.

A run is driven by the process that holds its lease. Whatever this process does not own it follows
in the journal, so that every call works the same whoever owns the run.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from fleetprompt_agent.engine import requests, tokens
from fleetprompt_agent.engine.active import ActiveRun, Progress, now_ms
from fleetprompt_agent.engine.core.apply import apply, begin, fold
from fleetprompt_agent.engine.core.events import Event, LeaseTaken, RunCreated, RunReopened
from fleetprompt_agent.engine.journal_port import EVERY_REQUEST, PRUNED, RunRow
from fleetprompt_agent.engine.runner import INBOX_POLL_S, Runner
from fleetprompt_agent.language.plan import canonical_json, plan_to_json
from fleetprompt_protocol.errors import FleetPromptError, RequestError
from fleetprompt_protocol.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_agent.engine.active import Listener
    from fleetprompt_agent.engine.core.events import Json
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.engine.owner import Owner
    from fleetprompt_agent.engine.requests import Asker, Decide
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.steps.artifacts import ArtifactStore
    from fleetprompt_agent.steps.contract import StepRunner

HELD_UP_POLL_S = 1.0
"""A queued run looks so often whether somebody still drives the one before it."""
TOKEN_LIFE_S = 7 * 86_400
"""Of a token that was issued again (engine.md §3, Clocks)."""


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
class Snapshot:
    """A run as it is now."""

    state: RunState
    status: str
    """`pending running waiting succeeded failed canceled interrupted`."""
    tokens: Mapping[str, str]
    """Gate id to token, for gates that this call opened or issued anew."""
    waits_for: tuple[str, str] | None = None
    """The run of the same concurrency group that has to end first, and its status."""
    note: str | None = None
    """What the caller should know of the call itself."""


class Engine:
    """The runs of one project, for one process.

    Args:
        journal: The journal; the engine closes it.
        project: The workspace's real path; runs of other projects are not seen.
        owner: This process.
        step_runners: By namespace.
        may_run: See `Runner`.
        artifacts: See `Runner`.
    """

    def __init__(
        self,
        journal: JournalPort,
        project: str,
        owner: Owner,
        step_runners: Mapping[str, StepRunner],
        may_run: Callable[[], bool] = lambda: True,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        self.journal = journal
        self.project = project
        self._owner = owner
        self.artifacts = artifacts
        self._runner = Runner(journal, step_runners, may_run, artifacts)
        self._is_stopping = False
        self._cancels: set[asyncio.Task[tuple[bool, str]]] = set()
        self._tokens: dict[str, dict[str, str]] = {}
        """By run id: the tokens of open gates that this process issued; nowhere else in clear."""

    @property
    def active_count(self) -> int:
        """Number of runs that this process drives now."""
        return len(self._runner.active)

    def observe(self, listener: Listener) -> None:
        """Have the listener hear of every run that this process drives from now on."""
        self._runner.observers.append(listener)

    def wake(self) -> None:
        """Listeners can keep up again."""
        self._runner.wake_all()

    async def stop(self) -> None:
        """Interrupt what runs and leave it resumable; the journal can still be read."""
        self._is_stopping = True
        await self._runner.stop()

    # Starting and following

    async def start(
        self,
        new: NewRun,
        asker: Asker,
        listener: Listener | None,
        wait_s: float | None,
        on_created: Callable[[str], object] = lambda _: None,
    ) -> Snapshot:
        """The run once it has ended or waits, or as it is after `wait_s`.

        Args:
            new: What to run.
            asker: Who starts it.
            listener: Hears of every transition while this call lasts.
            wait_s: How long to wait at the most; None for as long as it takes.
            on_created: Called with the run's id as soon as it exists.

        Raises:
            RequestError: `run.conflict`: the idempotency key belongs to other inputs.
            JournalError: nothing was started.
        """
        run_id, run = self._create(new, asker)
        on_created(run_id)
        if run is None:
            return await self.follow(run_id, listener, wait_s)
        _listen(run, listener)
        self._runner.adopt(run)
        return await self._until_parked(run, listener, wait_s)

    def _create(self, new: NewRun, asker: Asker) -> tuple[str, ActiveRun | None]:
        """The new run, or the id of the one that has the idempotency key already."""
        now = now_ms()
        fingerprint = tokens.token_hash(canonical_json([new.plan.digest, new.inputs, new.cwd]))
        with self.journal.transaction(durable=True):
            run_id = self._new_run_id(asker.correlation_id)
            if new.idempotency_key is not None:
                scope = canonical_json(["local", self.project, new.plan.workflow_id, new.caller])
                holder, kept = self.journal.claim_key(
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
                    return holder, None
            created = RunCreated(
                plan=plan_to_json(new.plan),
                inputs=new.inputs,
                root=self.project,
                cwd=new.cwd,
                intent=new.intent,
                timeout_s=new.timeout_s,
                max_output_bytes=new.max_output_bytes,
                metadata=new.metadata,
                caller=new.caller,
                idempotency_key=new.idempotency_key,
            )
            excluded = self._join_group(new.plan, run_id)
            self.journal.create_run(
                RunRow(run_id, self.project, new.plan.workflow_id, asker.correlation_id, now),
                tenant="local",
                parent_run_id=None,
            )
            epoch = self.journal.acquire(run_id, self._owner)
            first = _event(1, now, created, asker, asker.causation_id)
            second = _event(2, now, LeaseTaken(self._owner.to_text(), epoch), asker, first.event_id)
            self.journal.append(run_id, epoch, [first, second])
        for other in excluded:
            task = asyncio.ensure_future(self.cancel(other, f"replaced by run {run_id}", asker))
            self._cancels.add(task)
            task.add_done_callback(self._cancels.discard)
        state = apply(begin(run_id, first, new.plan), second)
        return run_id, ActiveRun(state, epoch, asker, self._tokens.setdefault(run_id, {}))

    def _join_group(self, plan: Plan, run_id: str) -> list[str]:
        """Queue the run in its concurrency group; gives the runs that it replaces."""
        group = plan.concurrency
        if group is None:
            return []
        others = self.journal.group_members(self.project, group.group)
        if others and group.on_conflict == "refuse":
            status = self._status_of(others[0])
            raise RequestError(
                "run.conflict",
                f"Run {others[0]} of the group {group.group} has not ended (it is {status}), and "
                "this workflow does not wait. "
                f"{'Resume it' if status == 'interrupted' else 'Let it end'}, or cancel it.",
                details={"run_id": others[0], "status": status},
                retryable=True,
            )
        self.journal.join_group(self.project, group.group, run_id)
        return others if group.on_conflict == "cancel_running" else []

    def _new_run_id(self, correlation_id: str) -> str:
        """The correlation id for the first root run under it, else an id of its own."""
        if self.journal.get_run(correlation_id) is None:
            return correlation_id
        return new_id()

    async def _until_parked(
        self, run: ActiveRun, listener: Listener | None, wait_s: float | None
    ) -> Snapshot:
        try:
            async with asyncio.timeout(wait_s):
                while not await self._is_parked_or_held_up(run):
                    pass
        except TimeoutError:
            pass
        finally:
            if listener is not None and listener in run.listeners:
                run.listeners.remove(listener)
        if run.error is not None:
            raise run.error
        return self._snapshot(run)

    def _snapshot(self, run: ActiveRun) -> Snapshot:
        state = run.state
        status = self._status(state, is_driven=not run.parked.is_set())
        return Snapshot(state, status, self._open_tokens(state), self._waits_for(state, status))

    async def _is_parked_or_held_up(self, run: ActiveRun) -> bool:
        """Wait for the run; false when it is time to look again at what it waits for.

        A run whose turn cannot come, because nobody drives the one before it, is told of at once.
        """
        if run.state.plan.concurrency is None:
            return await run.parked.wait()
        before = self._runner.waits_for(run.state)
        if before is not None and self._status_of(before) == "interrupted":
            return True
        try:
            async with asyncio.timeout(HELD_UP_POLL_S):
                return await run.parked.wait()
        except TimeoutError:
            return False

    def _waits_for(self, state: RunState, status: str) -> tuple[str, str] | None:
        before = self._runner.waits_for(state) if status in ("pending", "interrupted") else None
        return None if before is None else (before, self._status_of(before))

    def _status_of(self, run_id: str) -> str:
        """The status of another run, `unreadable` when its events cannot be read."""
        try:
            return self.get(run_id).status
        except FleetPromptError:
            return "unreadable"

    def _status(self, state: RunState, *, is_driven: bool) -> str:
        """The derived status: the fold, whether somebody drives the run, and what it waits for."""
        folded = _folded_status(state)
        if folded != "running":
            return folded
        if not is_driven:
            return "interrupted"
        return "pending" if self._runner.waits_for(state) is not None else "running"

    def _open_tokens(self, state: RunState) -> dict[str, str]:
        open_ids = {gate.gate_id for gate in state.open_gates}
        kept = self._tokens.get(state.run_id, {})
        for gate_id in kept.keys() - open_ids:
            del kept[gate_id]
        if state.is_terminal:
            self._tokens.pop(state.run_id, None)
        return dict(kept)

    def load(self, run_id: str) -> RunState:
        """The run's state as it is in the journal.

        Raises:
            RequestError: `run.not_found`, also for the runs of other projects.
            JournalError: `journal.corrupt`, `journal.version`.
        """
        row = self.journal.get_run(run_id)
        if row is None or row.project != self.project:
            raise _not_found(run_id)
        return fold(run_id, self.journal.load(run_id))

    def find(self, prefix: str) -> str:
        """The id of the only run that begins so; the latest run for an empty prefix.

        Raises:
            RequestError: `run.not_found`, or `run.conflict` when several begin so.
        """
        rows = self.journal.find_runs(self.project, prefix, 6)
        if not rows:
            raise _not_found(prefix)
        if prefix and len(rows) > 1 and all(row.run_id != prefix for row in rows):
            ids = ", ".join(row.run_id for row in rows[:5])
            raise RequestError(
                "run.conflict",
                f"Several runs begin with {prefix}: {ids}. Give more of the id.",
                details={"run_ids": [row.run_id for row in rows]},
            )
        return prefix if any(row.run_id == prefix for row in rows) else rows[0].run_id

    def get(self, run_id: str) -> Snapshot:
        """The run as it is now, whoever owns it."""
        run = self._runner.active.get(run_id)
        if run is not None:
            state, status = run.state, self._status(run.state, is_driven=True)
        else:
            state, status = self._observe(run_id)
        return Snapshot(state, status, {}, self._waits_for(state, status))

    def _is_driven(self, run_id: str) -> bool:
        """Whether some process drives the run: a lease of this one alone does not say so.

        It may have let the run go when the journal could not be written.
        """
        if run_id in self._runner.active:
            return True
        return self.journal.has_live_owner(run_id, besides=self._owner)

    def _observe(self, run_id: str, known: RunState | None = None) -> tuple[RunState, str]:
        """The run as the journal has it, and its status: the fold, and whether it is driven.

        The lease is read first: an owner gives it back together with its last events, so that
        a run without an owner has no events still to come.
        """
        is_driven = self._is_driven(run_id)
        if known is None:
            state = self.load(run_id)
        else:
            state = known
            for event in self.journal.load(run_id, after=state.seq):
                apply(state, event)
        return state, self._status(state, is_driven=is_driven)

    async def follow(
        self, run_id: str, listener: Listener | None, wait_s: float | None
    ) -> Snapshot:
        """The run once it has ended, waits or was interrupted, or as it is after `wait_s`."""
        run = self._runner.active.get(run_id)
        if run is not None:
            _listen(run, listener)
            return await self._until_parked(run, listener, wait_s)
        state, status = self._observe(run_id)
        version = -1
        try:
            async with asyncio.timeout(wait_s):
                while status in ("running", "pending"):
                    await asyncio.sleep(INBOX_POLL_S)
                    now = self.journal.data_version()
                    if now == version and self._is_driven(run_id):
                        continue
                    version, seen = now, state.seq
                    _, status = self._observe(run_id, state)
                    self._tell(listener, state, seen)
        except TimeoutError:
            pass
        return Snapshot(state, status, self._open_tokens(state), self._waits_for(state, status))

    def _tell(self, listener: Listener | None, state: RunState, seen: int) -> None:
        """Tell the listener of the events after `seen`."""
        if listener is None:
            return
        how_far = Progress(state.settled, len(state.steps))
        for event in self.journal.load(state.run_id, after=seen):
            if event.seq <= state.seq:
                listener.on_event(state, event, how_far)

    async def resume(
        self, run_id: str, asker: Asker, listener: Listener | None, wait_s: float | None
    ) -> Snapshot:
        """Continue an interrupted run; a run that waits, runs or has ended is only looked at.

        A run that waits although its gate was answered, because whoever was asked died before the
        answer was folded, goes on too.
        """
        if run_id not in self._runner.active:
            status = self.get(run_id).status
            answered = status == "waiting" and self.journal.has_requests(run_id, 0)
            if status == "interrupted" or answered:
                self._adopt_if_free(run_id, asker, listener)
        return await self.follow(run_id, listener, wait_s)

    async def reopen(
        self,
        run_id: str,
        from_step: str,
        asker: Asker,
        listener: Listener | None,
        wait_s: float | None,
    ) -> Snapshot:
        """Continue a failed run from a step that did not succeed, then follow it.

        Raises:
            RequestError: `run.not_resumable`: the run has not failed; `run.conflict`: the step
                succeeded, or there is none of that name.
        """
        state = self.load(run_id)
        if state.ended != "failed":
            raise RequestError(
                "run.not_resumable",
                f"Run {run_id} is {_folded_status(state)}; only a failed run is reopened.",
            )
        step = state.steps.get(from_step)
        if step is None or step.status == "succeeded":
            what = "succeeded, and stays" if step is not None else "is none of the run's"
            failed = ", ".join(s.path for s in state.steps.values() if s.status == "failed")
            raise RequestError(
                "run.conflict",
                f"Step {from_step[:80]} {what}. What failed: {failed or 'nothing'}.",
            )
        self._adopt(run_id, asker, listener, RunReopened(from_step))
        return await self.follow(run_id, listener, wait_s)

    def _adopt(
        self,
        run_id: str,
        asker: Asker,
        listener: Listener | None,
        then: RunReopened | None = None,
    ) -> None:
        """Take the run's lease and drive it.

        Raises:
            RequestError: `run.conflict`: somebody else drives it, or has just brought it to its
                end.
        """
        if self._is_stopping:
            raise RequestError("run.conflict", "The agent is stopping; ask again.", retryable=True)
        with self.journal.transaction(durable=True):
            epoch = self.journal.acquire(run_id, self._owner)
            state = fold(run_id, self.journal.load(run_id))
            # Whoever was asked looked before it had the lease: the end may have come in between.
            if state.ended != (None if then is None else "failed"):
                raise RequestError(
                    "run.conflict",
                    f"Run {run_id} has just been brought to its end elsewhere: "
                    f"it is {_folded_status(state)}.",
                )
            body = LeaseTaken(self._owner.to_text(), epoch)
            if then is not None:
                self._join_group(state.plan, run_id)
            at, line = max(now_ms(), state.last_ms), state.correlation_id
            events = [_event(state.seq + 1, at, body, asker, asker.request_id, line)]
            if then is not None:
                events.append(_event(state.seq + 2, at, then, asker, asker.request_id, line))
            self.journal.append(run_id, epoch, events)
        for event in events:
            apply(state, event)
        run = ActiveRun(state, epoch, asker, self._tokens.setdefault(run_id, {}))
        _listen(run, listener)
        self._runner.adopt(run)

    # Decisions and cancels

    async def decide(
        self, run_id: str, request: Decide, asker: Asker, listener: Listener | None,
        wait_s: float | None, decider: Asker | None = None,
    ) -> Snapshot:  # fmt: skip
        """Resolve a gate, then follow the run as `resume` does.

        Args:
            run_id: The run.
            request: The decision.
            asker: Who calls, and goes on with the run.
            listener: Hears of the run's events.
            wait_s: How long to follow it; None: without limit.
            decider: Whose decision it is, when that is not the asker.

        Raises:
            RequestError: `gate.*`, or `run.conflict` when it was decided otherwise.
        """
        state = self._current(run_id)
        if requests.check_decision(state, request, now_ms()) is not None:
            body = requests.decide_body(request, decider or asker)
            await self._ask_owner(
                run_id, "decide", body, asker,
                lambda now: _is_decided(now, request.gate_id), listener,
            )  # fmt: skip
            # Two may have decided at once: the first one holds, and this one is told.
            requests.check_decision(self._current(run_id), request, now_ms())
            return await self.resume(run_id, asker, listener, wait_s)
        snapshot = await self.resume(run_id, asker, listener, wait_s)
        return replace(snapshot, note=_DECIDED_BEFORE)

    async def cancel(self, run_id: str, reason: str | None, asker: Asker) -> tuple[bool, str]:
        """Whether the cancel was accepted, and the run's status then.

        It is accepted unless the run has ended; a run that nobody drives is ended by this process.
        """
        state = self._current(run_id)
        if state.is_terminal:
            return False, _folded_status(state)
        seen = state.cancels
        body = requests.cancel_body(reason, asker)
        await self._ask_owner(run_id, "cancel", body, asker, lambda now: now.cancels > seen)
        return True, self.get(run_id).status

    async def reissue(self, run_id: str, asker: Asker) -> Snapshot:
        """The run with new tokens for its open gates; the old ones are void."""
        state = self._current(run_id)
        issued: dict[str, str] = {}
        expires = now_ms() + TOKEN_LIFE_S * 1000
        for gate in state.open_gates:
            token, token_hash = tokens.new_token(gate.gate_id)
            issued[gate.gate_id] = token
            body = requests.reissue_body(gate.gate_id, token, expires, asker)
            await self._ask_owner(
                run_id, "reissue", body, asker,
                partial(_has_token, gate_id=gate.gate_id, token_hash=token_hash),
            )  # fmt: skip
        self._tokens.setdefault(run_id, {}).update(issued)
        now = self.get(run_id)
        return Snapshot(now.state, now.status, issued)

    def _current(self, run_id: str) -> RunState:
        run = self._runner.active.get(run_id)
        return run.state if run is not None else self.load(run_id)

    async def _ask_owner(
        self, run_id: str, kind: str, body: dict[str, Json], asker: Asker,
        is_done: Callable[[RunState], bool], listener: Listener | None = None,
    ) -> None:  # fmt: skip
        """Leave a request where the run's owner finds it, and wait until it was answered.

        This process becomes the owner when there is none. Returns too when the run has ended.
        """
        with self.journal.transaction(durable=True):
            self.journal.post(run_id, kind, body)
        run = self._runner.active.get(run_id)
        if run is not None:
            _listen(run, listener)
            self._runner.look_into_inbox(run)
        while True:
            run = self._runner.active.get(run_id)
            if run is not None:
                if is_done(run.state) and not run.pending:
                    return
                await self._runner.turned(run)
                if run.error is not None:
                    raise run.error
                continue
            state = self.load(run_id)
            if state.is_terminal:
                with self.journal.transaction():
                    self.journal.clear_inbox(run_id, EVERY_REQUEST)
                return
            if is_done(state):
                return
            if not self._adopt_if_free(run_id, asker, listener):
                await asyncio.sleep(INBOX_POLL_S)

    def _adopt_if_free(self, run_id: str, asker: Asker, listener: Listener | None) -> bool:
        if self._is_driven(run_id):
            return False
        try:
            self._adopt(run_id, asker, listener)
        except RequestError as error:
            if error.code != "run.conflict" or self._is_stopping:
                raise
            return False
        return True


_DECIDED_BEFORE = "The gate was decided so before; this changed nothing."


def _listen(run: ActiveRun, listener: Listener | None) -> None:
    if listener is not None and listener not in run.listeners:
        run.listeners.append(listener)


def _has_token(state: RunState, *, gate_id: str, token_hash: str) -> bool:
    gate = state.gates[gate_id]
    return gate.token_hash == token_hash or gate.decision is not None


def _is_decided(state: RunState, gate_id: str) -> bool:
    gate = state.gates.get(gate_id)
    return gate is None or gate.decision is not None


def _folded_status(state: RunState) -> str:
    if state.ended is not None:
        return state.ended
    return "waiting" if state.is_waiting else "running"


def _event(
    seq: int, at: int, body: RunCreated | LeaseTaken | RunReopened, asker: Asker, cause: str | None,
    correlation_id: str | None = None,
) -> Event:  # fmt: skip
    return Event(
        seq=seq,
        at_ms=at,
        body=body,
        event_id=new_id(),
        request_id=asker.request_id,
        correlation_id=correlation_id or asker.correlation_id,
        causation_id=cause,
        actor_type=asker.actor_type,
        actor_id=asker.actor_id,
    )


def _pruned(run_id: str) -> FleetPromptError:
    return RequestError(
        "run.pruned",
        f"The idempotency key belongs to run {run_id}, whose record has been removed; the key is "
        "kept so that nothing is done twice. Use a new key to run it again.",
        details={"run_id": run_id},
    )


def _not_found(run_id: str) -> FleetPromptError:
    shown = run_id or "at all"
    return RequestError(
        "run.not_found",
        f"There is no run {shown} in this project. `fleetprompt runs` lists them.",
    )
