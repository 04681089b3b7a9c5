"""Turns what a person types for a workflow's inputs into values of the declared types."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt_indexer.scalars import INTEGER_RANGE
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_INPUTS_BYTES = 4 * 1024 * 1024
"""The longest message that an agent takes; more could never arrive."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}\Z")
_MAX_DIGITS = 20
"""Of an integer of 64 bits, with its sign."""
_WORDS = {"true": True, "false": False}
_KINDS = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list, written as JSON such as [1, 2]",
    "object": 'a map, written as JSON such as {"a": 1}',
}
"""How the types of JSON Schema are called here; `null` is written so."""

_FAULTS = {
    "Expecting value": "a value is missing",
    "Expecting property name enclosed in double quotes": "a name in double quotes is missing",
    "Expecting ':' delimiter": "a `:` is missing",
    "Expecting ',' delimiter": "a `,` or a closing bracket is missing",
    "Illegal trailing comma before end of object": "a `,` stands before the closing bracket",
    "Illegal trailing comma before end of array": "a `,` stands before the closing bracket",
    "Extra data": "more follows after its end",
    "Unterminated string starting at": "a text is not closed",
    "Invalid control character at": "a control character stands in a text",
}
"""What Python's parser says, in the words of this project."""


def read_inputs(source: str) -> dict[str, Any]:
    """The inputs that a JSON file holds; `-` is standard input.

    Raises:
        RequestError: the file cannot be read, or does not hold one JSON object.
    """
    name = "standard input" if source == "-" else source
    try:
        if source == "-":
            data = sys.stdin.buffer.read(MAX_INPUTS_BYTES + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(MAX_INPUTS_BYTES + 1)
    except OSError as error:
        raise RequestError(
            "inputs.invalid", f"The inputs in {name} cannot be read: {error.strerror}."
        ) from None
    if len(data) > MAX_INPUTS_BYTES:
        raise RequestError(
            "inputs.too_large", f"The inputs in {name} are larger than {MAX_INPUTS_BYTES} bytes."
        )
    value = _parsed(data, name)
    if not isinstance(value, dict):
        raise RequestError(
            "inputs.invalid", f'The inputs in {name} are not a JSON object like {{"name": 1}}.'
        )
    return value


def split_pairs(pairs: Sequence[str]) -> dict[str, str]:
    """What stands in `name=value` arguments, by name.

    Raises:
        RequestError: an argument has no `=`, or a name is given twice.
    """
    texts: dict[str, str] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise RequestError("inputs.invalid", f"`--input {pair}` is not of the form name=value.")
        if name in texts:
            raise RequestError("inputs.invalid", f"`--input {name}=…` is given twice.")
        texts[name] = text
    return texts


def convert_inputs(texts: Mapping[str, str], properties: Mapping[str, Any]) -> dict[str, Any]:
    """The texts as values of the types that the workflow declares.

    Args:
        texts: Text by input name.
        properties: JSON Schema property by input name. A text for an input that is not declared
            stays a text; the agent says what is wrong with it.

    Raises:
        RequestError: a text is no value of the declared type.
    """
    return {name: _converted(name, text, properties.get(name)) for name, text in texts.items()}


def _converted(name: str, text: str, declared: Any) -> Any:
    kinds = declared.get("type") if isinstance(declared, dict) else None
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list) or not kinds:
        return text
    for kind in kinds:
        if kind != "string":
            value = _as_kind(text, kind)
            if value is not None:
                return value[0]
    if "string" in kinds:
        return text
    wanted = " or ".join(_KINDS.get(kind, str(kind)) for kind in kinds)
    given = json.dumps(text, ensure_ascii=False)
    if "integer" in kinds and text.strip().lstrip("+-").isdigit():
        given += ", which is beyond 64 bits"
    raise RequestError("inputs.invalid", f"`{name}` takes {wanted}, not {given}.")


def _as_kind(text: str, kind: str) -> tuple[Any] | None:
    """The value in a tuple, since null is one; None when the text is no value of this kind."""
    word = text.strip()
    match kind:
        case "integer":
            return (int(word),) if _INTEGER.match(word) and int(word) in INTEGER_RANGE else None
        case "boolean":
            return (_WORDS[word.lower()],) if word.lower() in _WORDS else None
        case "null":
            return (None,) if word == "null" else None
        case "number":
            value = _json_or_none(word)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            return (value,) if is_number else None
        case "array":
            value = _json_or_none(word)
            return (value,) if isinstance(value, list) else None
        case "object":
            value = _json_or_none(word)
            return (value,) if isinstance(value, dict) else None
        case _:
            return None


def _json_or_none(text: str) -> Any:
    try:
        return read_value(text, "the argument")
    except RequestError:
        return None


def read_value(text: str, name: str) -> Any:
    """The JSON value that a person typed.

    Raises:
        RequestError: `inputs.invalid`: the text in what is named so is no JSON.
    """
    return _parsed(text.encode("utf-8", "surrogatepass"), name)


def _parsed(data: bytes, name: str) -> Any:
    """The JSON value in the bytes; names given twice and numbers that JSON lacks are errors."""
    try:
        text = data.decode("utf-8-sig", "surrogatepass")
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_int=_integer,
            parse_float=_float,
        )
    except RecursionError:
        raise RequestError("inputs.invalid", f"The JSON in {name} is nested too deep.") from None
    except ValueError as error:
        message = f"The JSON in {name} is wrong: {json_fault(error)}."
        raise RequestError("inputs.invalid", message) from None


def json_fault(error: ValueError) -> str:
    """Why a text is no JSON, with the place where that shows."""
    if isinstance(error, UnicodeDecodeError):
        return f"its byte {error.start + 1} is not UTF-8"
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    if not error.doc.strip():
        return "it is empty"
    fault = _FAULTS.get(error.msg, "it is malformed")
    return f"{fault} in line {error.lineno}, column {error.colno}"


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS or int(text) not in INTEGER_RANGE:
        raise ValueError(f"{text[:40]} is beyond 64 bits; write it as text")
    return int(text)


def _float(text: str) -> float:
    value = float(text)
    if value in (math.inf, -math.inf):
        raise ValueError(f"{text[:40]} is too large for a number")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is given twice in one object")
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
