"""`runs`, `show`, `cancel`: look at runs, and stop one."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import add_run_argument, connected
from fleetprompt.driving import without_tokens
from fleetprompt.durations import instant_text
from fleetprompt.escaping import shown
from fleetprompt.exit_codes import ExitCode
from fleetprompt.gate_view import gate_lines
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt.results import RunResult, RunSummary
from fleetprompt.run_view import outputs_text, summary_lines
from fleetprompt.table import Cell, Column, table_lines

if TYPE_CHECKING:
    import argparse

    from fleetprompt.style import Style


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
    columns = (
        Column("RUN"),
        Column("STATUS"),
        Column("WORKFLOW", least=8),
        Column("STARTED", is_optional=True),
    )
    style = stdout_style()
    rows = [_run_row(RunSummary.model_validate(shown(run.to_json())), style) for run in found]
    write_lines(table_lines(columns, rows, width_of(sys.stdout), style))
    return ExitCode.SUCCEEDED


def _run_row(run: RunSummary, style: Style) -> tuple[Cell | str, ...]:
    return (
        run.run_id,
        Cell(f"{style.sign(run.status)} {run.status}", style.colour_of(run.status)),
        run.workflow_id or "",
        instant_text(run.started_at),
    )


async def _show(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        result = await client.get(options.run)
    if options.json:
        write_json(without_tokens(result))
        return ExitCode.SUCCEEDED
    safe = RunResult.model_validate(shown(result.to_json()))
    width, style = width_of(sys.stdout), stdout_style()
    head = f"{safe.workflow_id or ''} {instant_text(safe.started_at)}".strip()
    write_lines([style.paint(head, "bold"), ""])
    outputs = outputs_text(safe)
    if outputs:
        write_lines([outputs])
    for gate in safe.gates:
        write_lines([*gate_lines(gate, width, style), ""])
    write_lines(summary_lines(safe, width, style))
    return ExitCode.SUCCEEDED


async def _cancel(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        run_id = (await client.get(options.run)).run_id
        answer = await client.cancel(run_id, reason=options.reason)
    if options.json:
        write_json(answer.to_json())
    elif answer.accepted:
        write_lines([f"Run {run_id} is being cancelled."])
    else:
        write_lines([f"Run {run_id} has ended before: {answer.status}."], sys.stderr)
    return ExitCode.SUCCEEDED if answer.accepted else ExitCode.FAILED
