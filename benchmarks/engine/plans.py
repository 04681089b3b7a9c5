"""The plans that are measured, made by hand: no file is read and nothing is compiled."""

from __future__ import annotations

from dataclasses import replace

from fleetprompt_agent.language.plan import ForEach, Need, Plan, PlanStep, plan_digest


def chain(count: int, **fields: object) -> Plan:
    """Steps that follow one another."""
    steps = []
    for index in range(count):
        needs = (Need(f"s{index - 1}", "order"),) if index else ()
        steps.append(_step(f"s{index}", index, needs=needs, **fields))
    return _plan(*steps)


def fan_out(count: int) -> Plan:
    """Steps that need nothing, and one that needs them all."""
    steps = [_step(f"s{index}", index) for index in range(count)]
    joined = tuple(Need(step.id, "needs") for step in steps)
    return _plan(*steps, _step("join", count, needs=joined), max_parallel=count)


def each() -> Plan:
    """One step over the items of the input `items`."""
    loop = ForEach("inputs.items", max_parallel=8)
    return _plan(_step("each", 0, for_each=loop, arguments="${{ item }}"))


def _step(id_: str, index: int, **fields: object) -> PlanStep:
    values = {"namespace": "flow", "tool_id": "flow:noop", **fields}
    return PlanStep(id=id_, index=index, **values)  # type: ignore[arg-type]  # fields by name


def _plan(*steps: PlanStep, max_parallel: int = 8) -> Plan:
    plan = Plan(workflow_id="w", name="w", type="graph", steps=steps, max_parallel=max_parallel)
    return replace(plan, digest=plan_digest(plan))
