"""The JSON Schema (2020-12) of the workflow file, for editors and for `fleetprompt schema`.

It is made from the models; what each field means, and whether it is supported, comes from the
vocabulary. It says less than the loader checks, and never refuses what the loader takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.actions.reading import AGENT_TOOL
from fleetprompt_agent.language.durations import PATTERN, duration_text
from fleetprompt_indexer.vocabulary import (
    ACTION_FIELDS,
    AGENT_TOOLS,
    NAMESPACES,
    STEP_FIELDS,
    WORKFLOW_FIELDS,
    namespace_names,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fleetprompt_indexer.vocabulary import Field

SCHEMA_ID = "https://fleetprompt.dev/schema/workflow.json"
"""A name, not an address: nothing is fetched from it."""

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT_VALUES = {"type": ["string", "number", "boolean"]}
"""Variables are the text that is written, whatever YAML makes of it."""

_INPUT: dict[str, Any] = {
    "type": "object",
    "description": "A JSON Schema property, plus `required: true`",
    "properties": {
        "type": {"enum": ["string", "integer", "number", "boolean", "array", "object", "null"]},
        "required": {"description": "Whether a caller must give it"},
        "default": {"description": "Its value when a caller does not give it"},
        "description": {"type": "string", "description": "What it is, for people"},
        "enum": {"type": "array", "description": "The values that are allowed"},
        "pattern": {"type": "string", "description": "A regular expression for text"},
        "minimum": {"type": "number"},
        "maximum": {"type": "number"},
        "minLength": {"type": "integer"},
        "maxLength": {"type": "integer"},
        "items": {"description": "The schema of a list's items"},
    },
}


def workflow_schema(also_supported: Collection[str] = ()) -> dict[str, Any]:
    """The schema of a workflow file, with the fields that are supported now.

    Args:
        also_supported: Fields, and namespaces as `http:`, to show although they are not enforced.
    """
    from fleetprompt_agent.language.models import Workflow

    made: dict[str, Any] = _tidy(Workflow.model_json_schema(by_alias=True))
    definitions: dict[str, Any] = made.pop("$defs")
    step: dict[str, Any] = definitions["Step"]
    made["properties"]["version"]["type"] = ["string", "number"]
    definitions["Input"] = _INPUT
    inputs = made["properties"]["inputs"]
    inputs["patternProperties"] = {
        pattern: {"$ref": "#/$defs/Input"} for pattern in inputs["patternProperties"]
    }
    step["properties"]["command"]["pattern"] = _namespace_pattern(also_supported)
    for owner, table in ((made, WORKFLOW_FIELDS), (step, STEP_FIELDS)):
        variables = owner["properties"]["env"]["patternProperties"]
        owner["properties"]["env"]["patternProperties"] = dict.fromkeys(variables, _TEXT_VALUES)
        _describe(owner, table, also_supported)
    step["anyOf"] = [
        {"required": [name]} for name in (*ACTION_FIELDS, "approval") if name in step["properties"]
    ]
    step["properties"]["command"]["description"] += _namespaces(also_supported)
    kept = _reached(made, definitions)
    return {
        "$schema": _DRAFT,
        "$id": SCHEMA_ID,
        "title": "FleetPrompt workflow",
        **made,
        "$defs": {name: definitions[name] for name in definitions if name in kept},
    }


def _tidy(schema: Any) -> Any:
    """Without titles, null and empty defaults; a map of names allows no others."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        inner = {name: _tidy(item) for name, item in schema["properties"].items()}
        schema = {**schema, "properties": inner}
    kept = {
        key: value if key in ("properties", "default", "enum", "const") else _tidy(value)
        for key, value in schema.items()
        if key != "title" and not (key == "default" and value in (None, {}, []))
    }
    if kept.get("pattern") == PATTERN and isinstance(kept.get("default"), float):
        kept["default"] = duration_text(kept["default"])
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    choices = [choice for choice in kept.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        kept.pop("anyOf")
        kept = {**choices[0], **kept}
    elif choices:
        kept["anyOf"] = choices
    return kept


def _describe(
    owner: dict[str, Any], table: Mapping[str, Field], also_supported: Collection[str]
) -> None:
    """Give each field its meaning, add aliases, and take away what is not supported."""
    properties: dict[str, Any] = owner["properties"]
    for field in table.values():
        name = field.canonical or field.name
        if not (table[name].supported or name in also_supported):
            properties.pop(field.name, None)
            continue
        if name not in properties:
            continue
        described = {**properties[name], "description": field.description}
        if field.canonical:
            described["deprecated"] = True
        if field.example and not field.canonical:
            described["description"] += f", such as `{field.example}`"
        properties[field.name] = described


def _namespace_pattern(also_supported: Collection[str]) -> str:
    """The namespaces in any case; the patterns of JSON Schema have no flags."""
    names = [*namespace_names(), *(name[:-1] for name in also_supported if name.endswith(":"))]
    spelled = ["".join(f"[{letter}{letter.upper()}]" for letter in name) for name in names]
    return rf"^\s*({'|'.join((*spelled, AGENT_TOOL))})(\s|$)"


def _namespaces(also_supported: Collection[str]) -> str:
    lines = [
        f"\n- `{namespace.form}`: {namespace.meaning}"
        for namespace in (*NAMESPACES.values(), AGENT_TOOLS)
        if namespace.supported or f"{namespace.name}:" in also_supported
    ]
    return "\n" + "".join(lines)


def _reached(schema: Any, definitions: Mapping[str, Any]) -> set[str]:
    """The definitions that something refers to."""
    found: set[str] = set()
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, list):
            pending += part
        elif isinstance(part, dict):
            pending += part.values()
            name = str(part.get("$ref", "")).removeprefix("#/$defs/")
            if name in definitions and name not in found:
                found.add(name)
                pending.append(definitions[name])
    return found
