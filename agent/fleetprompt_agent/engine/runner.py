"""The runner: performs what the core decides, and journals what comes of it.

Theory of operation. One *turn* handles every run that has something new. It folds what arrived,
asks the core, folds what follows from that, and so on until only waiting is left; then all events
of the turn are committed in one transaction; only then do steps act and listeners hear. So a
`step.started` is durable before the act, and an outcome before it is streamed or used. If the
commit fails, the runs of the turn are let go: their memory is ahead of the journal and worthless,
and whoever resumes them continues from what is durable.
"""

from __future__ import annotations

import asyncio
import random
from itertools import islice
from typing import TYPE_CHECKING, assert_never

from fleetprompt_agent.engine import requests, tokens
from fleetprompt_agent.engine.active import ActiveRun, Arrived, Progress, now_ms, running_tasks
from fleetprompt_agent.engine.attempts import Attempts, digest_of
from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.core.apply import apply
from fleetprompt_agent.engine.core.commands import (
    CancelStep,
    Command,
    OpenGate,
    ScheduleRetry,
    Settle,
    StartStep,
)
from fleetprompt_agent.engine.core.decide import decide
from fleetprompt_agent.engine.core.events import (
    Event,
    GateOpened,
    GateResolved,
    GateTokenIssued,
    LeaseTaken,
    RunCanceled,
    RunCancelRequested,
    RunCreated,
    RunFailed,
    RunReopened,
    RunSucceeded,
    StepCanceled,
    StepFailed,
    StepLateResult,
    StepRetryScheduled,
    StepStarted,
    StepSucceeded,
    StepUnknown,
)
from fleetprompt_agent.engine.core.outcomes import AttemptEnd, judge
from fleetprompt_agent.engine.core.schedule import FINALLY_S
from fleetprompt_agent.engine.journal_port import EVERY_REQUEST
from fleetprompt_protocol.errors import FleetPromptError, JournalError
from fleetprompt_protocol.ids import new_id
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_agent.engine.active import Listener
    from fleetprompt_agent.engine.core.events import Body
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.engine.requests import Asker
    from fleetprompt_agent.steps.artifacts import ArtifactStore
    from fleetprompt_agent.steps.contract import StepRequest, StepRunner

log = get_logger("engine")

EVENTS_PER_TURN = 256
"""A run yields the loop after so many events: a long chain of instant steps starves none."""
SLOTS = 64
"""Steps that act at once in this process, whatever its runs allow (engine.md §3, Slots)."""
INBOX_POLL_S = 0.05
"""Requests of other processes are folded in within 100 ms (engine.md §4)."""
STOP_LIMIT_S = 4.0
"""For every step to stop when the agent ends; it exits within 5 s (protocol.md §1)."""

_DURABLE: frozenset[type[Body]] = frozenset((
    RunCreated, RunSucceeded, RunFailed, RunCanceled, RunCancelRequested, RunReopened,
    GateOpened, GateTokenIssued, GateResolved, LeaseTaken, StepUnknown,
))  # fmt: skip
"""Events that must survive a power loss."""
_DURABLE_IF_ACTING: frozenset[type[Body]] = frozenset((StepStarted, StepSucceeded, StepFailed))
"""These too, of a step with side effects."""


class Runner:
    """Drives the runs that this process owns.

    Args:
        journal: Where every event goes.
        step_runners: By namespace.
        may_run: Whether whoever listens can keep up; runs pause at their next event while not.
        artifacts: Where the files that steps make are kept.
    """

    def __init__(
        self,
        journal: JournalPort,
        step_runners: Mapping[str, StepRunner],
        may_run: Callable[[], bool] = lambda: True,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        self._journal = journal
        self._attempts = Attempts(step_runners, artifacts)
        self._may_run = may_run
        self._loop = asyncio.get_running_loop()
        self._dirty: dict[str, ActiveRun] = {}
        self._turn_due = False
        self._acting = 0
        """Number of tasks that perform a step, and of steps of this turn that will get one."""
        self._starved: dict[str, ActiveRun] = {}
        """Runs with a step that no slot is free for."""
        self._stopping = False
        self._inbox_timer: asyncio.TimerHandle | None = None
        self._renew_timer: asyncio.TimerHandle | None = None
        self._data_version = -1
        self.active: dict[str, ActiveRun] = {}
        self.observers: list[Listener] = []
        """Hear of every run of this process, before its own listeners do."""

    def adopt(self, run: ActiveRun) -> None:
        """Drive a run whose lease this process has just taken."""
        self.active[run.run_id] = run
        self.wake(run)
        if self._inbox_timer is None:
            self._inbox_timer = self._loop.call_later(INBOX_POLL_S, self._look_into_inbox)
            self._renew_timer = self._loop.call_later(self._journal.lease_s / 4, self._renew)

    def wake(self, run: ActiveRun) -> None:
        """Look at the run in the next turn."""
        self._dirty[run.run_id] = run
        self.wake_all()

    def wake_all(self) -> None:
        """Take the next turn soon: something can go on."""
        if self._dirty and not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    async def stop(self) -> None:
        """Interrupt what runs, journal it, give the leases back. Runs stay resumable."""
        self._stopping = True
        for timer in (self._inbox_timer, self._renew_timer):
            if timer is not None:
                timer.cancel()
        runs = list(self.active.values())
        for run in runs:
            for path, task in run.tasks.items():
                run.stopped.setdefault(path, "interrupt")
                task.cancel()
        tasks = running_tasks(runs)
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_LIMIT_S)
        for run in runs:
            for path in [path for path, task in run.tasks.items() if task.done()]:
                # Cancelled before it had begun: nobody has told how it ended.
                del run.tasks[path]
                self._acting -= 1
                end = AttemptEnd(False, {}, None, "none", 0.0, stopped="interrupt")
                run.arrived.append(Arrived(path, run.state.steps[path].attempt, end))
            self._dirty[run.run_id] = run
        self._turn()

    # One turn

    def _turn(self) -> None:
        self._turn_due = False
        if not self._may_run() and not self._stopping:
            return
        self._feed_starved()
        runs, self._dirty = [run for run in self._dirty.values() if run.error is None], {}
        for run in runs:
            try:
                self._pump(run)
            except FleetPromptError as error:
                self._let_go(run, error)
            except Exception as error:
                log.error("run.not_folded", run_id=run.run_id, exc_info=error)
                self._let_go(run, _internal(run, error))
        self._commit([run for run in runs if run.error is None])
        for run in runs:
            if run.error is None:
                self._after_commit(run)
            run.turned.set()
        if self._starved and self._acting < SLOTS:
            self._feed_starved()
            self.wake_all()

    def _feed_starved(self) -> None:
        """Look again at as many of the runs that wait for a slot as there are free ones."""
        for run_id in list(islice(self._starved, max(0, SLOTS - self._acting))):
            self._dirty[run_id] = self._starved.pop(run_id)

    async def turned(self, run: ActiveRun) -> None:
        """Wait until the run has been through a turn, or was let go."""
        if run.parked.is_set():
            return
        run.turned.clear()
        await run.turned.wait()

    def _pump(self, run: ActiveRun) -> None:
        """Fold what arrived and what follows from it."""
        state = run.state
        arrived, run.arrived = run.arrived, []
        for item in arrived:
            self._fold_arrived(run, item)
        wanted, run.wanted = run.wanted, []
        for body in wanted:
            if state.ended is None:
                self._emit(run, body)
        if not run.inbox_checked:
            run.inbox_checked = True
            for request in self._journal.read_inbox(run.run_id):
                run.inbox_seen = request.id
                answer = requests.answer(state, request, now_ms())
                if answer is not None:
                    self._emit(run, answer, requests.asker_of(request))
        if self._stopping or (not state.cancels and self.waits_for(state) is not None):
            return
        progress = True
        while progress and len(run.pending) < EVENTS_PER_TURN:
            progress = False
            for command in decide(state):
                progress |= self._perform(run, command)
        if progress:
            self.wake(run)

    def waits_for(self, state: RunState) -> str | None:
        """The run of the same concurrency group that has to end first, or None."""
        group = state.plan.concurrency
        if group is None or state.is_terminal:
            return None
        members = self._journal.group_members(state.root, group.group)
        return members[0] if members and members[0] != state.run_id else None

    def _wake_queued(self) -> None:
        for run in self.active.values():
            if run.state.plan.concurrency is not None and not run.tasks:
                self.wake(run)

    def _fold_arrived(self, run: ActiveRun, item: Arrived) -> None:
        step = run.state.steps[item.step_path]
        if step.status == "running" and step.attempt == item.attempt and not run.state.is_terminal:
            now = run.now_ms() if step.deadline_ms is not None else 0
            self._emit(run, judge(run.state, step, item.end, now))
        elif step.is_settled:
            self._emit(
                run,
                StepLateResult(item.step_path, item.attempt, item.end.ok, item.end.error),
            )

    def _emit(
        self,
        run: ActiveRun,
        body: Body,
        asker: Asker | None = None,
        event_id: str | None = None,
    ) -> None:
        state = run.state
        path: str | None = getattr(body, "step_path", None)
        step = state.steps.get(path) if path is not None else None
        cause = state.cause_event_id
        actor_type, actor_id = "system", None
        if asker is not None:
            cause = asker.causation_id or asker.request_id
            actor_type, actor_id = asker.actor_type, asker.actor_id
        elif step is not None and step.started_event_id and not isinstance(body, StepStarted):
            cause = step.started_event_id
        event = Event(
            state.seq + 1, run.take_ms(), body, event_id or new_id(),
            (asker or run.asker).request_id, state.correlation_id, cause, actor_type, actor_id,
        )  # fmt: skip
        apply(state, event)
        run.pending.append(event)
        if not run.must_survive:
            run.must_survive = type(body) in _DURABLE or (
                step is not None
                and type(body) in _DURABLE_IF_ACTING
                and state.acts(step.step)
                and not step.is_composite
            )
        if run.listeners or self.observers:
            run.progress.append(Progress(state.settled, len(state.steps)))

    # Commands

    def _perform(self, run: ActiveRun, command: Command) -> bool:
        """Whether the state has changed. A command that an earlier one made void is passed over."""
        state = run.state
        match command:
            case Settle(body):
                if not _is_due(state, body):
                    return False
                self._emit(run, body)
                return True
            case StartStep():
                return command.step_path in state.startable and self._start(run, command)
            case OpenGate():
                return self._open_gate(run, command)
            case ScheduleRetry():
                if command.step_path not in state.startable:
                    return False
                spread = 1 + command.jitter * random.uniform(-1, 1)  # noqa: S311 (not a secret)
                due = run.now_ms() + round(command.delay_s * spread * 1000)
                self._emit(run, StepRetryScheduled(command.step_path, command.attempt, due))
                return True
            case CancelStep():
                return self._cancel_step(run, command.step_path)
            case _:
                assert_never(command)

    def _start(self, run: ActiveRun, command: StartStep) -> bool:
        state, step = run.state, run.state.steps[command.step_path]
        now = run.now_ms()
        if command.not_before_ms > now:
            self._wake_at(run, command.not_before_ms - now)
            return False
        key = f"{run.run_id}/{step.path}"
        if step.is_composite:
            self._emit(run, StepStarted(step.path, command.attempt, key))
            return True
        is_instant = self._attempts.is_instant(step.step.namespace)
        if self._acting >= SLOTS and not is_instant:
            self._starved[run.run_id] = run
            return False
        deadline = step.deadline_ms
        if deadline is None and step.step.total_timeout_s is not None:
            deadline = now + round(step.step.total_timeout_s * 1000)
        try:
            event_id = new_id()
            request = self._attempts.request(state, step, command.attempt, event_id)
            changed = self._attempts.changed_since_approval(request, step)
        except rendering.RenderError as error:
            self._emit(run, StepFailed(step.path, step.attempt, error.to_data()))
            return True
        except FleetPromptError as error:
            self._emit(run, StepFailed(step.path, step.attempt, error.to_data()))
            return True
        if changed is not None:
            approval = step.step.approval
            prompt = approval.prompt if approval is not None else None
            self._ask(run, OpenGate("approval", step.path, changed, prompt), changed)
            return True
        shown = self._attempts.shown(request)
        self._emit(
            run,
            StepStarted(step.path, command.attempt, key, shown, digest_of(shown), deadline),
            event_id=event_id,
        )
        if is_instant:
            self._emit(run, judge(state, step, self._attempts.perform_at_once(request), now))
        else:
            self._acting += 1
            run.to_launch.append((request, self._attempts.limit_s(step, now)))
        return True

    def _wake_at(self, run: ActiveRun, in_ms: int) -> None:
        if run.retry_timer is not None:
            run.retry_timer.cancel()
        run.retry_timer = self._loop.call_later(in_ms / 1000, self.wake, run)

    def _open_gate(self, run: ActiveRun, command: OpenGate) -> bool:
        state = run.state
        if command.step_path is None:
            if not state.held or state.effects_gate is not None:
                return False
        elif command.step_path not in state.to_gate:
            return False
        action = command.action
        step = state.steps[command.step_path] if command.step_path is not None else None
        if step is not None and command.kind == "approval" and step.step.kind == "action":
            try:
                action = self._attempts.resolved(state, step, command)
            except (FleetPromptError, rendering.RenderError) as error:
                self._emit(run, StepFailed(step.path, step.attempt, error.to_data()))
                return True
        self._ask(run, command, action)
        return True

    def _ask(self, run: ActiveRun, command: OpenGate, action: dict[str, object]) -> None:
        gate_id = f"{run.run_id}.g{len(run.state.gates) + 1}"
        token, token_hash = tokens.new_token(gate_id)
        run.tokens[gate_id] = token
        expires = run.now_ms() + round(command.expires_s * 1000)
        self._emit(
            run,
            GateOpened(
                gate_id, command.kind, action, digest_of(action), token_hash, expires,
                command.step_path, command.prompt, command.preview, command.items,
                command.response_schema,
            ),
        )  # fmt: skip

    def _cancel_step(self, run: ActiveRun, path: str) -> bool:
        step = run.state.running.get(path)
        if step is None:
            return False
        task = run.tasks.get(path)
        if task is not None and not task.done():
            if path not in run.stopped:
                run.stopped[path] = "timeout" if run.state.timed_out else "cancel"
                task.cancel()
            return False
        if any(item.step_path == path for item in run.arrived):
            return False
        # Journaled as started in this very turn, or never launched: it has done nothing.
        kept = [item for item in run.to_launch if item[0].step_path != path]
        self._acting -= len(run.to_launch) - len(kept)
        run.to_launch = kept
        self._emit(run, StepCanceled(path, step.attempt))
        return True

    # Commit, and what may happen only after it

    def _commit(self, runs: list[ActiveRun]) -> None:
        writing = [run for run in runs if run.pending or self._is_parking(run)]
        if not writing:
            return
        try:
            with self._journal.transaction(durable=any(run.must_survive for run in writing)):
                for run in writing:
                    self._write(run)
        except JournalError as error:
            log.error("journal.not_written", code=error.code, message=error.message)
            for run in writing:
                self._let_go(run, error)

    def _write(self, run: ActiveRun) -> None:
        try:
            # Refused before anything of this run is written: the others of the turn are not harmed.
            self._journal.append(run.run_id, run.epoch, run.pending)
        except JournalError as error:
            if error.code != "journal.fenced":
                raise
            self._let_go(run, error)
            return
        if run.state.is_terminal:
            # Whatever else was asked comes too late.
            self._journal.clear_inbox(run.run_id, EVERY_REQUEST)
        elif run.inbox_seen > run.inbox_cleared:
            self._journal.clear_inbox(run.run_id, run.inbox_seen)
            run.inbox_cleared = run.inbox_seen
        if self._is_parking(run):
            if not run.state.is_terminal and self._journal.has_requests(run.run_id, run.inbox_seen):
                run.inbox_checked = False
                self.wake(run)
            else:
                self._journal.release(run.run_id, run.epoch)
                if run.state.is_terminal and run.state.plan.concurrency is not None:
                    self._journal.leave_group(run.run_id)
                run.parked.set()

    def _is_parking(self, run: ActiveRun) -> bool:
        """Whether this process has nothing left to do for the run."""
        if run.tasks or run.to_launch or run.arrived or run.parked.is_set():
            return False
        return self._stopping or run.state.is_terminal or run.state.is_waiting

    def _after_commit(self, run: ActiveRun) -> None:
        events, run.pending = run.pending, []
        progress, run.progress = run.progress, []
        run.must_survive = False
        if progress:
            for event, how_far in zip(events, progress, strict=True):
                for listener in (*self.observers, *run.listeners):
                    listener.on_event(run.state, event, how_far)
        launch, run.to_launch = run.to_launch, []
        for request, limit_s in launch:
            run.tasks[request.step_path] = self._loop.create_task(self._act(run, request, limit_s))
        if run.parked.is_set():
            self._forget(run)
            self._wake_queued()
        else:
            self._watch_deadline(run)

    async def _act(self, run: ActiveRun, request: StepRequest, limit_s: float | None) -> None:
        path = request.step_path

        def on_output(channel: str, text: str) -> None:
            for listener in list(run.listeners):
                listener.on_output(path, channel, text)

        end = await self._attempts.perform(
            request, limit_s, on_output, lambda: run.stopped.get(path, "interrupt")
        )
        run.stopped.pop(path, None)
        run.tasks.pop(path, None)
        run.arrived.append(Arrived(path, request.attempt, end))
        self._acting -= 1
        if self._acting or self._turn_due:
            self.wake(run)
            return
        # Nothing else is under way that the turn could be shared with.
        self._dirty[run.run_id] = run
        self._turn()

    def _watch_deadline(self, run: ActiveRun) -> None:
        """The run's own clock: it stops while the run waits."""
        state = run.state
        if state.root_scope.phase == "finally" and run.finally_timer is None:
            run.finally_timer = self._loop.call_later(FINALLY_S, self._finally_over, run)
        limit_s = run.limit_s
        if limit_s is None or state.cancels or run.deadline_timer is not None:
            return
        left_s = limit_s - run.state.active_ms / 1000
        run.deadline_timer = self._loop.call_later(max(0.0, left_s), self._deadline, run)

    def _deadline(self, run: ActiveRun) -> None:
        run.deadline_timer = None
        state = run.state
        limit_s = run.limit_s
        if limit_s is None or state.is_terminal or state.cancels or run.parked.is_set():
            return
        idle_ms = run.now_ms() - state.last_ms if state.running or state.startable else 0
        if state.active_ms + idle_ms >= limit_s * 1000 - 1:
            run.wanted.append(RunCancelRequested("timeout", timed_out=True))
            self.wake(run)
        else:
            self._watch_deadline(run)

    def _finally_over(self, run: ActiveRun) -> None:
        if not run.state.is_terminal and not run.parked.is_set():
            run.wanted.append(RunCancelRequested("finally", timed_out=True, ends_finally=True))
            self.wake(run)

    # Losing and leaving runs

    def _let_go(self, run: ActiveRun, error: FleetPromptError) -> None:
        """This process no longer knows the run's truth: stop its steps, tell its callers."""
        if run.error is not None:
            return
        run.error = error
        run.pending.clear()
        run.progress.clear()
        self._acting -= len(run.to_launch)
        run.to_launch.clear()
        for path, task in run.tasks.items():
            run.stopped.setdefault(path, "interrupt")
            # One that was made just now begins first: it has to tell that it has ended.
            self._loop.call_soon(task.cancel)
        run.parked.set()
        run.turned.set()
        self._forget(run)

    def _forget(self, run: ActiveRun) -> None:
        run.cancel_timers()
        self._dirty.pop(run.run_id, None)
        self._starved.pop(run.run_id, None)
        if self.active.get(run.run_id) is run:
            del self.active[run.run_id]

    # Timers

    def _look_into_inbox(self) -> None:
        if not self.active:
            self._inbox_timer = None
            if self._renew_timer is not None:
                self._renew_timer.cancel()
                self._renew_timer = None
            return
        try:
            version = self._journal.data_version()
            if version != self._data_version:
                self._data_version = version
                self._wake_queued()
                for run_id in self._journal.runs_with_requests() & self.active.keys():
                    self.look_into_inbox(self.active[run_id])
        except JournalError as error:
            log.warning("journal.inbox_unread", code=error.code)
        self._inbox_timer = self._loop.call_later(INBOX_POLL_S, self._look_into_inbox)

    def look_into_inbox(self, run: ActiveRun) -> None:
        """Somebody has left a request for the run."""
        run.inbox_checked = False
        self.wake(run)

    def _renew(self) -> None:
        held = {run.run_id: run.epoch for run in self.active.values()}
        try:
            with self._journal.transaction():
                lost = self._journal.renew(held)
        except JournalError as error:
            log.warning("journal.leases_unrenewed", code=error.code)
            lost = set()
        for run_id in lost:
            self._let_go(
                self.active[run_id],
                JournalError(
                    "journal.fenced",
                    f"Run {run_id} has been taken over by another process.",
                    details={"run_id": run_id},
                ),
            )
        self._renew_timer = self._loop.call_later(self._journal.lease_s / 4, self._renew)


def _is_due(state: RunState, body: Body) -> bool:
    """Whether the event still follows from the state: an earlier command may have made it void."""
    path: str | None = getattr(body, "step_path", None)
    if path is None:
        return state.finish is body
    # A gate that cannot be rendered settles its step.
    return state.settle.get(path) is body or path in state.to_gate


def _internal(run: ActiveRun, error: Exception) -> FleetPromptError:
    from fleetprompt_protocol.errors import InternalError

    return InternalError(
        "protocol.internal",
        f"A fault of ours stopped run {run.run_id} ({type(error).__name__}); it can be resumed. "
        "The agent's log has the details.",
        details={"ref": run.run_id},
        rpc_code=-32603,
    )
