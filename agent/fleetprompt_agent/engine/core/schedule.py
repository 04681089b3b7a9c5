"""Readiness: which queue a step belongs to, and what follows when a step or a scope settles.

Called by `apply` only. Everything here mutates the state that the fold owns, and is a function of
the events alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.core.events import (
    RunCanceled,
    RunFailed,
    RunSucceeded,
    StepCanceled,
    StepFailed,
    StepSkipped,
    StepSucceeded,
    StepUnknown,
)
from fleetprompt_agent.engine.core.state import Fanout, RunState, Scope, StepState, Stop

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Body, Json
    from fleetprompt_agent.language.plan import Plan, PlanStep


def open_scope(
    state: RunState, plan: Plan, inputs: dict[str, Json], prefix: str, owner: StepState | None
) -> Scope:
    """A scope whose main phase has begun."""
    scope = Scope(prefix=prefix, plan=plan, inputs=inputs, owner=owner)
    if owner is None:
        state.root_scope = scope
    else:
        owner.child = scope
    _begin_phase(state, scope, plan.steps)
    _advance(state, scope)
    return scope


def _begin_phase(state: RunState, scope: Scope, steps: tuple[PlanStep, ...]) -> None:
    scope.open = len(steps)
    own = {step.id for step in steps}
    ready = []
    for step in steps:
        path = scope.prefix + step.id
        instance = StepState(path, step, scope, in_finally=scope.phase == "finally")
        scope.steps[step.id] = state.steps[path] = instance
        # A `finally` step may refer to any step; only those of its own phase can be waited for.
        needs = {need.step_id for need in step.needs} & own if step.needs else ()
        scope.remaining[step.id] = len(needs)
        for needed in needs:
            scope.dependants.setdefault(needed, []).append(step.id)
        if not needs:
            ready.append(instance)
    for instance in ready:
        classify(state, instance)


def is_stopping(state: RunState, scope: Scope) -> bool:
    """Whether nothing new may start in the scope."""
    if scope.phase == "done":
        return True
    if scope.phase == "finally":
        # A second cancel ends `finally`.
        return scope.finally_stopped or state.cancels > 1
    return scope.stop is not None


def unqueue(state: RunState, instance: StepState) -> None:
    """Take the step out of the queue that it is in, if it is in one."""
    path = instance.path
    if path in state.startable:
        del state.startable[path]
    elif path in state.settle:
        del state.settle[path]
    elif path in state.to_gate:
        del state.to_gate[path]
    elif path in state.held:
        del state.held[path]


def classify(state: RunState, instance: StepState) -> None:
    """Put a step whose needs are met into the queue where it belongs."""
    if instance.status == "running" and not instance.in_doubt:
        # What acts is in no queue; a composite may be about to be settled, and stays so.
        return
    unqueue(state, instance)
    if instance.is_settled or instance.open_gate:
        if instance.asks_model and may_not_start(state, instance):
            state.judging.pop(instance.path, None)
        return
    if instance.in_doubt:
        _classify_in_doubt(state, instance)
        return
    if may_not_start(state, instance):
        return
    step, path = instance.step, instance.path
    if instance.status == "unknown":
        state.to_gate[path] = instance
        return
    if instance.status == "retrying":
        state.startable[path] = instance
        return
    if instance.verdict is None:
        instance.verdict = _verdict(state, instance)
    if not isinstance(instance.verdict, str):
        state.settle[path] = instance.verdict
        return
    asks = (
        step.kind in ("approval", "ask", "manual")
        or instance.asks_model
        or (step.approval is not None and instance.parent is None)
    )
    if asks and instance.approval is None:
        state.to_gate[path] = instance
    elif (body := _settled_by(instance)) is not None:
        state.settle[path] = body
    elif needs_intent(instance) and state.intent is None:
        if instance.scope.is_finally:
            # There are no gates in `finally`: what was not allowed before is not done.
            state.settle[path] = StepSkipped(path, "not_allowed")
        else:
            state.held[path] = instance
    else:
        state.startable[path] = instance


def may_not_start(state: RunState, instance: StepState) -> bool:
    """Whether the step must not begin (again): its scope, or its list of items, is stopping."""
    parent = instance.parent
    item_stopped = parent is not None and parent.fanout is not None and parent.fanout.stopped
    is_too_late = instance.scope.phase == "finally" and not instance.in_finally
    return item_stopped or is_too_late or is_stopping(state, instance.scope)


def needs_intent(instance: StepState) -> bool:
    """Whether the run's side effects must be allowed before this step may start.

    An approval gate of the step itself covers its intent.
    """
    covered = instance.approval or (instance.parent and instance.parent.approval)
    return instance.step.side_effects and not covered


def _classify_in_doubt(state: RunState, instance: StepState) -> None:
    """A step that was in flight when its owner went away (engine.md §4)."""
    step, path = instance.step, instance.path
    again = state.may_repeat(step)
    if state.cancels or (again and may_not_start(state, instance)):
        state.settle[path] = StepCanceled(path, instance.attempt)
    elif again:
        state.startable[path] = instance
    elif instance.scope.is_finally:
        # There are no gates in `finally`.
        state.settle[path] = StepFailed(
            path, instance.attempt, _unknown_error(instance), effect="unknown"
        )
    else:
        state.settle[path] = StepUnknown(path, instance.attempt, _unknown_error(instance))


def _unknown_error(instance: StepState) -> dict[str, Json]:
    return {
        "code": "step.unknown_outcome",
        "message": (
            f"The agent went away while step {instance.path} was acting; whether it took effect "
            "cannot be known. Look, then decide: retry it, supply its result, or fail it."
        ),
        "retryable": False,
    }


def _verdict(state: RunState, instance: StepState) -> Body | str:
    """What the needs and the condition say, now that every need has settled."""
    step = instance.step
    if instance.parent is not None:
        return "run"
    skipped = False
    for need in step.needs:
        if need.origin == "needs" and need.step_id in instance.scope.steps:
            skipped |= instance.scope.steps[need.step_id].status == "skipped"
    if step.condition is None:
        return StepSkipped(instance.path, "need_skipped") if skipped else "run"
    try:
        holds = rendering.condition_holds(state, instance, step.condition)
    except rendering.RenderError as error:
        return StepFailed(instance.path, 0, error.to_data())
    return "run" if holds else StepSkipped(instance.path, "condition")


def _settled_by(instance: StepState) -> Body | None:
    """The event by which a resolved gate settles the step, or None when the step goes on to act."""
    gate, step, path = instance.approval, instance.step, instance.path
    if gate is None:
        return None
    result: dict[str, Json] = {
        "approved": gate.decision in ("approve", "respond", "complete"),
        "response": gate.response,
        "reason": gate.reason,
        "actor": gate.actor,
    }
    match step.kind:
        case "ask":
            return StepSucceeded(path, 1, {**result, "json": gate.response})
        case "judgement":
            answer = {"json": gate.response, "usage": gate.usage}
            return StepSucceeded(path, 1, {**result, **answer})
        case "manual" if gate.decision == "skip":
            return StepSkipped(path, "manual")
        case "manual" | "approval":
            return StepSucceeded(path, 1, result)
        case "action" | "workflow":
            return StepSkipped(path, "denied") if gate.decision == "deny" else None
        case _:
            assert_never(step.kind)


def settled(state: RunState, instance: StepState) -> None:
    """A step has its final status: tell whoever waits for it."""
    state.settled += 1
    if instance.parent is not None:
        _item_settled(state, instance.parent, instance)
        return
    scope = instance.scope
    scope.open -= 1
    if instance.status == "failed":
        _step_failed(state, scope, instance)
    if not is_stopping(state, scope):
        for dependant in scope.dependants.get(instance.step.id, ()):
            scope.remaining[dependant] -= 1
            if scope.remaining[dependant] == 0:
                classify(state, scope.steps[dependant])
    _advance(state, scope)


def _step_failed(state: RunState, scope: Scope, instance: StepState) -> None:
    on_error = instance.step.on_error
    if on_error == "continue":
        return
    if on_error == "skip_rest":
        _stop_phase(state, scope, "skip_rest")
        return
    if scope.error is None:
        scope.error = {**(instance.error or {}), "step_path": instance.path}
    _stop_phase(state, scope, "failed")


def _stop_phase(state: RunState, scope: Scope, why: Stop) -> None:
    if scope.phase == "main":
        stop(state, scope, why)
    else:
        scope.finally_stopped = True
        purge(state, scope)


def stop(state: RunState, scope: Scope, why: Stop) -> None:
    """Nothing new starts in the main phase of the scope or below it; what runs finishes."""
    if scope.phase != "main" or scope.stop is not None:
        return
    scope.stop = why
    purge(state, scope)
    for instance in list(scope.steps.values()):
        if instance.status != "running":
            continue
        if instance.fanout is not None:
            _stop_fanout(state, instance)
        elif instance.child is not None:
            stop(state, instance.child, "canceled")
            _advance(state, instance.child)


def _stop_fanout(state: RunState, instance: StepState) -> None:
    fanout = instance.fanout
    if fanout is None:
        return
    fanout.stopped = True
    for child in list(fanout.children.values()):
        classify(state, child)
        if child.child is not None and child.status == "running":
            stop(state, child.child, "canceled")
            _advance(state, child.child)
    finish_fanout(state, instance)


def purge(state: RunState, scope: Scope) -> None:
    """Take the scope's steps and their items, which may not start any more, out of the queues.

    What is in doubt stays: it has to be settled before the scope can end.
    """
    for instance in scope.steps.values():
        classify(state, instance)
        if instance.fanout is not None:
            for child in instance.fanout.children.values():
                classify(state, child)


def stalled(state: RunState, instance: StepState) -> None:
    """A step runs no more without having settled: what only waited for that can end."""
    if instance.parent is not None:
        finish_fanout(state, instance.parent)
    advance_all(state)


def advance_all(state: RunState) -> None:
    """Look again at every open scope, innermost first: a stop may have emptied it."""
    for instance in reversed(list(state.steps.values())):
        if instance.child is not None and instance.child.phase != "done":
            _advance(state, instance.child)
    _advance(state, state.root_scope)


def _advance(state: RunState, scope: Scope) -> None:
    """Enter the next phase when the current one has nothing left to do."""
    if scope.phase == "main":
        if scope.open and not (scope.stop is not None and scope.busy == 0):
            return
        scope.phase = "finally"
        if scope.plan.finally_steps and state.cancels < 2:
            _begin_phase(state, scope, scope.plan.finally_steps)
        else:
            scope.open = 0
    if scope.phase == "finally":
        if scope.open and not (is_stopping(state, scope) and scope.busy == 0):
            return
        scope.phase = "done"
        _scope_done(state, scope)


def _scope_done(state: RunState, scope: Scope) -> None:
    if scope.owner is None:
        state.finish = _run_end(state, scope)
        return
    owner = scope.owner
    if scope.error is not None:
        state.settle[owner.path] = StepFailed(owner.path, owner.attempt, scope.error, effect="done")
    elif scope.stop == "canceled" or state.cancels:
        state.settle[owner.path] = StepCanceled(owner.path, owner.attempt)
    else:
        try:
            outputs = rendering.outputs(state, scope)
        except rendering.RenderError as error:
            body: Body = StepFailed(
                owner.path, owner.attempt, error.to_data("outputs.invalid"), effect="done"
            )
        else:
            body = StepSucceeded(owner.path, owner.attempt, {"json": outputs}, effect="done")
        state.settle[owner.path] = body


def _run_end(state: RunState, scope: Scope) -> Body:
    if state.timed_out:
        return RunFailed(_timeout_error(state))
    if state.cancels:
        return RunCanceled(state.cancel_reason)
    if scope.error is not None:
        return RunFailed(scope.error)
    try:
        outputs = rendering.outputs(state, scope)
    except rendering.RenderError as error:
        return RunFailed(error.to_data("outputs.invalid"))
    return RunSucceeded(outputs, rendering.last_output(scope))


def _timeout_error(state: RunState) -> dict[str, Json]:
    if state.cancel_reason == "finally":
        took = f"`finally` took longer than its {FINALLY_S:g} s"
    else:
        took = f"The run took longer than its {run_timeout_s(state) or 0:g} s"
    return {
        "code": "run.timeout",
        "message": f"{took}; what ran was stopped.",
        "retryable": True,
    }


FINALLY_S = 60.0
"""The budget of `finally` (engine.md §3)."""


def run_timeout_s(state: RunState) -> float | None:
    """The run's own limit in seconds: the smaller of the plan's and the caller's."""
    limits = [limit for limit in (state.plan.timeout_s, state.timeout_s) if limit is not None]
    return min(limits) if limits else None


def begin_composite(state: RunState, instance: StepState) -> None:
    """A `for_each` or sub-workflow step has started: make what it consists of."""
    if instance.is_fanout:
        _begin_fanout(state, instance)
        return
    plan = instance.scope.plan.workflows[instance.step.workflow or ""]
    try:
        inputs = rendering.sub_inputs(state, instance, plan)
    except rendering.RenderError as error:
        state.settle[instance.path] = StepFailed(instance.path, instance.attempt, error.to_data())
        return
    open_scope(state, plan, inputs, f"{instance.path}/", instance)


MAX_ITEMS = 10_000
"""Of one `for_each` (engine.md §3)."""


def _begin_fanout(state: RunState, instance: StepState) -> None:
    try:
        items = rendering.items(state, instance, MAX_ITEMS)
    except rendering.RenderError as error:
        state.settle[instance.path] = StepFailed(instance.path, instance.attempt, error.to_data())
        return
    instance.fanout = Fanout(items=items, results=[None] * len(items))
    feed(state, instance)
    finish_fanout(state, instance)


def feed(state: RunState, instance: StepState) -> None:
    """Make the next items ready, up to the step's `max_parallel`."""
    fanout, step = instance.fanout, instance.step
    if fanout is None or step.for_each is None:
        return
    while (
        not fanout.stopped
        and fanout.next_index < len(fanout.items)
        and fanout.active < step.for_each.max_parallel
        and not is_stopping(state, instance.scope)
    ):
        index = fanout.next_index
        child = StepState(
            path=f"{instance.path}[{index}]",
            step=step,
            scope=instance.scope,
            in_finally=instance.in_finally,
            parent=instance,
            item_index=index,
        )
        fanout.children[index] = child
        fanout.next_index += 1
        fanout.active += 1
        state.steps[child.path] = child
        classify(state, child)


def _item_settled(state: RunState, instance: StepState, child: StepState) -> None:
    fanout = instance.fanout
    if fanout is None or child.item_index is None:
        return
    fanout.active -= 1
    if child.status == "succeeded":
        fanout.results[child.item_index] = rendering.value_of(child)
    elif child.status == "failed" and child.step.on_error != "continue":
        if fanout.error is None:
            fanout.error = {**(child.error or {}), "step_path": child.path}
        _stop_fanout(state, instance)
        return
    feed(state, instance)
    finish_fanout(state, instance)


def finish_fanout(state: RunState, instance: StepState) -> None:
    """Settle the step when no item is left that could still do something."""
    fanout = instance.fanout
    if fanout is None or instance.is_settled:
        return
    if fanout.stopped:
        if any(child.status == "running" for child in fanout.children.values()):
            return
    elif fanout.active or fanout.next_index < len(fanout.items):
        return
    if fanout.error is not None:
        body: Body = StepFailed(instance.path, instance.attempt, fanout.error, effect="done")
    elif fanout.stopped:
        body = StepCanceled(instance.path, instance.attempt)
    else:
        result = {
            "json": fanout.results,
            "items": [_item_view(fanout.children[index]) for index in range(len(fanout.items))],
        }
        body = StepSucceeded(instance.path, instance.attempt, result, effect="done")
    state.settle[instance.path] = body


def _item_view(child: StepState) -> dict[str, Json]:
    view: dict[str, Json] = {"status": child.status}
    if child.error is not None:
        view["error"] = child.error
    return view
