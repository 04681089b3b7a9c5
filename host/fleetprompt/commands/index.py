"""`index`: bring the catalog of workflows up to date, and keep it so; nothing is executed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stderr_style, write_json, write_json_line, write_lines
from fleetprompt.roots import chosen_root
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse
    import threading

    from fleetprompt.index_meter import IndexMeter
    from fleetprompt_indexer.catalog import Catalog
    from fleetprompt_indexer.index import Change, IndexSummary


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
    parser.add_argument(
        "--watch", action="store_true", help="then follow changes until Ctrl-C, a line for each"
    )
    parser.set_defaults(act=_index)


def _index(options: argparse.Namespace) -> int:
    from fleetprompt_agent.state_dir import open_state_dir
    from fleetprompt_indexer.catalog import Catalog
    from fleetprompt_indexer.index import index_roots

    with Catalog(open_state_dir() / "catalog.db") as catalog:
        folders = _folders(options, catalog)
        meter = _meter(options)
        try:
            summary = index_roots(
                catalog, folders, options.full, meter.update if meter is not None else None
            )
        except KeyboardInterrupt:
            _clear(meter)
            said = "Interrupted. What was found so far is kept; the next run goes on from there."
            write_lines([said], sys.stderr)
            return ExitCode.CANCELED
        finally:
            _clear(meter)
        _show(summary, options)
        return _follow(options, catalog, folders) if options.watch else ExitCode.SUCCEEDED


def _folders(options: argparse.Namespace, catalog: Catalog) -> list[Path]:
    """What was asked for; the present repository when nothing was, now or before.

    Raises:
        RequestError: `root.not_found`, when one cannot be looked through.
    """
    folders = [Path(folder) for folder in options.folders]
    for folder in folders:
        try:
            os.scandir(folder).close()
        except FileNotFoundError:
            raise RequestError("root.not_found", f"There is no {folder}.") from None
        except NotADirectoryError:
            raise RequestError("root.not_found", f"{folder} is not a directory.") from None
        except OSError as error:
            said = f"{folder} cannot be looked through: {error.strerror}."
            raise RequestError("root.not_found", said) from None
    if options.root is not None or not (folders or catalog.scan_roots()):
        folders.append(chosen_root(options.root))
    return folders


def _meter(options: argparse.Namespace) -> IndexMeter | None:
    """What shows how far the run is; nothing for programs."""
    if options.json or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        return None
    from fleetprompt.index_meter import IndexMeter

    return IndexMeter(sys.stderr, stderr_style())


def _clear(meter: IndexMeter | None) -> None:
    if meter is not None:
        meter.clear()


def _show(summary: IndexSummary, options: argparse.Namespace) -> None:
    if options.json:
        (write_json_line if options.watch else write_json)(summary.to_json())
        return
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


def _follow(options: argparse.Namespace, catalog: Catalog, folders: list[Path]) -> int:
    """Write a line for each change until Ctrl-C, or until nobody reads them any more."""
    import signal
    import threading

    from fleetprompt_indexer.index import is_within
    from fleetprompt_indexer.watch import follow_roots

    stop = threading.Event()

    def interrupt(_number: int, _frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second one ends us at once

    tops = [os.path.realpath(os.fsencode(folder)) for folder in folders]
    tops = tops or list(catalog.scan_roots())
    roots = sorted(path for path in catalog.known_paths() if is_within(path, tops))
    before = signal.signal(signal.SIGINT, interrupt)
    is_read = threading.Event()
    is_read.set()
    threading.Thread(target=_wait_for_reader, args=(stop, is_read), daemon=True).start()
    try:
        is_told = False
        for changes in follow_roots(
            catalog,
            roots,
            stop,
            on_notice=lambda notice: write_lines([notice], sys.stderr),
            tops=tops,
        ):
            for change in changes:
                _show_change(change, options)
            if not is_told:
                is_told = True
                said = f"Watching {_count(len(roots), 'repository', 'repositories')}; Ctrl-C ends."
                write_lines([said], sys.stderr)
    finally:
        stop.set()
        signal.signal(signal.SIGINT, before)
    if not is_read.is_set():
        raise BrokenPipeError
    return ExitCode.CANCELED


def _show_change(change: Change, options: argparse.Namespace) -> None:
    if options.json:
        write_json_line({"kind": change.kind, **change.to_json(), "refused": change.refused})
        return
    place = change.to_json()
    said = f"{change.kind:<10}  {change.workflow_id}  {place['root']}/{place['file_path']}"
    write_lines([f"{said}  unusable: {change.refused}" if change.refused else said])


def _wait_for_reader(stop: threading.Event, is_read: threading.Event) -> None:
    """Set `stop` when whoever read standard output has gone; nothing else would tell."""
    import select

    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)  # errors are told of without being asked for
    while not stop.is_set():
        if any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(500)):
            is_read.clear()
            stop.set()
