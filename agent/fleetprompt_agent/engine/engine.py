"""The engine as its callers see it: start, resume, decide, cancel, look at a run.

A run is driven by the process that holds its lease. Whatever this process does not own it follows
in the journal, so that every call works the same whoever owns the run.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from fleetprompt_agent.engine import requests, tokens
from fleetprompt_agent.engine.active import ActiveRun, Progress, now_ms
from fleetprompt_agent.engine.core.events import RunReopened
from fleetprompt_agent.engine.custody import Custody
from fleetprompt_agent.engine.groups import ConcurrencyGroups
from fleetprompt_agent.engine.heartbeat import INBOX_POLL_S
from fleetprompt_agent.engine.journal_port import EVERY_REQUEST
from fleetprompt_agent.engine.runner import Runner
from fleetprompt_agent.engine.snapshots import Snapshots, folded_status
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_agent.engine.active import Listener
    from fleetprompt_agent.engine.core.events import Json
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.engine.custody import Held, NewRun
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.engine.owner import Owner
    from fleetprompt_agent.engine.requests import Asker, Decide
    from fleetprompt_agent.engine.snapshots import Snapshot
    from fleetprompt_agent.steps.artifacts import ArtifactStore
    from fleetprompt_agent.steps.contract import StepRunner

HELD_UP_POLL_S = 1.0
"""A queued run looks so often whether somebody still drives the one before it."""
TOKEN_LIFE_S = 7 * 86_400
"""Of a token that was issued again (engine.md §3, Clocks)."""


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
        self.artifacts = artifacts
        groups = ConcurrencyGroups(journal, project)
        self._runner = Runner(journal, groups, step_runners, may_run, artifacts)
        self._snapshots = Snapshots(journal, project, owner, self._runner.active, groups)
        self._custody = Custody(journal, project, owner, groups, self._snapshots.status_of)
        self._is_stopping = False
        self._cancels: set[asyncio.Task[tuple[bool, str]]] = set()
        self._tokens = tokens.IssuedTokens()

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

    # Looking

    def find(self, prefix: str) -> str:
        """See `Snapshots.find`."""
        return self._snapshots.find(prefix)

    def load(self, run_id: str) -> RunState:
        """See `Snapshots.load`."""
        return self._snapshots.load(run_id)

    def get(self, run_id: str) -> Snapshot:
        """The run as it is now, whoever drives it; raises as `load` does."""
        return self._snapshots.get(run_id)

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
        held = self._custody.create(new, asker)
        if isinstance(held, str):
            on_created(held)
            return await self.follow(held, listener, wait_s)
        on_created(held.state.run_id)
        if new.plan.concurrency is not None:  # nothing else may be heard of it for long
            self._tell(listener, held.state, 0)
        run = self._drive(held, asker, listener)
        return await self._until_parked(run, listener, wait_s)

    def _drive(self, held: Held, asker: Asker, listener: Listener | None) -> ActiveRun:
        for other in held.replaces:
            why = f"replaced by run {held.state.run_id}"
            task = asyncio.ensure_future(self.cancel(other, why, asker))
            self._cancels.add(task)
            task.add_done_callback(self._cancels.discard)
        run = ActiveRun(held.state, held.epoch, asker, self._tokens.of(held.state.run_id))
        run.listen(listener)
        self._runner.adopt(run)
        return run

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
        return self._snapshots.of_active(run, self._tokens.open(run.state))

    async def _is_parked_or_held_up(self, run: ActiveRun) -> bool:
        """Wait for the run; false when it is time to look again at what it waits for.

        A run whose turn cannot come, because nobody drives the one before it, is told of at once.
        """
        if run.state.plan.concurrency is None:
            return await run.parked.wait()
        if self._snapshots.is_held_up(run.state):
            return True
        try:
            async with asyncio.timeout(HELD_UP_POLL_S):
                return await run.parked.wait()
        except TimeoutError:
            return False

    async def follow(
        self, run_id: str, listener: Listener | None, wait_s: float | None
    ) -> Snapshot:
        """The run once it has ended, waits or was interrupted, or as it is after `wait_s`."""
        run = self._runner.active.get(run_id)
        if run is not None:
            run.listen(listener)
            return await self._until_parked(run, listener, wait_s)
        state, status = self._snapshots.read(run_id)
        version = -1
        try:
            async with asyncio.timeout(wait_s):
                while status in ("running", "pending"):
                    await asyncio.sleep(INBOX_POLL_S)
                    now = self.journal.data_version()
                    if now == version and self._snapshots.is_driven(run_id):
                        continue
                    version, seen = now, state.seq
                    _, status = self._snapshots.read(run_id, state)
                    self._tell(listener, state, seen)
        except TimeoutError:
            pass
        return self._snapshots.of(state, status, self._tokens.open(state))

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
                f"Run {run_id} is {folded_status(state)}; only a failed run is reopened.",
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
        reopened: RunReopened | None = None,
    ) -> None:
        """Take the run over and drive it; raises as `Custody.take_over` does."""
        if self._is_stopping:
            raise RequestError("run.conflict", "The agent is stopping; ask again.", retryable=True)
        self._drive(self._custody.take_over(run_id, asker, reopened), asker, listener)

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
        state = self._snapshots.state(run_id)
        if requests.check_decision(state, request, now_ms()) is not None:
            body = requests.decide_body(request, decider or asker)
            await self._ask_owner(run_id, "decide", body, asker, listener)
            # Two may have decided at once, or the token was replaced: this one is told.
            requests.check_decision(self._snapshots.state(run_id), request, now_ms())
            return await self.resume(run_id, asker, listener, wait_s)
        snapshot = await self.resume(run_id, asker, listener, wait_s)
        return replace(snapshot, note=_DECIDED_BEFORE)

    async def cancel(self, run_id: str, reason: str | None, asker: Asker) -> tuple[bool, str]:
        """Whether the cancel was accepted, and the run's status then.

        It is accepted unless the run has ended; a run that nobody drives is ended by this process.
        """
        state = self._snapshots.state(run_id)
        if state.is_terminal:
            return False, folded_status(state)
        await self._ask_owner(run_id, "cancel", requests.cancel_body(reason, asker), asker)
        return True, self.get(run_id).status

    async def reissue(self, run_id: str, asker: Asker) -> Snapshot:
        """The run with new tokens for its open gates; the old ones are void.

        Of two who ask at once the last one has the tokens; to the other none is shown.
        """
        made: dict[str, str] = {}
        expires = now_ms() + TOKEN_LIFE_S * 1000
        for gate in self._snapshots.state(run_id).open_gates:
            made[gate.gate_id], _ = tokens.new_token(gate.gate_id)
            body = requests.reissue_body(gate.gate_id, made[gate.gate_id], expires, asker)
            await self._ask_owner(run_id, "reissue", body, asker)
        now = self.get(run_id)
        issued = {
            gate.gate_id: made[gate.gate_id]
            for gate in now.state.open_gates
            if tokens.matches(made.get(gate.gate_id, ""), gate.token_hash)
        }
        self._tokens.of(run_id).update(issued)
        return replace(now, tokens=issued)

    async def _ask_owner(
        self, run_id: str, kind: str, body: dict[str, Json], asker: Asker,
        listener: Listener | None = None,
    ) -> None:  # fmt: skip
        """Leave a request where the run's owner finds it, and wait until the owner has read it.

        What became of it, the run's state says: it may have come too late. This process becomes the
        owner when there is none.
        """
        with self.journal.transaction(durable=True):
            request_id = self.journal.post(run_id, kind, body)
        run = self._runner.active.get(run_id)
        if run is not None:
            run.listen(listener)
            self._runner.look_into_inbox(run)
        while any(item.id == request_id for item in self.journal.read_inbox(run_id)):
            run = self._runner.active.get(run_id)
            if run is not None:
                await self._runner.turned(run)
                if run.error is not None:
                    raise run.error
            elif self.load(run_id).is_terminal:
                with self.journal.transaction():
                    self.journal.clear_inbox(run_id, EVERY_REQUEST)
            elif not self._adopt_if_free(run_id, asker, listener):
                await asyncio.sleep(INBOX_POLL_S)

    def _adopt_if_free(self, run_id: str, asker: Asker, listener: Listener | None) -> bool:
        if self._snapshots.is_driven(run_id):
            return False
        try:
            self._adopt(run_id, asker, listener)
        except RequestError as error:
            if error.code != "run.conflict" or self._is_stopping:
                raise
            return False
        return True


_DECIDED_BEFORE = "The gate was decided so before; this changed nothing."
