"""What is to be done next, given the plan and the state: pure, and in file order."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.core.commands import (
    CancelStep,
    Command,
    OpenGate,
    ScheduleRetry,
    Settle,
    StartStep,
)
from fleetprompt_agent.engine.core.events import StepFailed
from fleetprompt_agent.engine.core.schedule import MAX_ITEMS
from fleetprompt_agent.engine.core.state import Fanout, StepState

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Json
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.language.plan import Plan, PlanStep, Retry


def decide(state: RunState) -> tuple[Command, ...]:
    """The commands that follow from the state. Asked twice, it says the same.

    A command stands until its event is applied; a `StartStep` or `CancelStep` whose effect is under
    way is the runner's to remember.
    """
    if state.ended is not None:
        return ()
    if state.finish is not None:
        return (Settle(state.finish),)
    commands: list[Command] = []
    if state.cancels:
        commands += _cancels(state)
    if state.settle:
        commands += [Settle(body) for body in state.settle.values()]
    if state.to_gate:
        commands += [_open_gate(state, step) for step in state.gates_due]
    if state.held and state.effects_gate is None:
        commands.append(_effects_gate(state))
    if state.startable:
        commands += _starts(state)
    return tuple(commands)


def is_due(state: RunState, command: Command) -> bool:
    """Whether the command still follows: one that was performed before may have made it void."""
    match command:
        case StartStep(path) | ScheduleRetry(path):
            return path in state.startable
        case Settle(body):
            settles: str | None = getattr(body, "step_path", None)
            if settles is None:
                return state.finish is body
            # A gate that cannot be rendered settles its step.
            return state.settle.get(settles) is body or settles in state.to_gate
        case OpenGate():
            if command.step_path is None:
                return bool(state.held) and state.effects_gate is None
            return command.step_path in state.to_gate
        case CancelStep(path):
            return path in state.running
        case _:
            assert_never(command)


def _cancels(state: RunState) -> list[Command]:
    commands: list[Command] = []
    for step in state.running.values():
        if step.scope.phase != "main" and state.cancels < 2:
            continue
        if not step.in_doubt:
            commands.append(CancelStep(step.path))
    return commands


def _starts(state: RunState) -> list[Command]:
    free = state.plan.max_parallel
    for step in state.running.values():
        free -= not step.in_doubt
    commands: list[Command] = []
    for step in state.startable.values():
        if step.status == "retrying" and step.due_ms is None:
            commands.append(
                ScheduleRetry(
                    step.path, step.attempt, retry_delay_s(step.step.retry, step.failures),
                    step.step.retry.jitter,
                )
            )  # fmt: skip
            continue
        if step.is_composite:
            commands.append(StartStep(step.path, step.attempt + 1))
        elif free > 0:
            free -= 1
            commands.append(StartStep(step.path, step.attempt + 1, step.due_ms or 0))
        else:
            break
    return commands


def retry_delay_s(retry: Retry, failures: int) -> float:
    """The pause before the attempt after `failures` failures, in seconds, without jitter."""
    if retry.backoff == "fixed":
        return min(retry.initial_s, retry.max_s)
    exponent = min(failures - 1, 64)
    return float(min(retry.initial_s * retry.factor**exponent, retry.max_s))


def _open_gate(state: RunState, step: StepState) -> Command:
    planned = step.step
    try:
        if step.status == "unknown":
            return OpenGate(
                "unknown_outcome",
                step.path,
                {"tool": planned.tool_id, "rendered": step.action, "attempt": step.attempt},
                items=[step.error],
            )
        if planned.kind == "ask" and planned.ask is not None:
            return OpenGate(
                "ask", step.path, {"tool": "ask"}, planned.ask.prompt,
                preview=rendering.choices(state, step),
                response_schema=rendering.answer_schema(state, step),
            )  # fmt: skip
        if planned.judgement is not None:
            asked = planned.judgement
            action = {"tool": planned.tool_id, "model": asked.model, "system": asked.system}
            return OpenGate(
                "judgement", step.path,
                {name: value for name, value in action.items() if value is not None},
                rendering.question(state, step), response_schema=asked.schema,
            )  # fmt: skip
        if planned.kind == "manual":
            return OpenGate("manual", step.path, {"tool": "manual"}, planned.manual)
        approval = planned.approval
        return OpenGate(
            "approval",
            step.path,
            _action(state, step),
            prompt=approval.prompt if approval else None,
            preview=rendering.preview(state, step),
            items=_items(state, step),
            expires_s=approval.expires_s if approval else 7 * 86_400,
        )
    except rendering.RenderError as error:
        return Settle(StepFailed(step.path, step.attempt, error.to_data()))


def _action(state: RunState, step: StepState) -> dict[str, Json]:
    planned = step.step
    if planned.kind == "approval":
        return {"tool": "approval"}
    if planned.kind == "workflow":
        plan = step.scope.plan.workflows[planned.workflow or ""]
        return {
            "tool": f"workflow:{planned.workflow}",
            "digest": plan.digest,
            "effects": effects_of(plan, f"{step.path}/"),
        }
    if step.is_fanout:
        return {"tool": planned.tool_id, "items": len(rendering.items(state, step, MAX_ITEMS))}
    return {"tool": planned.tool_id, **rendering.action(state, step)}


def _items(state: RunState, step: StepState) -> Json:
    """For a `for_each` step: what the approval would let run, item by item."""
    if not step.is_fanout or step.step.kind != "action":
        return None
    values = rendering.items(state, step, MAX_ITEMS)
    probe = StepState(path=step.path, step=step.step, scope=step.scope)
    probe.fanout = Fanout(items=values, results=[])
    return [
        rendering.action(
            state,
            StepState(
                path=f"{step.path}[{index}]",
                step=step.step,
                scope=step.scope,
                parent=probe,
                item_index=index,
            ),
        )
        for index in range(len(values))
    ]


def _effects_gate(state: RunState) -> OpenGate:
    """The one gate for the side effects of the run as a whole; it lists every such step."""
    return OpenGate(
        "effects",
        None,
        {
            "workflow_id": state.plan.workflow_id,
            "digest": state.plan.digest,
            "root": state.root,
            "cwd": state.cwd,
        },
        prompt=None,
        items=effects_of(state.plan),
    )


def effects_of(plan: Plan, prefix: str = "") -> list[dict[str, Json]]:
    """Every side-effecting step of the plan, embedded workflows and `finally` included."""
    listed: list[dict[str, Json]] = []
    for planned in (*plan.steps, *plan.finally_steps):
        if planned.kind == "workflow" and planned.workflow is not None:
            sub = plan.workflows.get(planned.workflow)
            if sub is not None:
                listed += effects_of(sub, f"{prefix}{planned.id}/")
        elif planned.side_effects:
            listed.append(_effect(planned, prefix))
    return listed


def _effect(planned: PlanStep, prefix: str) -> dict[str, Json]:
    return {
        "step_path": prefix + planned.id,
        "tool": planned.tool_id,
        "as_written": planned.arguments,
        "cwd": planned.cwd,
        "for_each": planned.for_each is not None,
        "approval": planned.approval is not None,
    }
