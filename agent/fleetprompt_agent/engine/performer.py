"""The performer: carries a run on, in memory, by as much as can be done without waiting.

It folds what has arrived, asks the core, performs the commands, and folds what comes of them, until
only waiting is left. Nothing is written here and nothing acts: the events are `run.pending` and the
steps `run.to_launch` until the runner has committed them.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, assert_never

from fleetprompt_agent.engine import requests, tokens
from fleetprompt_agent.engine.active import Progress
from fleetprompt_agent.engine.attempts import digest_of
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
from fleetprompt_agent.engine.core.decide import decide, is_due
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
from fleetprompt_agent.engine.core.outcomes import judge
from fleetprompt_protocol.errors import FleetPromptError
from fleetprompt_protocol.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt_agent.engine.active import ActiveRun, Arrived, Listener
    from fleetprompt_agent.engine.attempts import Attempts
    from fleetprompt_agent.engine.core.events import Body
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.engine.requests import Asker
    from fleetprompt_agent.engine.slots import Slots

EVENTS_PER_TURN = 256
"""A run yields the loop after so many events: a long chain of instant steps starves none."""

_DURABLE: frozenset[type[Body]] = frozenset((
    RunCreated, RunSucceeded, RunFailed, RunCanceled, RunCancelRequested, RunReopened,
    GateOpened, GateTokenIssued, GateResolved, LeaseTaken, StepUnknown,
))  # fmt: skip
"""Events that must survive a power loss."""
_DURABLE_IF_ACTING: frozenset[type[Body]] = frozenset((StepStarted, StepSucceeded, StepFailed))
"""These too, of a step with side effects."""


class Performer:
    """Carries runs on.

    Args:
        journal: Whose inbox is read; nothing is written to it.
        attempts: Renders the steps, and performs those that wait for nothing.
        slots: Of this process.
        observers: Hear of every run: their progress is noted with each event.
    """

    def __init__(
        self,
        journal: JournalPort,
        attempts: Attempts,
        slots: Slots,
        observers: Sequence[Listener],
    ) -> None:
        self._journal = journal
        self._attempts = attempts
        self._slots = slots
        self._observers = observers

    def take_in(self, run: ActiveRun) -> None:
        """Fold what came from outside: ends of attempts, the deadline, requests in the inbox."""
        run.read_clock()
        arrived, run.arrived = run.arrived, []
        for item in arrived:
            self._fold_arrived(run, item)
        wanted, run.wanted = run.wanted, []
        for body in wanted:
            if not run.state.is_terminal:
                self._emit(run, body)
        if not run.inbox_checked:
            run.inbox_checked = True
            for request in self._journal.read_inbox(run.run_id):
                run.inbox_seen = request.id
                answer = requests.answer(run.state, request, run.now_ms)
                if answer is not None:
                    self._emit(run, answer, requests.asker_of(request))

    def carry_on(self, run: ActiveRun) -> bool:
        """Perform what the core decides; true when the run has had its share and could go on."""
        progress = True
        while progress and len(run.pending) < EVENTS_PER_TURN:
            progress = False
            for command in decide(run.state):
                progress |= self._perform(run, command)
        return progress

    def _fold_arrived(self, run: ActiveRun, item: Arrived) -> None:
        step = run.state.steps[item.step_path]
        if step.status == "running" and step.attempt == item.attempt and not run.state.is_terminal:
            self._emit(run, judge(run.state, step, item.end, run.now_ms))
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
            state.seq + 1, run.now_ms, body, event_id or new_id(),
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
        if run.listeners or self._observers:
            run.progress.append(Progress(state.settled, len(state.steps)))

    # Commands

    def _perform(self, run: ActiveRun, command: Command) -> bool:
        """Whether the state has changed. A command that an earlier one made void is passed over."""
        if not is_due(run.state, command):
            return False
        match command:
            case StartStep():
                return self._start(run, command)
            case Settle(body):
                self._emit(run, body)
            case OpenGate():
                self._open_gate(run, command)
            case ScheduleRetry(path, attempt):
                spread = 1 + command.jitter * random.uniform(-1, 1)  # noqa: S311 (not a secret)
                due = run.now_ms + round(command.delay_s * spread * 1000)
                self._emit(run, StepRetryScheduled(path, attempt, due))
            case CancelStep(path):
                return self._cancel_step(run, path)
            case _:
                assert_never(command)
        return True

    def _start(self, run: ActiveRun, command: StartStep) -> bool:
        state, step = run.state, run.state.steps[command.step_path]
        is_instant = self._attempts.is_instant(step.step.namespace)
        if not (self._slots.is_free or is_instant or step.is_composite):
            self._slots.starve(run)
            return False
        now = run.now_ms
        if command.not_before_ms > now:
            run.alarms.retry_in(command.not_before_ms - now)
            return False
        key = state.key_of(step)
        if step.is_composite:
            self._emit(run, StepStarted(step.path, command.attempt, key))
            return True
        deadline = step.deadline_ms
        if deadline is None and step.step.total_timeout_s is not None:
            deadline = now + round(step.step.total_timeout_s * 1000)
        try:
            event_id = new_id()
            request = self._attempts.request(state, step, command.attempt, event_id)
            changed = self._attempts.changed_since_approval(state, request, step)
        except (FleetPromptError, rendering.RenderError) as error:
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
            self._slots.taken += 1
            run.to_launch.append((request, self._attempts.limit_s(step, now)))
        return True

    def _open_gate(self, run: ActiveRun, command: OpenGate) -> None:
        state = run.state
        action = command.action
        step = state.steps[command.step_path] if command.step_path is not None else None
        if command.kind == "effects":
            action = self._attempts.with_used_files(state, state.plan, action)
        elif step is not None and command.kind == "approval" and step.step.kind == "workflow":
            inner = step.scope.plan.workflows[step.step.workflow or ""]
            action = self._attempts.with_used_files(state, inner, action)
        elif step is not None and command.kind == "approval" and step.step.kind == "action":
            try:
                action = self._attempts.resolved(state, step, command)
            except (FleetPromptError, rendering.RenderError) as error:
                self._emit(run, StepFailed(step.path, step.attempt, error.to_data()))
                return
        self._ask(run, command, action)

    def _ask(self, run: ActiveRun, command: OpenGate, action: dict[str, object]) -> None:
        gate_id = f"{run.run_id}.g{len(run.state.gates) + 1}"
        token, token_hash = tokens.new_token(gate_id)
        run.tokens[gate_id] = token
        expires = run.now_ms + round(command.expires_s * 1000)
        self._emit(
            run,
            GateOpened(
                gate_id, command.kind, action, digest_of(action), token_hash, expires,
                command.step_path, command.prompt, command.preview, command.items,
                command.response_schema,
            ),
        )  # fmt: skip

    def _cancel_step(self, run: ActiveRun, path: str) -> bool:
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
        self._slots.taken -= len(run.to_launch) - len(kept)
        run.to_launch = kept
        self._emit(run, StepCanceled(path, run.state.running[path].attempt))
        return True
