"""`runs`, `show`, `cancel`: look at runs, and stop one."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import add_run_argument, connected
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines

if TYPE_CHECKING:
    import argparse


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt runs`."""
    parser.add_argument(
        "--limit", metavar="N", type=int, default=20, help="how many, the latest first (20)"
    )
    parser.set_defaults(act=lambda options: asyncio.run(_runs(options)))


def add_show(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt show`."""
    add_run_argument(parser)
    parser.set_defaults(act=lambda options: asyncio.run(_show(options)))


def add_cancel(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt cancel`."""
    add_run_argument(parser)
    parser.add_argument("--reason", metavar="TEXT", help="kept with the run")
    parser.set_defaults(act=lambda options: asyncio.run(_cancel(options)))


async def _runs(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        found = await client.runs(limit=options.limit)
    if options.json:
        write_json({"runs": [run.to_json() for run in found]})
        return ExitCode.SUCCEEDED
    if not found:
        write_lines(["There are no runs yet."], sys.stderr)
    from fleetprompt.run_view import run_table

    write_lines(run_table(found, width_of(sys.stdout), stdout_style()))
    return ExitCode.SUCCEEDED


async def _show(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        result = await client.get(options.run)
    from fleetprompt.driving import without_tokens
    from fleetprompt.run_view import whole_run_lines

    if options.json:
        write_json(without_tokens(result))
    else:
        write_lines(whole_run_lines(result, width_of(sys.stdout), stdout_style()))
    return ExitCode.SUCCEEDED


async def _cancel(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        run_id = (await client.get(options.run)).run_id
        answer = await client.cancel(run_id, reason=options.reason)
    if options.json:
        write_json(answer.to_json())
    elif answer.accepted:
        write_lines([f"Run {run_id} is {answer.status or 'being canceled'}."])
    else:
        write_lines([f"Run {run_id} has ended before: {answer.status}."], sys.stderr)
    return ExitCode.SUCCEEDED if answer.accepted else ExitCode.FAILED
