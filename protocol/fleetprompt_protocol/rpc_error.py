"""The one place where an exception becomes a JSON-RPC error, and where one becomes an exception.

Texts that a library or Python wrote never pass: what is not a `FleetPromptError` becomes
`protocol.internal` with a reference that the log can be searched for.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.errors import (
    CODES,
    FleetPromptError,
    InternalError,
    JournalError,
    OperatorError,
    ProtocolError,
    RequestError,
    WorkflowError,
)

if TYPE_CHECKING:
    from fleetprompt_protocol.wire import Json

RPC_NUMBERS: dict[str, int] = {
    "protocol.parse_error": -32700,
    "protocol.invalid_request": -32600,
    "protocol.too_deep": -32600,
    "protocol.duplicate_id": -32600,
    "protocol.method_not_found": -32601,
    "protocol.invalid_params": -32602,
    "tool.invalid_input": -32602,
    "protocol.internal": -32603,
    "protocol.canceled": -32800,
}
"""The codes that have a JSON-RPC number of their own; every other code travels as -32000."""

_CODES_BY_NUMBER = {
    -32700: "protocol.parse_error",
    -32600: "protocol.invalid_request",
    -32601: "protocol.method_not_found",
    -32602: "protocol.invalid_params",
    -32800: "protocol.canceled",
}

_KINDS: dict[str, type[FleetPromptError]] = {
    "workflow": WorkflowError,
    "inputs": RequestError,
    "tool": RequestError,
    "run": RequestError,
    "gate": RequestError,
    "plan": RequestError,
    "protocol": ProtocolError,
    "journal": JournalError,
    "catalog": OperatorError,
    "state": OperatorError,
    "root": OperatorError,
    "supervisor": OperatorError,
}

_MAX_FOREIGN_TEXT = 2000
"""Characters of a peer's message that are kept: enough for a person, bounded for a log."""


def new_ref() -> str:
    """A short random reference that ties an error on the wire to a line in the log."""
    return os.urandom(6).hex()


def internal_error(ref: str) -> InternalError:
    """What a peer is told of a fault of ours."""
    return InternalError(
        "protocol.internal",
        f"Something went wrong inside; the log on standard error has it under {ref}.",
        details={"ref": ref},
        rpc_code=RPC_NUMBERS["protocol.internal"],
    )


def to_rpc_error(exc: FleetPromptError) -> dict[str, Json]:
    """The JSON-RPC error object: `{code, message, data: {code, message, details?, …}}`."""
    number = exc.rpc_code if exc.rpc_code != -32000 else RPC_NUMBERS.get(exc.code, -32000)
    return {"code": number, "message": exc.message, "data": exc.to_data()}


def from_rpc_error(error: object) -> FleetPromptError:
    """The exception that a peer's error object stands for; never raises, whatever it holds.

    A code that is not ours becomes `protocol.peer_error` with what the peer said in `details`.
    """
    fields: dict[str, Json] = error if isinstance(error, dict) else {}
    data: dict[str, Json] = fields["data"] if isinstance(fields.get("data"), dict) else {}
    number = fields.get("code")
    if not isinstance(number, int) or isinstance(number, bool):
        number = -32000
    code = data.get("code")
    text = data.get("message") if isinstance(data.get("message"), str) else fields.get("message")
    message = text[:_MAX_FOREIGN_TEXT] if isinstance(text, str) and text else None
    details = data["details"] if isinstance(data.get("details"), dict) else None
    if not isinstance(code, str) or code not in CODES:
        details = {"rpc_code": number}
        if isinstance(code, str):
            details["code"] = code[:_MAX_FOREIGN_TEXT]
        code = _CODES_BY_NUMBER.get(number, "protocol.peer_error")
    kind = _KINDS.get(code.partition(".")[0], FleetPromptError)
    return (InternalError if code == "protocol.internal" else kind)(
        code,
        message or CODES[code],
        details=details,
        retryable=data.get("retryable") is True,
        where=data["where"] if isinstance(data.get("where"), dict) else None,
        rpc_code=number,
    )


def invalid_params(exc: Any, *, code: str = "protocol.invalid_params") -> RequestError:
    """A pydantic `ValidationError` as an error that names each wrong field and quotes no input.

    Args:
        exc: The `pydantic.ValidationError`.
        code: `protocol.invalid_params` for an envelope, `tool.invalid_input` for a tool's input.

    Returns:
        An error whose `details.problems` lists `{path, message}`, at most 20 of them.
    """
    errors = exc.errors(include_url=False, include_context=True, include_input=False)
    problems = [{"path": _path(error["loc"]), "message": _plain(error)} for error in errors[:20]]
    told = [
        # A rule about several fields names them itself.
        problem["message"] if error["type"] == _RULE else _at(problem["path"], problem["message"])
        for problem, error in zip(problems[:3], errors[:3], strict=True)
    ]
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    return RequestError(
        code,
        f"The parameters are not valid: {'; '.join(told)}{more}.",
        details={"problems": problems},
        rpc_code=RPC_NUMBERS.get(code, -32000),
    )


def _at(path: str, message: str) -> str:
    return f"{path or 'the value'}: {message}"


def broken_rule(message: str) -> Exception:
    """What a validator of a model raises, so that `invalid_params` gives its message.

    Args:
        message: What is wrong and what to give instead; never anything of the input.
    """
    from pydantic_core import PydanticCustomError

    return PydanticCustomError(_RULE, "{message}", {"message": message})


def _path(location: tuple[int | str, ...]) -> str:
    """`inputs.files[2].name`; parts that come from the caller's keys are cut."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part[:60]}" if path else part[:60]
    return path


_RULE = "fleetprompt_rule"

_PLAIN: dict[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "none_required": "must be null",
    "string_unicode": "must be text",
}

_BOUNDS: dict[str, tuple[str, str]] = {
    "string_too_short": ("must have at least {} characters", "min_length"),
    "string_too_long": ("must have at most {} characters", "max_length"),
    "too_short": ("must have at least {} entries", "min_length"),
    "too_long": ("must have at most {} entries", "max_length"),
    "greater_than": ("must be greater than {}", "gt"),
    "greater_than_equal": ("must be at least {}", "ge"),
    "less_than": ("must be less than {}", "lt"),
    "less_than_equal": ("must be at most {}", "le"),
    "string_pattern_mismatch": ("must match {}", "pattern"),
    "literal_error": ("must be {}", "expected"),
    "enum": ("must be {}", "expected"),
    "union_tag_not_found": ("needs the field {}", "discriminator"),
    "union_tag_invalid": ("must be one of {}", "expected_tags"),
}


def _plain(error: dict[str, Any]) -> str:
    """The problem in our words; the bounds in it come from our models, never from the input."""
    kind = error["type"]
    if kind in _PLAIN:
        return _PLAIN[kind]
    if kind == _RULE:
        return str(error["msg"])
    if kind in _BOUNDS:
        text, bound = _BOUNDS[kind]
        return text.format(error.get("ctx", {}).get(bound, "its limit"))
    return "is not valid"
