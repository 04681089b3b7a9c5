"""JSON Schemas (2020-12) that people write: whether one is sound, and what a value lacks.

References that lead outside a schema are refused (the validator would read files and call
servers), and patterns are matched in linear time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from fleetprompt_agent.language.plan import canonical_json

MAX_PROBLEMS = 20
"""One wrong shape can cause thousands."""
MAX_MESSAGE_CHARACTERS = 300
"""The validator quotes values, which may be long."""


def schema_fault(schema: Any) -> str | None:
    """Why something is no schema that can be used; None when it can."""
    if not isinstance(schema, dict | bool):
        return "a schema is a map"
    import jsonschema_rs

    try:
        _validator(canonical_json(schema))
    except jsonschema_rs.ValidationError as error:
        path = _path(error.instance_path)
        if error.instance_path[-1:] == ["type"]:
            return f"{path}: {_bounded(str(error.instance))} is no type of JSON"
        return f"{path}: {_bounded(error.message)}" if path else _bounded(error.message)
    except ValueError as error:
        return _bounded(str(error))
    return None


def schema_problems(schema: Any, value: Any) -> list[str]:
    """What is wrong with a value, a sentence each; empty when it meets the schema.

    Args:
        schema: A schema without fault; with one, that is the only problem.
        value: Any JSON value.
    """
    fault = schema_fault(schema)
    if fault is not None:
        return [f"the schema cannot be used: {fault}"]
    problems: list[str] = []
    for error in _validator(canonical_json(schema)).iter_errors(value):
        path = _path(error.instance_path)
        message = _bounded(error.message)
        problems.append(f"{path}: {message}" if path else message)
        if len(problems) == MAX_PROBLEMS:
            break
    return problems


@lru_cache(maxsize=256)
def _validator(text: str) -> Any:
    """By canonical text: compiling costs more than checking."""
    import json

    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(
        json.loads(text), offline=True, pattern_options=jsonschema_rs.RegexOptions()
    )


def _path(parts: list[str | int]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _bounded(text: str) -> str:
    if len(text) <= MAX_MESSAGE_CHARACTERS:
        return text
    return text[: MAX_MESSAGE_CHARACTERS - 1] + "…"
