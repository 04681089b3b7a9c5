"""A plan as people and programs look at it before a run: nothing here is executed or resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.durations import duration_text
from fleetprompt_agent.language.edges import levels
from fleetprompt_agent.language.expressions import ExpressionError, parse_expression
from fleetprompt_agent.language.permissions import UNSEEN, runs_other_code
from fleetprompt_agent.language.templates import parse_text, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetprompt_agent.language.expressions import Reference
    from fleetprompt_agent.language.plan import Json, Plan, PlanStep

PLACEHOLDER = "⟨{}⟩"
"""What stands for a value that only a run will know."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known before a run: values by root, `{"inputs": {"pr": 7}}`."""

    scope: Mapping[str, Any] = field(default_factory=dict)
    partial: frozenset[str] = frozenset()
    """Roots of which only some names are known."""

    def covers(self, reference: Reference) -> bool:
        """Whether the value of a reference is known; it may still be null."""
        root = reference.root
        if root not in self.scope:
            return False
        if root not in self.partial:
            return True
        return bool(reference.path) and str(reference.path[0]) in self.scope[root]


def view_plan(plan: Plan, inputs: Mapping[str, Json] | None = None) -> dict[str, Json]:
    """What a run would do, as JSON data.

    Args:
        plan: The compiled workflow.
        inputs: The inputs of the run, checked; those that are missing are placeholders.
    """
    given = {} if inputs is None else dict(inputs)
    is_partial = not plan.inputs.keys() <= given.keys()
    known = Known({"inputs": given}, frozenset({"inputs"} if is_partial else ()))
    view: dict[str, Json] = {
        "workflow_id": plan.workflow_id,
        "name": plan.name,
        "version": plan.version,
        "description": plan.description,
        "type": plan.type,
        "file_path": plan.file_path,
        "digest": plan.digest,
        "inputs": None if inputs is None else dict(inputs),
        "levels": levels({step.id: step.needs for step in plan.steps}),
        "edges": [
            {"from": need.step_id, "to": step.id, "origin": need.origin}
            for step in _all_steps(plan)
            for need in step.needs
        ],
        "steps": [_step(step, known) for step in plan.steps],
        "finally": [_step(step, known) for step in plan.finally_steps],
        "outputs": {name: known_part(template, known) for name, template in plan.outputs.items()},
        "gates": [step.id for step in _all_steps(plan) if is_gate(step)],
        "side_effects": [step.id for step in _all_steps(plan) if step.side_effects],
        "permissions": [
            {"permission": one.permission, "enforced": one.enforced, "why": one.why}
            for one in plan.permissions
        ],
        "limits": {"timeout_s": plan.timeout_s, "max_parallel": plan.max_parallel},
        "workflows": {name: view_plan(inner) for name, inner in plan.workflows.items()},
    }
    if plan.concurrency is not None:
        view["concurrency"] = {
            "group": plan.concurrency.group,
            "on_conflict": plan.concurrency.on_conflict,
        }
    if plan.sandbox is not None:
        view["sandbox"] = plan.sandbox
    return view


def is_gate(step: PlanStep) -> bool:
    """Whether the step waits for a person, or for the calling agent's model."""
    return step.approval is not None or step.kind in ("approval", "ask", "manual", "judgement")


def known_part(template: Json, known: Known) -> Json:
    """A template with what the scope knows, and placeholders for the rest."""
    if isinstance(template, str):
        return _known_text(template, known)
    if isinstance(template, list):
        return [known_part(item, known) for item in template]
    if isinstance(template, dict):
        return {key: known_part(item, known) for key, item in template.items()}
    return template


def _known_text(template: str, known: Known) -> Json:
    try:
        parsed = parse_text(template)
    except ExpressionError:
        return template
    pieces: list[str] = []
    for part in parsed.parts:
        if isinstance(part, str):
            pieces.append(part)
            continue
        expression = part.expression
        is_known = all(known.covers(reference) for reference in expression.references)
        try:
            value = expression.evaluate(known.scope) if is_known else None
        except ExpressionError:
            is_known = False
        if is_known and parsed.whole is not None:
            return value
        pieces.append(text_of(value) if is_known else PLACEHOLDER.format(expression.source))
    return "".join(pieces)


def _all_steps(plan: Plan) -> Sequence[PlanStep]:
    return (*plan.steps, *plan.finally_steps)


def _step(step: PlanStep, known: Known) -> dict[str, Json]:
    view: dict[str, Json] = {
        "step_id": step.id,
        "name": step.name,
        "kind": step.kind,
        "namespace": step.namespace or None,
        "tool_id": step.tool_id or None,
        "action": known_action(step, known),
        "needs": [need.step_id for need in step.needs],
        "side_effects": step.side_effects,
        "idempotent": step.idempotent,
        "on_error": step.on_error,
    }
    if step.condition is not None:
        view["if"] = step.condition
        view["will_run"] = _known_condition(step.condition, known)
    if step.namespace == "cli" and runs_other_code(step.tool_id.partition(":")[2]):
        view["caution"] = UNSEEN
    if is_gate(step):
        view["gate"] = _gate(step, known)
    if step.timeout_s is not None:
        view["timeout_s"] = step.timeout_s
    if step.total_timeout_s is not None:
        view["total_timeout_s"] = step.total_timeout_s
    if step.retry.max_attempts > 1:
        view["retry"] = {
            "max_attempts": step.retry.max_attempts,
            "backoff": step.retry.backoff,
            "initial_s": step.retry.initial_s,
            "max_s": step.retry.max_s,
            "on": list(step.retry.on),
        }
    if step.for_each is not None:
        items = known_part(f"${{{{ {step.for_each.items} }}}}", known)
        view["for_each"] = {
            "items": items,
            "as": step.for_each.item_name,
            "max_parallel": step.for_each.max_parallel,
        }
    if step.postcondition is not None:
        view["postcondition"] = step.postcondition
    return view


def known_action(step: PlanStep, known: Known) -> Json:
    """What the step would do, with placeholders for what the scope does not know."""
    if step.kind == "workflow":
        return {"workflow": step.workflow, "with": known_part(step.arguments, known)}
    if step.kind != "action":
        return None
    if step.namespace != "cli":
        return {"with": known_part(step.arguments, known)}
    action: dict[str, Json] = {"argv": known_part(step.arguments["argv"], known)}
    if step.stdin is not None:
        action["stdin"] = known_part(step.stdin, known)
    if step.env:
        action["env"] = known_part(step.env, known)
    if step.cwd is not None:
        action["cwd"] = step.cwd
    return action


def _gate(step: PlanStep, known: Known) -> dict[str, Json]:
    if step.ask is not None:
        return {"kind": "ask", "prompt": step.ask.prompt, "schema": step.ask.schema}
    if step.manual is not None:
        return {"kind": "manual", "prompt": step.manual}
    if step.judgement is not None:
        asked = step.judgement
        gate = {"kind": "judgement", "prompt": known_part(asked.prompt, known)}
        optional = {"system": asked.system, "model": asked.model}
        gate |= {name: value for name, value in optional.items() if value is not None}
        return gate | {"schema": asked.schema}
    approval = step.approval
    if approval is None:
        return {"kind": "approval"}
    return {
        "kind": "approval",
        "prompt": approval.prompt,
        "preview": known_part(approval.preview, known),
        "expires": duration_text(approval.expires_s),
        "on_deny": approval.on_deny,
    }


def _known_condition(source: str, known: Known) -> bool | None:
    """Whether the step runs, when its condition reads nothing but what is known."""
    try:
        expression = parse_expression(source)
        if not all(known.covers(reference) for reference in expression.references):
            return None
        value = expression.evaluate(known.scope)
    except ExpressionError:
        return None
    return value if isinstance(value, bool) else None
