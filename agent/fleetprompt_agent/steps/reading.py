"""Reading a program's output as the JSON that its step declares."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_protocol.errors import ProtocolError
from fleetprompt_protocol.wire import loads

if TYPE_CHECKING:
    from fleetprompt_agent.language.plan import Json

MAX_SCHEMA_ERRORS = 10
"""Violations that an error lists; one wrong shape can cause thousands."""

MAX_MESSAGE_CHARACTERS = 300
"""The validator quotes the value, which comes from outside and may be long."""


def parse_output(data: bytes) -> tuple[Json, dict[str, Json] | None]:
    """The value that a program printed, or null and the error `output.not_json`."""
    try:
        return loads(data), None
    except ProtocolError as error:
        reason = error.message.partition(": ")[2] or error.message
        return None, {
            "code": "output.not_json",
            "message": f"The step declares `output: json`, but its output is not JSON: {reason}"
            if data.strip()
            else "The step declares `output: json`, but the program printed nothing.",
            "retryable": False,
        }


def check_output(value: Json, schema: Json) -> dict[str, Json] | None:
    """The error `output.schema` when a value does not meet the schema its step declares."""
    try:
        validator = _validator(canonical_json(schema))
    except ValueError as error:
        return {
            "code": "output.schema",
            "message": "The schema of the step's output cannot be used: " + _bounded(str(error)),
            "retryable": False,
        }
    violations: list[dict[str, Json]] = []
    for found in validator.iter_errors(value):
        if len(violations) == MAX_SCHEMA_ERRORS:
            break
        path = "".join(f"[{part!r}]" for part in found.instance_path)
        violations.append({"path": path, "message": _bounded(found.message)})
    if not violations:
        return None
    first = violations[0]
    place = f"`json{first['path']}`"
    return {
        "code": "output.schema",
        "message": f"The output does not meet its schema at {place}: {first['message']}.",
        "details": {"violations": violations},
        "retryable": False,
    }


@lru_cache(maxsize=64)
def _validator(schema: str) -> Any:
    """By canonical text: compiling costs more than checking.

    Raises:
        ValueError: it is no schema, or refers to something outside itself.
    """
    import jsonschema_rs

    return jsonschema_rs.Draft202012Validator(loads(schema.encode()), retriever=_refuse_remote)


def _refuse_remote(uri: str) -> NoReturn:
    raise ValueError(f"{uri} lies outside the schema")


def _bounded(text: str) -> str:
    line = text.partition("\n")[0]
    if len(line) <= MAX_MESSAGE_CHARACTERS:
        return line
    return line[:MAX_MESSAGE_CHARACTERS] + "…"
