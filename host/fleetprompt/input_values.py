"""Turns what a person types for a workflow's inputs into values of the declared types."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_INPUTS_BYTES = 4 * 1024 * 1024
"""The longest message that an agent takes; more could never arrive."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,300}\Z")
_WORDS = {"true": True, "false": False}


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
    wanted = " or ".join(str(kind) for kind in kinds)
    raise RequestError(
        "inputs.invalid",
        f"The input `{name}` takes {wanted}; {json.dumps(text, ensure_ascii=False)} is not one.",
    )


def _as_kind(text: str, kind: str) -> tuple[Any] | None:
    """The value in a tuple, since null is one; None when the text is no value of this kind."""
    word = text.strip()
    match kind:
        case "integer":
            return (int(word),) if _INTEGER.match(word) else None
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
        return json.loads(data, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise RequestError("inputs.invalid", f"The JSON in {name} is nested too deep.") from None
    except ValueError as error:
        raise RequestError("inputs.invalid", f"The JSON in {name} is wrong: {error}.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a name is given twice in one object")
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not a JSON number")
