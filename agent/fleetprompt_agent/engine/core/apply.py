"""The fold: one event changes the state, or is refused as impossible.

`STEP_MOVES` is the whole state machine of a step: what may happen in which status, and the status
it leads to. An event that it does not allow means that the journal was tampered with or damaged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from fleetprompt_agent.engine.core import schedule
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
    StepInterrupted,
    StepLateResult,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnknown,
)
from fleetprompt_agent.engine.core.reopening import reopen
from fleetprompt_agent.engine.core.state import (
    GateState,
    RunEnd,
    RunState,
    Scope,
    StepState,
    StepStatus,
)
from fleetprompt_agent.language.plan import plan_from_json
from fleetprompt_protocol.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetprompt_agent.language.plan import Plan

STEP_MOVES: dict[StepStatus, dict[str, StepStatus]] = {
    "pending": {
        StepStarted.type: "running",
        StepSucceeded.type: "succeeded",
        StepFailed.type: "failed",
        StepSkipped.type: "skipped",
        StepCanceled.type: "canceled",
        GateOpened.type: "waiting",
    },
    "waiting": {
        GateResolved.type: "pending",
        GateTokenIssued.type: "waiting",
        StepCanceled.type: "canceled",
    },
    "running": {
        StepSucceeded.type: "succeeded",
        StepFailed.type: "failed",
        StepCanceled.type: "canceled",
        StepInterrupted.type: "interrupted",
        StepUnknown.type: "unknown",
        StepStarted.type: "running",
    },
    "retrying": {
        StepRetryScheduled.type: "retrying",
        StepStarted.type: "running",
        StepFailed.type: "failed",
        StepCanceled.type: "canceled",
    },
    "interrupted": {
        StepStarted.type: "running",
        StepFailed.type: "failed",
        StepUnknown.type: "unknown",
        StepCanceled.type: "canceled",
    },
    "unknown": {
        GateOpened.type: "unknown",
        GateTokenIssued.type: "unknown",
        GateResolved.type: "pending",
        StepCanceled.type: "canceled",
    },
    "succeeded": {StepLateResult.type: "succeeded"},
    "failed": {StepLateResult.type: "failed"},
    "skipped": {},
    "canceled": {StepLateResult.type: "canceled"},
}


def fold(run_id: str, events: Iterable[Event]) -> RunState:
    """The state after all of the run's events.

    Raises:
        JournalError: `journal.corrupt`, with the run's id and the event's number.
    """
    state: RunState | None = None
    for event in events:
        if state is None:
            state = begin(run_id, event)
        else:
            apply(state, event)
    if state is None:
        raise JournalError("journal.corrupt", f"Run {run_id} has no events.")
    return state


def begin(run_id: str, event: Event, plan: Plan | None = None) -> RunState:
    """The state after the first event, which must be `run.created`.

    Args:
        run_id: The run.
        event: Its first event.
        plan: The plan in the event, when it is at hand; else it is read from there.

    Raises:
        JournalError: it is not, or its plan cannot be read.
    """
    body = event.body
    if not isinstance(body, RunCreated) or event.seq != 1:
        raise _corrupt(run_id, event, "a run begins with run.created")
    try:
        plan = plan or plan_from_json(body.plan)
    except (KeyError, TypeError, ValueError) as error:
        raise JournalError(
            "journal.version",
            f"The plan of run {run_id} was written by a version that this one cannot read. "
            "Use the version that started the run.",
            details={"run_id": run_id},
        ) from error
    state = RunState(
        run_id=run_id,
        plan=plan,
        root_scope=Scope("", plan, body.inputs, None),
        inputs=body.inputs,
        root=body.root,
        cwd=body.cwd,
        intent=body.intent,
        timeout_s=body.timeout_s,
        max_output_bytes=body.max_output_bytes,
        metadata=body.metadata,
        caller=body.caller,
        parent_run_id=body.parent_run_id,
        request_id=event.request_id,
        correlation_id=event.correlation_id,
        created_ms=event.at_ms,
        last_ms=event.at_ms,
        seq=1,
        cause_event_id=event.event_id,
    )
    schedule.open_scope(state, plan, body.inputs, "", None)
    return state


def apply(state: RunState, event: Event) -> RunState:
    """The same state, changed by the next event.

    Raises:
        JournalError: the event cannot follow; the state must not be used any more.
    """
    if event.seq != state.seq + 1:
        raise _corrupt(state.run_id, event, f"event {state.seq + 1} is missing")
    state.seq = event.seq
    if event.at_ms > state.last_ms:
        if state.running or state.startable:
            state.active_ms += event.at_ms - state.last_ms
        state.last_ms = event.at_ms
    body = event.body
    # Most events are those of steps: they stand first, because a match is tried case by case.
    match body:
        case (
            StepStarted()
            | StepSucceeded()
            | StepFailed()
            | StepRetryScheduled()
            | StepSkipped()
            | StepCanceled()
            | StepInterrupted()
            | StepUnknown()
            | StepLateResult()
        ):
            _step_event(state, event, body)
        case RunCreated():
            raise _corrupt(state.run_id, event, "a run is created once")
        case LeaseTaken():
            _lease_taken(state, event, body)
        case RunCancelRequested():
            _cancel_requested(state, event, body)
        case RunSucceeded():
            _end(state, event, "succeeded")
            state.outputs, state.output = body.outputs, body.output
        case RunFailed():
            _end(state, event, "failed")
            state.error = body.error
        case RunCanceled():
            _end(state, event, "canceled")
        case RunReopened():
            if state.ended != "failed":
                raise _corrupt(state.run_id, event, "only a failed run is reopened")
            state.cause_event_id = event.event_id
            reopen(state, body.from_step)
        case GateOpened():
            _gate_opened(state, event, body)
        case GateTokenIssued():
            gate = _gate(state, event, body.gate_id)
            gate.token_hash, gate.expires_ms = body.token_hash, body.expires_ms
        case GateResolved():
            _gate_resolved(state, event, body)
        case _:
            assert_never(body)
    return state


StepBody = (
    StepStarted
    | StepSucceeded
    | StepFailed
    | StepRetryScheduled
    | StepSkipped
    | StepCanceled
    | StepInterrupted
    | StepUnknown
    | StepLateResult
)


def _corrupt(run_id: str, event: Event, why: str) -> JournalError:
    return JournalError(
        "journal.corrupt",
        f"The journal of run {run_id} cannot be true at event {event.seq} "
        f"({event.body.type}): {why}. Other runs are not affected.",
        details={"run_id": run_id, "seq": event.seq, "type": event.body.type},
    )


def _move(state: RunState, event: Event, step: StepState) -> None:
    """Change the step's status by the table, and keep `running` and `busy` true."""
    was = step.status
    now = STEP_MOVES[was].get(event.body.type)
    if now is None:
        raise _corrupt(state.run_id, event, f"step {step.path} is {was}")
    step.status = now
    ran, runs = was == "running", now == "running"
    if ran != runs and step.parent is None:
        step.scope.busy += 1 if runs else -1
    if runs and not step.is_composite:
        state.running[step.path] = step
    else:
        state.running.pop(step.path, None)


def _step_event(state: RunState, event: Event, body: StepBody) -> None:
    step = state.steps.get(body.step_path)
    if step is None:
        raise _corrupt(state.run_id, event, f"there is no step {body.step_path}")
    _move(state, event, step)
    schedule.unqueue(state, step)
    match body:
        case StepStarted():
            step.attempt = body.attempt
            step.started_ms = event.at_ms
            step.started_event_id = event.event_id
            step.deadline_ms = body.deadline_ms
            step.action, step.action_digest = body.action, body.action_digest
            step.in_doubt, step.due_ms = False, None
            if step.is_composite:
                schedule.begin_composite(state, step)
        case StepSucceeded():
            step.result, step.effect, step.error = body.result or {}, body.effect, None
            step.duration_ms = _duration_ms(step, event, body.duration_ms)
            step.attempt = body.attempt
            schedule.settled(state, step)
        case StepFailed():
            _step_failed(state, event, step, body)
        case StepRetryScheduled():
            step.due_ms = body.due_ms
            schedule.classify(state, step)
        case StepSkipped():
            step.skip_reason = body.reason
            schedule.settled(state, step)
        case StepCanceled():
            step.duration_ms = _duration_ms(step, event, body.duration_ms)
            step.result = body.result or {}
            schedule.settled(state, step)
        case StepInterrupted():
            step.in_doubt = True
        case StepUnknown():
            step.error, step.result = body.error, body.result or {}
            step.effect, step.duration_ms = "unknown", body.duration_ms
            step.in_doubt = False
            schedule.classify(state, step)
            schedule.stalled(state, step)
        case StepLateResult():
            return
        case _:
            assert_never(body)


def _duration_ms(step: StepState, event: Event, measured_ms: float) -> float:
    """Of an attempt as measured; of a step that acts through others, since it started."""
    if step.is_composite and step.started_ms:
        return float(max(0, event.at_ms - step.started_ms))
    return measured_ms


def _step_failed(state: RunState, event: Event, step: StepState, body: StepFailed) -> None:
    step.error, step.result = body.error, body.result or {}
    step.effect, step.duration_ms = body.effect, _duration_ms(step, event, body.duration_ms)
    step.failures += 1
    tries_left = step.failures < step.step.retry.max_attempts
    if body.retryable and tries_left and not schedule.may_not_start(state, step):
        step.status = "retrying"
        step.due_ms = None
        schedule.classify(state, step)
        return
    schedule.settled(state, step)


def _lease_taken(state: RunState, event: Event, body: LeaseTaken) -> None:
    state.owner, state.epoch = body.owner, body.epoch
    if event.seq > 2:
        state.cause_event_id = event.event_id
    # What the last owner had in flight is in doubt; it runs no more.
    for step in list(state.steps.values()):
        if step.status == "running" and not step.is_composite:
            step.in_doubt = True
        if step.in_doubt:
            schedule.classify(state, step)


def _cancel_requested(state: RunState, event: Event, body: RunCancelRequested) -> None:
    state.cause_event_id = event.event_id
    if state.cancels == 0:
        state.cancel_reason = body.reason
        state.timed_out = body.timed_out
    state.cancels = max(2, state.cancels + 1) if body.ends_finally else state.cancels + 1
    schedule.stop(state, state.root_scope, "canceled")
    schedule.advance_all(state)


def _end(state: RunState, event: Event, end: RunEnd) -> None:
    if state.ended is not None:
        raise _corrupt(state.run_id, event, f"the run is {state.ended}")
    state.ended, state.ended_ms, state.finish = end, event.at_ms, None
    for queue in (state.settle, state.to_gate, state.held, state.startable):
        queue.clear()


def _gate(state: RunState, event: Event, gate_id: str) -> GateState:
    gate = state.gates.get(gate_id)
    if gate is None or not gate.is_open:
        raise _corrupt(state.run_id, event, f"gate {gate_id} is not open")
    return gate


def _gate_opened(state: RunState, event: Event, body: GateOpened) -> None:
    if body.gate_id in state.gates:
        raise _corrupt(state.run_id, event, f"gate {body.gate_id} exists")
    state.gates[body.gate_id] = GateState(
        gate_id=body.gate_id,
        kind=body.kind,
        step_path=body.step_path,
        action=body.action,
        action_digest=body.action_digest,
        prompt=body.prompt,
        preview=body.preview,
        items=body.items,
        response_schema=body.response_schema,
        token_hash=body.token_hash,
        expires_ms=body.expires_ms,
        opened_ms=event.at_ms,
    )
    if body.step_path is None:
        state.effects_gate = body.gate_id
        return
    step = state.steps.get(body.step_path)
    if step is None:
        raise _corrupt(state.run_id, event, f"there is no step {body.step_path}")
    _move(state, event, step)
    step.open_gate = body.gate_id
    schedule.unqueue(state, step)
    if body.kind == "judgement":
        state.judging[step.path] = step


def _gate_resolved(state: RunState, event: Event, body: GateResolved) -> None:
    gate = _gate(state, event, body.gate_id)
    gate.decision, gate.reason, gate.response = body.decision, body.reason, body.response
    gate.channel, gate.usage = body.channel, body.usage
    gate.actor = {"type": event.actor_type, "id": event.actor_id}
    state.cause_event_id = event.event_id
    if gate.step_path is None:
        _effects_resolved(state, gate)
        return
    step = state.steps[gate.step_path]
    _move(state, event, step)
    step.open_gate = None
    state.judging.pop(step.path, None)
    if gate.kind == "unknown_outcome":
        _outcome_told(state, step, gate)
        return
    step.approval = gate
    approval = step.step.approval
    if gate.decision == "deny" and (approval is None or approval.on_deny == "cancel"):
        _deny(state, gate)
        return
    schedule.classify(state, step)


def _effects_resolved(state: RunState, gate: GateState) -> None:
    if gate.decision != "approve":
        _deny(state, gate)
        return
    state.intent = f"gate:{gate.gate_id}"
    for step in list(state.held.values()):
        schedule.classify(state, step)


def _deny(state: RunState, gate: GateState) -> None:
    """A denial ends the run as cancelled: nothing new starts, what runs is stopped."""
    state.cancels += 1
    state.cancel_reason = gate.reason or "denied"
    schedule.stop(state, state.root_scope, "canceled")
    schedule.advance_all(state)


def _outcome_told(state: RunState, step: StepState, gate: GateState) -> None:
    """A person has said how a step with an unknown outcome goes on."""
    if schedule.may_not_start(state, step):
        return
    match gate.decision:
        case "retry":
            step.in_doubt = False
            state.startable[step.path] = step
        case "succeed_with":
            state.settle[step.path] = StepSucceeded(
                step.path, step.attempt, told_result(step, gate), effect="done"
            )
        case _:
            error = dict(step.error or {})
            error.setdefault("code", "step.unknown_outcome")
            error.setdefault("message", "A person failed the step after an unknown outcome.")
            state.settle[step.path] = StepFailed(
                step.path, step.attempt, error, result=step.result, effect="unknown"
            )


def told_result(step: StepState, gate: GateState) -> dict[str, object]:
    """The result of a step whose outcome a person supplied."""
    response = gate.response
    told = dict(step.result)
    if isinstance(response, str):
        told.update(stdout=response, text=response)
    told.update(json=response, told=True)
    return told
