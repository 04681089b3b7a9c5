"""JSON values as text, many small ones quickly."""

from __future__ import annotations

import json
from json import encoder as _json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def text_encoder(*, sort_keys: bool, ensure_ascii: bool) -> Callable[[Any], str]:
    """A function that gives the text of a JSON value, without spaces; it refuses NaN.

    `json.dumps` makes its C encoder anew for each value, which takes longer than a small value
    itself (measured: 7 µs against 4 µs for an event). This one is made once.
    """
    make = getattr(_json, "c_make_encoder", None)
    if make is None:
        return json.JSONEncoder(
            separators=(",", ":"), sort_keys=sort_keys, ensure_ascii=ensure_ascii, allow_nan=False
        ).encode
    quote = _json.encode_basestring_ascii if ensure_ascii else _json.encode_basestring
    encode = make(None, _refuse, quote, None, ":", ",", sort_keys, False, False)

    def text(value: Any) -> str:
        if type(value) is str:
            quoted: str = quote(value)
            return quoted
        return "".join(encode(value, 0))

    return text


def _refuse(value: Any) -> Any:
    raise TypeError(f"{type(value).__name__} is not JSON")
