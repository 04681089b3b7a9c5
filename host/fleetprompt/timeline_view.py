"""How a timeline reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt.durations import duration_text, instant_text
from fleetprompt.escaping import shown
from fleetprompt.results import TimelineEvent
from fleetprompt.table import Column, table_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt.style import Style


def timeline_table(events: Sequence[TimelineEvent], width: int, style: Style) -> list[str]:
    """One line for each event; runs are named when there are several."""
    columns = (
        Column("AT"),
        Column("RUN", least=6, is_optional=True),
        Column("EVENT"),
        Column("STEP", least=8),
        Column("WHAT", least=8),
    )
    has_several = len({event.run_id for event in events}) > 1
    rows = [
        (
            instant_text(event.at),
            event.run_id if has_several else "",
            event.type,
            event.step_path or "",
            _what(event),
        )
        for event in (TimelineEvent.model_validate(shown(item.to_json())) for item in events)
    ]
    return table_lines(columns, rows, width, style)


def _what(event: TimelineEvent) -> str:
    parts: list[str] = []
    if event.attempt is not None and event.attempt > 1:
        parts.append(f"attempt {event.attempt}")
    for name in ("kind", "decision", "channel", "reason"):
        value = event.data.get(name)
        if isinstance(value, str) and value:
            parts.append(value)
    duration = event.data.get("duration_ms")
    if isinstance(duration, int | float):
        parts.append(duration_text(duration))
    error = event.data.get("error")
    if isinstance(error, dict):
        parts.append(f"{error.get('code')}: {error.get('message')}")
    return ", ".join(parts)
