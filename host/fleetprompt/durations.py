"""How durations and instants read."""

from __future__ import annotations

from datetime import datetime


def duration_text(duration_ms: float | None) -> str:
    """A duration in at most seven cells: `35 ms`, `1.2 s`, `3m 05s`, `2h 07m`; empty for null."""
    if duration_ms is None:
        return ""
    if duration_ms < 995:
        return f"{max(0, round(duration_ms))} ms"
    seconds = duration_ms / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02}m"


def clock_text(instant: datetime) -> str:
    """The time of day in the local zone, to the second."""
    return instant.astimezone().strftime("%H:%M:%S")


def instant_text(iso: str | None) -> str:
    """An ISO 8601 instant in the local zone, to the second; the text itself when it is not one."""
    if not iso:
        return ""
    try:
        return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return iso
