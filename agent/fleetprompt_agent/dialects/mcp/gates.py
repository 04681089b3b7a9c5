"""An open gate as a form for a person, and the person's answer as a decision.

The form has no defaults, so that a client that sends it back unread decides nothing. What the
system says will happen comes first and is never cut; a gate that would need cutting is left to the
terminal. Forms go to the client's user interface; a model sees neither them nor what they hold.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetprompt_protocol.redaction import escape_controls

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Decision, GateKind

Json = Any

MAX_MESSAGE = 16_000
"""Characters of a form's text: what a person may be expected to read in a dialog."""
MAX_PREVIEW = 4_000
"""The preview helps, but is no part of what is decided: it may be cut."""

_CHOICES: dict[GateKind, tuple[tuple[Decision, str], ...]] = {
    "effects": (("approve", "Approve: let it happen"), ("deny", "Deny: cancel the run")),
    "approval": (("approve", "Approve: let it happen"), ("deny", "Deny: it must not happen")),
    "manual": (("complete", "It is done"), ("skip", "It is skipped")),
    "unknown_outcome": (
        ("retry", "Run the step again"),
        ("fail", "Take it as failed"),
    ),
}
_TITLES: dict[GateKind, str] = {
    "effects": "wants to change things",
    "approval": "wants an approval",
    "ask": "wants data from you",
    "manual": "has a step for a person",
    "unknown_outcome": "has a step of which nobody can tell whether it took effect",
}
_PRIMITIVES = ("string", "integer", "number", "boolean")
_FORM_KEYS = {
    "type", "title", "description", "enum", "minLength", "maxLength", "minimum", "maximum",
    "format",
}  # fmt: skip
"""What a form's field may say (2025-11-25, Elicitation); a default is left out on purpose."""
_FORMATS = ("email", "uri", "date", "date-time")


class Question(NamedTuple):
    """A form."""

    message: str
    schema: dict[str, Json]


class Answer(NamedTuple):
    """What a person has decided."""

    decision: Decision
    response: Json = None
    reason: str | None = None


def question_of(run: dict[str, Json], gate: dict[str, Json]) -> Question | None:
    """The form for an open gate of a run's result; None when only a terminal will do."""
    kind: GateKind = gate["kind"]
    if "left_out" in gate:
        return None  # nobody decides about items that are not shown
    if kind == "ask":
        schema = _ask_form(gate.get("response_schema"))
    elif kind in _CHOICES:
        schema = _choice_form(kind)
    else:
        schema = None
    message = _message(run, gate)
    return None if schema is None or len(message) > MAX_MESSAGE else Question(message, schema)


def read_answer(gate: dict[str, Json], fields: dict[str, Json]) -> Answer | None:
    """The decision that a person's fields hold; None when they hold none."""
    kind: GateKind = gate["kind"]
    if kind == "ask":
        if _is_wrapped(gate.get("response_schema")):
            return Answer("respond", fields["answer"]) if "answer" in fields else None
        return Answer("respond", fields)
    chosen = fields.get("decision")
    for decision, _ in _CHOICES.get(kind, ()):
        if chosen == decision:
            reason = fields.get("reason")
            return Answer(decision, None, reason if isinstance(reason, str) and reason else None)
    return None


def _choice_form(kind: GateKind) -> dict[str, Json]:
    return {
        "type": "object",
        "properties": {
            "decision": {
                "type": "string",
                "title": "Decision",
                "enum": [decision for decision, _ in _CHOICES[kind]],
                "enumNames": [text for _, text in _CHOICES[kind]],
            },
            "reason": {
                "type": "string",
                "title": "Reason",
                "description": "Kept with the run.",
                "maxLength": 2000,
            },
        },
        "required": ["decision"],
    }


def _is_wrapped(schema: Json) -> bool:
    """Whether the answer is one value, which needs a field to stand in."""
    return not isinstance(schema, dict) or schema.get("type") != "object"


def _ask_form(schema: Json) -> dict[str, Json] | None:
    """A form for the wanted data; None when it is not flat, which no client could show."""
    if _is_wrapped(schema):
        field = _field(schema)
        if field is None:
            return None
        return {"type": "object", "properties": {"answer": field}, "required": ["answer"]}
    properties = {name: _field(item) for name, item in schema.get("properties", {}).items()}
    if not properties or any(field is None for field in properties.values()):
        return None
    form: dict[str, Json] = {"type": "object", "properties": properties}
    if schema.get("required"):
        form["required"] = schema["required"]
    return form


def _field(schema: Json) -> dict[str, Json] | None:
    if not isinstance(schema, dict) or schema.get("type") not in _PRIMITIVES:
        return None
    field = {key: value for key, value in schema.items() if key in _FORM_KEYS}
    if field.get("format") not in _FORMATS:
        field.pop("format", None)
    if "enum" in field and not all(isinstance(item, str) for item in field["enum"]):
        return None
    return field


def _message(run: dict[str, Json], gate: dict[str, Json]) -> str:
    kind: GateKind = gate["kind"]
    place = f", step {gate['step_path']}," if gate.get("step_path") else ""
    lines = [f"Workflow {run['workflow_id']}{place} {_TITLES.get(kind, 'waits')}."]
    if gate.get("action") is not None:
        lines += ["", "What will happen:", *_facts(gate["action"], "  ")]
    if gate.get("items"):
        lines += ["", "Steps with side effects:" if kind == "effects" else "Items:"]
        for item in gate["items"]:
            first, *rest = _facts(item, "") or ["(nothing)"]
            lines += [f"  - {first}", *(f"    {line}" for line in rest)]
    if gate.get("prompt"):
        lines += ["", "The workflow's author asks:", f"  {gate['prompt']}"]
    if gate.get("preview") is not None:
        preview = _text(gate["preview"])
        if len(preview) > MAX_PREVIEW:
            preview = f"{preview[:MAX_PREVIEW]}… (cut)"
        lines += ["", "Preview (made by earlier steps, not to be trusted):", preview]
    lines += ["", f"Run {run['run_id']}"]
    return escape_controls("\n".join(lines))


def _facts(facts: Json, indent: str) -> list[str]:
    """The facts, one a line; what is absent, false or empty is left out."""
    if not isinstance(facts, dict):
        return [indent + _text(facts)]
    lines = []
    for key, value in facts.items():
        if value is None or value is False or value in ("", [], {}) or key == "tainted":
            continue
        name = key.replace("_", " ")
        if isinstance(value, dict):
            lines += [f"{indent}{name}:", *_facts(value, f"{indent}  ")]
        else:
            lines.append(f"{indent}{name}: {'yes' if value is True else _text(value)}")
    return lines


def _text(value: Json) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return shlex.join(value)
    return json.dumps(value, ensure_ascii=False)
