"""`index`: bring the catalog of workflows up to date; nothing is executed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import write_json, write_lines
from fleetprompt.roots import chosen_root
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from fleetprompt_indexer.catalog import Catalog
    from fleetprompt_indexer.index import IndexSummary


def add_index(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt index`."""
    parser.add_argument(
        "folders",
        metavar="FOLDER",
        nargs="*",
        help="repositories, or folders that hold many (default: all that were given before)",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="look for new repositories in folders that were looked through before",
    )
    parser.set_defaults(act=_index)


def _index(options: argparse.Namespace) -> int:
    from fleetprompt_agent.state_dir import open_state_dir
    from fleetprompt_indexer.catalog import Catalog
    from fleetprompt_indexer.index import index_roots

    with Catalog(open_state_dir() / "catalog.db") as catalog:
        summary = index_roots(catalog, _folders(options, catalog), full=options.full)
    if options.json:
        write_json(summary.to_json())
    else:
        _show(summary)
    return ExitCode.SUCCEEDED


def _folders(options: argparse.Namespace, catalog: Catalog) -> list[Path]:
    """What was asked for; the present repository when nothing was, now or before."""
    folders = [Path(folder) for folder in options.folders]
    for folder in folders:
        if not folder.is_dir():
            raise RequestError("root.not_found", f"{folder} is not a directory.")
    if options.root is not None or not (folders or catalog.scan_roots()):
        folders.append(chosen_root(options.root))
    return folders


def _show(summary: IndexSummary) -> None:
    found = _count(summary.found, "workflow")
    roots = _count(summary.roots, "repository", "repositories")
    news = f"{summary.discovered} new, {summary.changed} changed, {summary.removed} removed"
    write_lines([f"{found} in {roots}: {news}."])
    refused = [f"{count} unusable: {code}" for code, count in summary.refused.items()]
    if summary.roots_gone:
        refused.append(f"{_count(summary.roots_gone, 'repository', 'repositories')} not there")
    write_lines([*refused, *summary.notices], sys.stderr)


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
