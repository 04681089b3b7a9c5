"""Workflows within workflows: found, compiled, and given what they take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fleetprompt_agent.language.planview import is_gate
from fleetprompt_agent.language.schemas import schema_problems
from fleetprompt_agent.language.templates import parse_template
from fleetprompt_indexer.vocabulary import closest

if TYPE_CHECKING:
    from fleetprompt_agent.language.diagnostics import Report
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.language.scopes import Draft

MAX_DEPTH = 8
"""Of workflows within workflows."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a name stands for."""

    plan: Plan | None = None
    code: str = ""
    """Why there is none: a code of the language."""
    message: str = ""
    hint: str | None = None


FindWorkflow: TypeAlias = Callable[[str], Found]
"""The plan of the workflow with an id; never raises."""


def embed(draft: Draft, find: FindWorkflow, report: Report) -> Plan | None:
    """The plan that a `workflow:` step runs; None when there is none, which is then reported."""
    name = draft.step.workflow or ""
    location = (*draft.location, "workflow")
    found = find(name)
    if found.plan is None:
        report.add(found.code, found.message, location, hint=found.hint)
        return None
    _check_arguments(draft, found.plan, report)
    if draft.in_finally and _has_gates(found.plan):
        message = f"workflow `{name}` asks someone, which a step of `finally` cannot wait for"
        report.add("approval.in_finally", message, location)
    return found.plan


def _check_arguments(draft: Draft, plan: Plan, report: Report) -> None:
    given: dict[str, Any] = draft.step.with_ or {}
    location = (*draft.location, "with")
    for name, value in given.items():
        where = (*location, name)
        if name not in plan.inputs:
            close = closest(name, plan.inputs)
            known = ", ".join(f"`{known}`" for known in plan.inputs) or "none"
            hint = f"did you mean `{close}`?" if close else f"its inputs: {known}"
            message = f"workflow `{plan.workflow_id}` has no input `{name}`"
            report.add("command.arguments", message, where, hint=hint, on_key=True)
        elif "${{" not in str(value) and "$" not in str(value)[:1]:
            problems = schema_problems(plan.inputs[name], parse_template(value).render({}))
            if problems:
                report.add("command.arguments", f"`{name}` does not fit: {problems[0]}", where)
    for name in plan.required_inputs:
        if name not in given:
            message = f"workflow `{plan.workflow_id}` needs the input `{name}`"
            where = location if given else (*draft.location, "workflow")
            report.add("command.arguments", message, where, hint=f"write `with: {{{name}: …}}`")


def _has_gates(plan: Plan) -> bool:
    steps = (*plan.steps, *plan.finally_steps)
    return any(is_gate(step) for step in steps) or any(
        _has_gates(inner) for inner in plan.workflows.values()
    )
