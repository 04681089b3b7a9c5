"""The inputs of a workflow: what it declares, and what a caller gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.schemas import schema_fault, schema_problems
from fleetprompt_agent.language.secrets_in_text import refuse_secrets
from fleetprompt_indexer.scalars import INTEGER_RANGE
from fleetprompt_indexer.vocabulary import closest
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetprompt_agent.language.diagnostics import Report
    from fleetprompt_agent.language.plan import Json, Plan

__all__ = ["check_inputs", "read_inputs", "schema_problems"]

_TYPES = ("string", "integer", "number", "boolean", "array", "object", "null")
_OTHER_TYPES = {
    "str": "string",
    "text": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "list": "array",
    "map": "object",
    "dict": "object",
}


def read_inputs(
    declared: Mapping[str, dict[str, Any]], report: Report
) -> tuple[dict[str, Json], tuple[str, ...]]:
    """The schema of each input, and the names of those that must be given."""
    schemas: dict[str, Json] = {}
    required: list[str] = []
    for name, given in declared.items():
        schema = dict(given)
        location = ("inputs", name)
        is_required = schema.get("required", False)
        if isinstance(is_required, bool):
            schema.pop("required", None)
            if is_required:
                required.append(name)
        if _report_fault(schema, location, report):
            continue
        schemas[name] = schema
        if "default" in schema:
            problems = schema_problems(schema, schema["default"])
            if problems:
                message = f"the default does not fit: {problems[0]}"
                report.add("value.default", message, (*location, "default"))
            elif is_required is True:
                message = f"`{name}` is required and has a default: one of them has no effect"
                report.add("value.default", message, (*location, "default"))
    return schemas, tuple(required)


def _report_fault(schema: dict[str, Any], location: tuple[str, str], report: Report) -> bool:
    kind = schema.get("type")
    if isinstance(kind, str) and kind not in _TYPES:
        close = _OTHER_TYPES.get(kind.lower()) or closest(kind, _TYPES)
        report.add(
            "value.schema",
            f"`{kind}` is no type of JSON",
            (*location, "type"),
            hint=f"did you mean `{close}`?" if close else f"one of {', '.join(_TYPES)}",
        )
        return True
    fault = schema_fault(schema)
    if fault is not None:
        report.add("value.schema", f"this is no JSON Schema: {fault}", location)
    return fault is not None


def check_inputs(plan: Plan, given: Mapping[str, Json]) -> dict[str, Json]:
    """The inputs of a run: those given, defaults for the others, null where there is neither.

    Args:
        plan: The compiled workflow.
        given: Name to value, as the caller sent them; nothing is converted.

    Raises:
        RequestError: `inputs.invalid`; `details.problems` lists all, `{name, message}` each.
            `inputs.secret_value`.
    """
    problems: list[dict[str, str]] = []
    for name in given:
        if name not in plan.inputs:
            close = closest(name, plan.inputs)
            known = ", ".join(f"`{known}`" for known in plan.inputs) or "none"
            hint = f"Did you mean `{close}`?" if close else f"There is {known}."
            problems.append({"name": name[:64], "message": f"There is no such input. {hint}"})
    values: dict[str, Json] = {}
    for name, schema in plan.inputs.items():
        if name in given:
            values[name] = given[name]
            found = schema_problems(schema, given[name]) or _number_problems(given[name])
            problems += [{"name": name, "message": problem} for problem in found]
        elif isinstance(schema, dict) and "default" in schema:
            values[name] = schema["default"]
        elif name in plan.required_inputs:
            message = "It is required."
            if isinstance(schema, dict) and isinstance(schema.get("description"), str):
                message += f" {schema['description'][:200]}"
            problems.append({"name": name, "message": message})
        else:
            values[name] = None
    if problems:
        listed = "; ".join(f"`{problem['name']}`: {problem['message']}" for problem in problems[:3])
        more = f" ({len(problems) - 3} more)" if len(problems) > 3 else ""
        raise RequestError(
            "inputs.invalid",
            f"The inputs of workflow `{plan.workflow_id}` do not fit. {listed}{more}",
            details={"problems": problems},
        )
    for name in given:
        refuse_secrets(f"Input `{name}`", given[name])
    return values


def _number_problems(value: Json) -> list[str]:
    """What no expression could count with, as in a file: at most one sentence."""
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, int) and part not in INTEGER_RANGE:
            return ["A number is beyond 64 bits. Pass it as text."]
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part
    return []
