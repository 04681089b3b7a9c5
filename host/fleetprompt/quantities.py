"""Durations and sizes as a person types and reads them: `30d`, `1GB`."""

from __future__ import annotations

import re

from fleetprompt_protocol.errors import RequestError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_BYTES = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_BYTES |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}

_NUMBER = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)"


def duration_s(text: str) -> float:
    """The seconds of a duration such as `30d` or `90m`.

    Raises:
        RequestError: `arguments.invalid`.
    """
    match = re.fullmatch(rf"{_NUMBER}\s*([smhdw])", text.strip(), re.IGNORECASE)
    if match is None:
        raise RequestError(
            "arguments.invalid",
            f"`{text}` is no duration; write a number with s, m, h, d or w, such as 30d.",
        )
    return min(float(match[1]) * _SECONDS[match[2].lower()], 1e10)


def size_bytes(text: str) -> int:
    """The bytes of a size such as `1GB`, `500 MiB` or `4096`.

    Raises:
        RequestError: `arguments.invalid`.
    """
    match = re.fullmatch(rf"{_NUMBER}\s*([kmgt]?i?b|)", text.strip(), re.IGNORECASE)
    factor = _BYTES.get(match[2].lower()) if match is not None else None
    if match is None or factor is None:
        raise RequestError(
            "arguments.invalid",
            f"`{text}` is no size; write a number with B, KB, MB, GB or TB, such as 1GB.",
        )
    return int(float(match[1]) * factor)


def size_text(size: int) -> str:
    """The size in at most eight cells: `812 B`, `1.4 MB`."""
    value, unit = float(size), "B"
    for larger in ("KB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
