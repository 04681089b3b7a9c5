"""Plans for tests: written by hand, or drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.plan import (
    Approval,
    Ask,
    ForEach,
    Judgement,
    Need,
    Plan,
    PlanStep,
    Retry,
)

if TYPE_CHECKING:
    from random import Random


def step(id_: str, index: int = 0, **fields: Any) -> PlanStep:
    """A `flow noop` step, or whatever the fields make of it; `needs` may be a list of ids."""
    needs = fields.pop("needs", ())
    fields["needs"] = tuple(
        need if isinstance(need, Need) else Need(need, "needs") for need in needs
    )
    fields.setdefault("namespace", "flow")
    fields.setdefault("tool_id", "flow:noop")
    return PlanStep(id=id_, index=index, **fields)


def plan(*steps: PlanStep, **fields: Any) -> Plan:
    """A plan of these steps."""
    fields.setdefault("workflow_id", "w")
    fields.setdefault("name", "w")
    fields.setdefault("type", "graph")
    return Plan(steps=steps, **fields)


def effect(id_: str, index: int = 0, **fields: Any) -> PlanStep:
    """A side-effecting step."""
    return step(
        id_,
        index,
        namespace="cli",
        tool_id="cli:x",
        arguments={"argv": ["x"]},
        side_effects=True,
        **fields,
    )


def judgement(id_: str, index: int = 0, prompt: str = "?", **fields: Any) -> PlanStep:
    """A question to a model, whose answer is a whole number."""
    asked = Judgement(prompt, {"type": "integer"})
    return step(
        id_, index, kind="judgement", namespace="llm", tool_id="llm:default", judgement=asked,
        **fields,
    )  # fmt: skip


_OF_JUDGEMENTS = {"needs", "condition", "on_error", "for_each"}
"""What such a step may have beside its question."""


def random_plan(random: Random, depth: int = 0) -> Plan:
    """Any plan that the language could compile, within what the core knows."""
    workflows = {}
    if depth < 2 and random.random() < 0.4:
        workflows["sub"] = random_plan(random, depth + 1)
    count = random.randint(1, 6)
    steps = [_random_step(random, index, bool(workflows)) for index in range(count)]
    closing = []
    if random.random() < 0.3:
        closing = [
            effect("close", 0) if random.random() < 0.5 else step("close", 0),
            step("last", 1, needs=[Need("close", "order")]),
        ]
    return plan(
        *steps,
        finally_steps=tuple(closing),
        workflows=workflows,
        max_parallel=random.randint(1, 4),
        outputs={"first": "${{ steps.s0.status }}"},
    )


def _random_step(random: Random, index: int, has_sub: bool) -> PlanStep:
    fields: dict[str, Any] = {}
    earlier = [f"s{number}" for number in range(index)]
    fields["needs"] = [
        Need(name, random.choice(["order", "needs", "reference"]))
        for name in earlier
        if random.random() < 0.4
    ]
    if earlier and random.random() < 0.25:
        fields["condition"] = f"steps.{random.choice(earlier)}.json != 1"
    if random.random() < 0.3:
        fields["retry"] = Retry(max_attempts=random.randint(2, 3))
    if random.random() < 0.2:
        fields["approval"] = Approval(on_deny=random.choice(["cancel", "continue"]))
    if random.random() < 0.2:
        fields["on_error"] = random.choice(["continue", "skip_rest"])
    if random.random() < 0.2:
        fields["for_each"] = ForEach(
            f"[{', '.join(str(n) for n in range(random.randint(0, 4)))}]",
            max_parallel=random.randint(1, 3),
        )
    if random.random() < 0.2:
        fields["idempotent"] = True
    name = f"s{index}"
    kind = random.random()
    if has_sub and kind < 0.25:
        return step(
            name, index, kind="workflow", workflow="sub", namespace="", tool_id="", **fields
        )
    if kind < 0.3 and "for_each" not in fields:
        fields.pop("approval", None)
        return step(
            name, index, kind="ask", ask=Ask("?", {"type": "integer"}), namespace="", **fields
        )
    if kind < 0.35 and "for_each" not in fields:
        fields.pop("approval", None)
        return step(name, index, kind="manual", manual="do it", namespace="", **fields)
    if kind < 0.45:
        fields = {name: fields[name] for name in _OF_JUDGEMENTS & fields.keys()}
        # As in the language, a reference is an edge: what is read has settled.
        needed = [need.step_id for need in fields["needs"]]
        prompt = f"${{{{ steps.{random.choice(needed)}.json }}}}?" if needed else "?"
        return judgement(name, index, prompt, **fields)
    if kind < 0.75:
        return effect(name, index, **fields)
    return step(name, index, **fields)
