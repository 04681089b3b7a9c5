"""Durations as people write them: `30s`, `1h30m`, `500ms`, `7d`."""

from __future__ import annotations

import re

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
PATTERN = r"^([0-9]{1,9}(\.[0-9]{1,3})?(ms|s|m|h|d))+$"
"""What a duration looks like, as a JSON Schema pattern."""
_WHOLE = re.compile(PATTERN.replace("$", r"\Z"))
_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")

MAX_DURATION_S = 366 * 86_400.0
"""A year: more is a mistake in the unit."""


def parse_duration(text: str) -> float | None:
    """Seconds, or None when the text is no duration above zero and below a year."""
    if len(text) > 64 or not _WHOLE.match(text):
        return None
    seconds = sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text))
    return seconds if 0 < seconds <= MAX_DURATION_S else None


def duration_text(seconds: float) -> str:
    """A duration in the largest units that fit: `1h30m`."""
    if seconds < 1:
        return f"{seconds * 1000:g}ms"
    parts: list[str] = []
    for unit in ("d", "h", "m"):
        count, seconds = divmod(seconds, _UNITS_S[unit])
        if count:
            parts.append(f"{count:g}{unit}")
    if seconds:
        parts.append(f"{seconds:g}s")
    return "".join(parts)
