"""`timeline`: what happened, in order."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import connected
from fleetprompt.durations import duration_text, instant_text
from fleetprompt.escaping import shown
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt.results import TimelineEvent
from fleetprompt.table import Column, table_lines
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from fleetprompt.client import Client


def add_timeline(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt timeline`."""
    parser.add_argument(
        "id",
        metavar="ID",
        nargs="?",
        default="",
        help="a correlation id, or a run's id or a prefix of it (default: the latest run)",
    )
    parser.set_defaults(act=lambda options: asyncio.run(_timeline(options)))


async def _timeline(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        events = await _events(client, options.id)
    if options.json:
        write_json({"events": [event.to_json() for event in events]})
        return ExitCode.SUCCEEDED
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
    write_lines(table_lines(columns, rows, width_of(sys.stdout), stdout_style()))
    return ExitCode.SUCCEEDED


async def _events(client: Client, given: str) -> tuple[TimelineEvent, ...]:
    """All runs under a correlation id; else the one run that the id names."""
    if given:
        try:
            return await client.timeline(correlation_id=given)
        except RequestError as error:
            # Anything but a whole correlation id may still be the prefix of a run's id.
            if error.code not in ("run.not_found", "tool.invalid_input"):
                raise
    return await client.timeline(run_id=given)


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
