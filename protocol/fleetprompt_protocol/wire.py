"""JSON text to values and back, with the limits that keep a peer honest.

Nothing here knows JSON-RPC, except `peek`, which finds the id of a message that cannot be parsed.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, NamedTuple, NoReturn, TypeAlias

from fleetprompt_protocol.errors import InternalError, ProtocolError

Json: TypeAlias = Any
"""What JSON can hold, before a model has checked it."""

MAX_DEPTH = 64
"""Levels of nesting that a message may have (protocol.md §1)."""

PEEK_BYTES = 4096
"""How much of the two ends of an unreadable message is looked at for its id."""

_INFINITIES = (float("inf"), float("-inf"))


class _RefusedNumberError(ValueError):
    """A number that JSON text may spell but that no JSON writer could repeat."""


def _refuse_constant(name: str) -> NoReturn:
    raise _RefusedNumberError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if number in _INFINITIES:
        raise _RefusedNumberError("a number is too large")
    return number


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite)
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_encode_ascii = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


def dumps(value: Json) -> bytes:
    """Compact UTF-8 JSON on one line.

    A lone surrogate, which UTF-8 cannot hold, is written as an escape.

    Raises:
        InternalError: `protocol.internal`: the value holds something that JSON cannot (NaN, an
            object of another kind, a circle, too many levels).
    """
    try:
        try:
            return _encode(value).encode()
        except UnicodeEncodeError:
            return _encode_ascii(value).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise InternalError(
            "protocol.internal", "A value could not be written as JSON.", rpc_code=-32603
        ) from exc


def loads(data: bytes, max_depth: int = MAX_DEPTH) -> Json:
    """The value of one JSON text in UTF-8.

    Lone surrogate escapes are kept, so that `dumps` can repeat them. Of two members with the same
    name, the last one counts.

    Raises:
        ProtocolError: `protocol.parse_error` (not UTF-8, not JSON, NaN, Infinity, a number out of
            range) or `protocol.too_deep`.
    """
    try:
        value = _decoder.decode(data.decode())
    except UnicodeDecodeError as exc:
        raise _parse_error(f"byte {exc.start + 1} is not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise _parse_error(f"it goes wrong at character {exc.pos + 1}") from None
    except _RefusedNumberError as exc:
        raise _parse_error(str(exc)) from None
    except RecursionError:
        raise _too_deep(max_depth) from None
    except ValueError:
        # Python refuses to convert integers beyond sys.get_int_max_str_digits().
        raise _parse_error("a number has too many digits") from None
    # Every level opens with a bracket: few brackets, few levels. Only others are walked.
    if data.count(b"[") + data.count(b"{") > max_depth and _is_deeper(value, max_depth):
        raise _too_deep(max_depth)
    return value


def _parse_error(reason: str) -> ProtocolError:
    return ProtocolError(
        "protocol.parse_error", f"The message is not JSON: {reason}.", rpc_code=-32700
    )


def _too_deep(max_depth: int) -> ProtocolError:
    return ProtocolError(
        "protocol.too_deep",
        f"The message is nested deeper than {max_depth} levels.",
        rpc_code=-32600,
    )


def _is_deeper(value: Json, max_depth: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(max_depth):
        if not level:
            return False
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
    return bool(level)


class Peek(NamedTuple):
    """What could be told of a message that was not parsed."""

    id: str | int | None
    """Its id, when one was found."""
    is_response: bool | None
    """True for a response, False for a request or notification, None when it cannot be told."""


@cache
def _peek_patterns() -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """A token of JSON; an id as the last member of an object. Compiled when first needed."""
    token = re.compile(
        rb'[ \t\r\n]*(?:("(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z))|([{}\[\]:,])|([^\s{}\[\]:,"]+))',
        re.DOTALL,
    )
    last_id = re.compile(rb'[,{]\s*"id"\s*:\s*("[^"\\]{0,512}"|-?\d{1,20})\s*\}\s*\Z')
    return token, last_id


def peek(head: bytes, tail: bytes = b"") -> Peek:
    """The id and kind of a message from its first bytes and, for the id, its last ones.

    Looks at the members of the outermost object only. Never raises, whatever the bytes.

    Args:
        head: The first bytes of the message; `PEEK_BYTES` of them are used.
        tail: The last bytes of the message, when it was longer than `head`.
    """
    found_id: str | int | None = None
    is_response: bool | None = None
    depth = 0
    key: bytes | None = None
    previous: bytes | None = None
    token_pattern, last_id_pattern = _peek_patterns()
    for match in token_pattern.finditer(head[:PEEK_BYTES]):
        string, sign, word = match.groups()
        token: bytes = string or sign or word
        if sign in (b"{", b"["):
            depth += 1
            if depth == 1 and sign == b"[":
                return Peek(None, None)
        elif sign in (b"}", b"]"):
            depth -= 1
        elif depth == 1 and sign == b":":
            key = previous
            if key == b'"method"':
                is_response = False
            elif key in (b'"result"', b'"error"') and is_response is None:
                is_response = True
        elif depth == 1 and key == b'"id"' and sign is None and match.end() < len(head):
            found_id = _id_value(token)
        if sign == b"," and depth == 1:
            key = None
        previous = token if depth == 1 else None
    if found_id is None and tail and (last := last_id_pattern.search(tail[-PEEK_BYTES:])):
        found_id = _id_value(last[1])
    return Peek(found_id, is_response)


def _id_value(token: bytes) -> str | int | None:
    try:
        value = loads(token)
    except ProtocolError:
        return None
    return value if is_request_id(value) else None


def is_request_id(value: object) -> bool:
    """Whether JSON-RPC and this peer take the value as an id.

    A string of at most 512 characters or a whole number of at most 64 bits; 0 is one, a boolean is
    not. The bounds keep every error answer far below the frame limit.
    """
    if isinstance(value, str):
        return len(value) <= 512
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -(2**63) <= value < 2**64 and value == int(value)
