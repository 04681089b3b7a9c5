"""`replay`: does what a run's journal says follow from itself?"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

from fleetprompt.cells import fold
from fleetprompt.connection import add_run_argument, connected
from fleetprompt.escaping import shown
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines

if TYPE_CHECKING:
    import argparse

    from fleetprompt.results import ReplayResult


def add_replay(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt replay`."""
    add_run_argument(parser)
    parser.set_defaults(act=lambda options: asyncio.run(_replay(options)))


async def _replay(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        result = await client.replay(options.run)
    if options.json:
        write_json(result.to_json())
    else:
        write_lines(_lines(result, width_of(sys.stdout)))
    return ExitCode.SUCCEEDED if result.ok else ExitCode.FAILED


def _lines(result: ReplayResult, width: int) -> list[str]:
    style = stdout_style()
    state = "succeeded" if result.ok else "failed"
    sign = style.paint(style.sign(state), style.colour_of(state))
    if result.ok:
        text = (
            f"{result.events} events: {result.decided} follow from what stands before them, "
            f"{result.outside} came from outside. The run is {result.status}, as its journal says."
        )
        return [f"{sign} {line}" if not n else f"  {line}" for n, line in _numbered(text, width)]
    difference = shown(result.difference or {})
    place = f" of step {difference['step_path']}" if "step_path" in difference else ""
    text = (
        f"Event {difference.get('seq')} ({difference.get('type')}{place}) does not follow: "
        f"{difference.get('why')}."
    )
    lines = [f"{sign} {line}" if not n else f"  {line}" for n, line in _numbered(text, width)]
    for name in ("expected", "found"):
        if name in difference:
            value = json.dumps(difference[name], ensure_ascii=False)
            lines += [f"  {line}" for line in fold(f"{name}: {value}", width - 2)]
    return lines


def _numbered(text: str, width: int) -> list[tuple[int, str]]:
    return list(enumerate(fold(text, width - 2)))
