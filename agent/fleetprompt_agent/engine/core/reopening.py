"""Reopening: a failed run goes on, by authority. What succeeded and what was approved stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_agent.engine.core import schedule

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.state import RunState, Scope, StepState


def reopen(state: RunState, from_step: str) -> None:
    """Take the run back to where it failed; `finally` will run again at the end.

    Whoever reopens names one step, which is tried again. Another one that may have had its effect
    without anybody knowing is asked about, not repeated.
    """
    state.ended = state.ended_ms = None
    state.finish = state.error = None
    state.timed_out, state.cancels, state.cancel_reason = False, 0, None
    state.active_ms = 0
    for gate in state.gates.values():
        gate.is_void = gate.decision is None
    state.judging.clear()
    if state.intent is None:
        state.effects_gate = None
    _reopen_scope(state, state.root_scope, from_step)
    schedule.advance_all(state)


def _reopen_scope(state: RunState, scope: Scope, from_step: str) -> None:
    for planned in scope.plan.finally_steps:
        gone = scope.steps.pop(planned.id, None)
        if gone is not None:
            del state.steps[gone.path]
    scope.phase, scope.stop, scope.finally_stopped, scope.error = "main", None, False, None
    again = [
        step
        for step in scope.steps.values()
        if step.status != "succeeded" and step.skip_reason != "condition"
    ]
    scope.open, scope.busy = len(again), 0
    for step in again:
        _reset(state, step, from_step)
    pending = {step.step.id for step in again}
    for step in again:
        scope.remaining[step.step.id] = len({need.step_id for need in step.step.needs} & pending)
    for step in again:
        if step.status == "running":
            scope.busy += 1
            _reopen_composite(state, step, from_step)
        elif not scope.remaining[step.step.id]:
            schedule.classify(state, step)


def _reset(state: RunState, step: StepState, from_step: str) -> None:
    """As if the step had not been tried; a composite that had begun runs again."""
    schedule.unqueue(state, step)
    if step.is_settled:
        state.settled -= 1
    begun = step.fanout is not None or step.child is not None
    if begun:
        step.status = "running"
    else:
        step.status = "unknown" if _is_uncertain(state, step, from_step) else "pending"
    if step.status != "unknown":
        step.result, step.error = {}, None
    step.failures, step.effect = 0, "none"
    step.open_gate = step.skip_reason = step.deadline_ms = step.due_ms = None
    step.in_doubt = False
    step.verdict = None
    if step.approval is not None and step.approval.decision not in ("approve", "respond"):
        step.approval = None


def _is_uncertain(state: RunState, step: StepState, from_step: str) -> bool:
    """Whether the step may have acted without anybody knowing how far."""
    if step.path == from_step or step.attempt == 0 or state.may_repeat(step.step):
        return False
    stopped = step.status in ("unknown", "canceled", "running", "interrupted")
    return stopped or (step.status == "failed" and step.effect == "unknown")


def _reopen_composite(state: RunState, step: StepState, from_step: str) -> None:
    if step.child is not None:
        _reopen_scope(state, step.child, from_step)
        return
    fanout = step.fanout
    if fanout is None:
        return
    fanout.stopped, fanout.error, fanout.active = False, None, 0
    for child in fanout.children.values():
        if child.status == "succeeded":
            continue
        _reset(state, child, from_step)
        fanout.active += 1
        if child.status == "running":
            _reopen_composite(state, child, from_step)
        else:
            schedule.classify(state, child)
    schedule.feed(state, step)
    schedule.finish_fanout(state, step)
