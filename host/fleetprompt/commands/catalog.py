"""`list`: what a repository holds, from its files and the catalog; no agent is spawned."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt.roots import chosen_root
from fleetprompt.table import Cell, Column, table_lines

if TYPE_CHECKING:
    import argparse

    from fleetprompt_indexer.entry import Entry

_STATUS_COLOURS = {"invalid": "red", "unreadable": "red", "valid": "green"}


def add_list(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt list`."""
    parser.set_defaults(act=_list)


def _list(options: argparse.Namespace) -> int:
    from fleetprompt_agent.state_dir import state_dir_path
    from fleetprompt_indexer.listing import listed_entries
    from fleetprompt_indexer.scan import scan_root

    report = scan_root(chosen_root(options.root))
    entries = listed_entries(report, state_dir_path() / "catalog.db")
    if options.json:
        write_json(
            {
                "workflows": [entry.to_json() for entry in entries],
                "problems": [problem.to_json() for problem in report.refusals],
            }
        )
        return ExitCode.SUCCEEDED
    if not entries:
        said = f"No workflows in {report.root}/.fleetprompt/workflows."
        is_new = not report.refusals or any(p.code == "file.missing" for p in report.refusals)
        write_lines(
            [f"{said} `fleetprompt init` writes a first one." if is_new else said], sys.stderr
        )
    columns = (
        Column("WORKFLOW", least=12),
        Column("VERSION", least=5),
        Column("STATUS"),
        Column("ABOUT", least=12),
    )
    rows = [_row(entry) for entry in entries]
    write_lines(table_lines(columns, rows, width_of(sys.stdout), stdout_style()))
    write_lines(
        [f"{problem.file}: {problem.message} ({problem.code})" for problem in report.refusals],
        sys.stderr,
    )
    return ExitCode.SUCCEEDED


def _row(entry: Entry) -> tuple[Cell | str, ...]:
    # An entry's texts are escaped by the indexer.
    named = entry.name if entry.name != entry.workflow_id else ""
    about = entry.description.split("\n")[0] if entry.description else named
    return (
        Cell(entry.workflow_id, "bold"),
        entry.version or "",
        Cell(entry.status, _STATUS_COLOURS.get(entry.status, "dim")),
        about,
    )
