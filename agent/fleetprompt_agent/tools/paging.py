"""Cursors: where the next page of a listing begins, opaque to callers."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from fleetprompt_protocol.errors import RequestError

_END = 1 << 63
"""No position is so large, and SQLite takes no larger number."""


def encode_cursor(values: tuple[Any, ...]) -> str:
    """The position as text."""
    return base64.urlsafe_b64encode(json.dumps(values).encode()).decode().rstrip("=")


def decode_cursor(cursor: str, kinds: tuple[type, ...]) -> Any:
    """The position that `encode_cursor` was given, as a tuple of these types.

    Raises:
        RequestError: `tool.invalid_input` for anything else.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = json.loads(base64.urlsafe_b64decode(padded.encode("ascii")))
    except (ValueError, binascii.Error, RecursionError):
        values = None
    fits = (
        isinstance(values, list)
        and len(values) == len(kinds)
        and all(type(value) is kind for value, kind in zip(values, kinds, strict=True))
    )
    if not fits or any(isinstance(value, int) and not 0 <= value < _END for value in values):
        raise RequestError(
            "tool.invalid_input", "This cursor was not given by this tool; begin without one."
        )
    return tuple(values)
