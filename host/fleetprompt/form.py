"""What a gate wants to know, as a form: one value, or named ones, each asked for by itself.

Only flat schemas make a form. Whether an answer fits in the end is the agent's to say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from fleetprompt.cells import fold
from fleetprompt.escaping import escape_line, shown
from fleetprompt.input_values import convert_inputs
from fleetprompt_protocol.errors import RequestError

_KINDS = frozenset({"string", "integer", "number", "boolean", "null", "array"})
"""What can be typed on one line; a list as JSON."""


@dataclass(frozen=True, slots=True)
class Field:
    """One value that is asked for."""

    name: str
    kinds: tuple[str, ...]
    """JSON Schema types; empty when the choices say it all."""
    choices: tuple[Any, ...] = ()
    """The only values that fit; empty for any of the kinds."""
    description: str = ""
    is_required: bool = True
    default: tuple[Any] | None = None
    """What an empty answer means, in a tuple since null is a value."""

    @property
    def label(self) -> str:
        """Its name and what it takes, on one line: `count (integer, default 3)`."""
        facts = [" or ".join(self.kinds) or "choice"]
        if "array" in self.kinds:
            facts.append("as JSON")
        if self.default is not None:
            facts.append(f"default {_text(self.default[0])}")
        elif not self.is_required:
            facts.append("optional")
        return escape_line(f"{self.name} ({', '.join(facts)})")

    def value_of(self, text: str) -> Any:
        """The value that a person typed.

        Raises:
            RequestError: `inputs.invalid`: it is none of the choices or kinds.
        """
        if not self.choices:
            return convert_inputs({self.name: text}, {self.name: {"type": list(self.kinds)}})[
                self.name
            ]
        for choice in self.choices:
            if text == _text(choice):
                return choice
        choices = ", ".join(_text(choice) for choice in self.choices)
        raise RequestError("inputs.invalid", f"`{self.name}` is one of {choices}.")


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that make up an answer."""

    fields: tuple[Field, ...]
    is_object: bool
    """Whether the answer is an object of the fields, or the value of the only one."""


def form_of(schema: Any) -> Form | None:
    """The form for answers that meet the schema; None when it takes more than one line a value."""
    if not isinstance(schema, dict):
        return None
    if schema.get("type") != "object":
        field = _field("answer", schema, is_required=True)
        return None if field is None else Form((field,), is_object=False)
    properties, required = schema.get("properties"), schema.get("required", [])
    if not (isinstance(properties, dict) and properties and isinstance(required, list)):
        return None
    if not all(isinstance(name, str) and name in properties for name in required):
        return None
    fields = [_field(name, item, is_required=name in required) for name, item in properties.items()]
    known = tuple(field for field in fields if field is not None)
    return Form(known, is_object=True) if len(known) == len(fields) else None


def _field(name: str, schema: Any, *, is_required: bool) -> Field | None:
    if not isinstance(schema, dict):
        return None
    given = schema.get("type", [])
    named = given if isinstance(given, list) else [given]
    kinds = tuple(kind for kind in named if isinstance(kind, str) and kind in _KINDS)
    choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if not isinstance(choices, list) or not (kinds or choices) or len(kinds) < len(named):
        return None
    description = schema.get("description")
    return Field(
        name,
        kinds,
        tuple(choices),
        description if isinstance(description, str) else "",
        is_required,
        (schema["default"],) if "default" in schema else None,
    )


def field_lines(field: Field, width: int) -> list[str]:
    """What a person should know of the field, as lines of at most `width` cells."""
    lines = fold(field.label, width)
    if field.description:
        lines += [f"  {line}" for line in fold(shown(field.description), width - 2)]
    for choice in field.choices:
        first, *rest = fold(shown(_text(choice)), width - 4)
        lines += [f"  - {first}", *(f"    {line}" for line in rest)]
    return lines


def schema_lines(schema: Any, width: int) -> list[str]:
    """What an answer must be: the fields of a form, or the schema itself."""
    form = form_of(schema)
    if form is None:
        text = shown(json.dumps(schema, ensure_ascii=False))
        return ["JSON of this schema:", *(f"  {line}" for line in fold(text, width - 2))]
    return [line for field in form.fields for line in field_lines(field, width)]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
