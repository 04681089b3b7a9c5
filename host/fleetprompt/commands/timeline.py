"""`timeline`: what happened, in order."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import connected
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from fleetprompt.client import Client
    from fleetprompt.results import TimelineEvent


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
    from fleetprompt.timeline_view import timeline_table

    write_lines(timeline_table(events, width_of(sys.stdout), stdout_style()))
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
