"""`runs`, `show`, `cancel`: look at runs, stop one, forget old ones."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.arguments import whole_number
from fleetprompt.connection import add_run_argument, connected
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt runs`."""
    parser.add_argument(
        "action", metavar="prune", nargs="?", choices=("prune",), help="forget old runs"
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=whole_number(1),
        default=20,
        help="how many, the latest first (20)",
    )
    parser.add_argument(
        "--older-than", metavar="DURATION", help="prune: those that ended so long ago (30d)"
    )
    parser.add_argument(
        "--max-bytes", metavar="SIZE", help="prune: then the oldest, until the rest fits (1GB)"
    )
    parser.add_argument("--dry-run", action="store_true", help="prune: only show which they are")
    parser.set_defaults(act=_act)


def _act(options: argparse.Namespace) -> int:
    if options.action == "prune":
        from fleetprompt.quantities import duration_s, size_bytes

        older = None if options.older_than is None else duration_s(options.older_than)
        most = None if options.max_bytes is None else size_bytes(options.max_bytes)
        return asyncio.run(_prune(options, older, most))
    if options.older_than is not None or options.max_bytes is not None or options.dry_run:
        raise RequestError(
            "arguments.invalid",
            "--older-than, --max-bytes and --dry-run belong to `fleetprompt runs prune`.",
        )
    return asyncio.run(_runs(options))


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


async def _prune(options: argparse.Namespace, older: float | None, most: int | None) -> int:
    async with connected(options) as client:
        result = await client.prune(older_than_s=older, max_bytes=most, dry_run=options.dry_run)
    if options.json:
        write_json(result.to_json())
        return ExitCode.SUCCEEDED
    from fleetprompt.quantities import size_text
    from fleetprompt.run_view import pruned_table

    write_lines(pruned_table(result.runs, width_of(sys.stdout), stdout_style()))
    done = "would be forgotten" if result.dry_run else "forgotten"
    counted = f"{result.pruned} run{'' if result.pruned == 1 else 's'}"
    summary = f"{counted} {done} ({size_text(result.pruned_bytes)}); "
    summary += f"{result.kept} kept ({size_text(result.kept_bytes)})."
    left = [f"Run {run} cannot be read and was left alone." for run in result.unreadable]
    write_lines([summary, *left], sys.stderr)
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
