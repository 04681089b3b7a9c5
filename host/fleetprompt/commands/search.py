"""`search`: find workflows in the catalog; no agent is spawned and no repository is read."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from fleetprompt.arguments import whole_number
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt.roots import chosen_root
from fleetprompt.table import Cell, Column, table_lines
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from fleetprompt_indexer.catalog import Found, Listed

_STATUS_COLOURS = {
    "valid": "green",
    "unvalidated": "dim",
    "invalid": "red",
    "unreadable": "red",
    "stale": "dim",
}

_MAX_LIMIT = 1000


def add_search(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt search`."""
    parser.add_argument(
        "words",
        metavar="WORD",
        nargs="*",
        help="parts of ids, names, descriptions, tools, agents and inputs; all must be there",
    )
    parser.add_argument("--tool", metavar="TOOL", help="only workflows that name this tool: cli:gh")
    parser.add_argument("--agent", metavar="AGENT", help="only workflows that name this agent")
    parser.add_argument(
        "--status", choices=tuple(_STATUS_COLOURS), help="only workflows of this status"
    )
    parser.add_argument(
        "--limit", metavar="N", type=whole_number(1), default=20, help="how many (20)"
    )
    parser.set_defaults(act=_search)


def _search(options: argparse.Namespace) -> int:
    from fleetprompt_agent.state_dir import open_state_dir
    from fleetprompt_indexer.catalog import Catalog

    root = _root(options)
    with Catalog(open_state_dir() / "catalog.db") as catalog:
        found = catalog.search(
            " ".join(options.words),
            tool=options.tool,
            agent=options.agent,
            status=options.status,
            root=root,
            limit=min(options.limit, _MAX_LIMIT),
        )
        is_known = root is None or root in catalog.roots()
        notices = list(catalog.notices)
    if options.json:
        workflows = [listed.to_json() for listed in found.hits]
        write_json({"workflows": workflows, "is_cut": found.is_cut})
    else:
        _show(found, with_roots=root is None)
        if not is_known:
            notices.append(f"{root} is not in the catalog. `fleetprompt index` puts it there.")
        elif not found.hits:
            notices.append("Nothing is found. `fleetprompt index` looks for what is new.")
    write_lines(notices, sys.stderr)
    return ExitCode.SUCCEEDED if found.hits else ExitCode.NOT_FOUND


def _root(options: argparse.Namespace) -> Path | None:
    """The repository to search in; None for all, outside of any."""
    if options.root is not None:
        return chosen_root(options.root)
    try:
        return chosen_root(None)
    except RequestError:
        return None


def _show(found: Found, *, with_roots: bool) -> None:
    columns = (
        Column("WORKFLOW", least=12),
        Column("STATUS"),
        Column("ABOUT", least=12),
        Column("REPOSITORY", least=12),
    )
    rows = [_row(listed, with_root=with_roots) for listed in found.hits]
    write_lines(table_lines(columns, rows, width_of(sys.stdout), stdout_style()))
    if found.is_cut:
        write_lines(["There are more; say more words, or `--limit`."], sys.stderr)


def _row(listed: Listed, *, with_root: bool) -> tuple[Cell | str, ...]:
    # An entry's texts are escaped by the indexer.
    from fleetprompt.escaping import escape_line

    entry = listed.entry
    named = entry.name if entry.name != entry.workflow_id else ""
    about = entry.description.split("\n")[0] if entry.description else named
    return (
        Cell(entry.workflow_id, "bold"),
        Cell(entry.status, _STATUS_COLOURS[entry.status]),
        about,
        escape_line(str(listed.root)) if with_root else "",
    )
