"""The catalog: what is known of the workflows of many roots, kept in one SQLite file.

Everything in it can be made again from the repositories. Writers take turns (SQLite's write lock,
one batch at a time), readers never wait. A file that turns out to be damaged is set aside and the
catalog begins anew, with a notice; the next index run fills it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fleetprompt_indexer.catalog_file import (
    BUSY_TIMEOUT_S,
    is_busy,
    is_corruption,
    open_catalog_file,
    replace_catalog_file,
    unavailable,
)
from fleetprompt_indexer.catalog_rows import (
    COLUMNS,
    JOINED,
    KNOWN,
    KnownRoot,
    Listed,
    RootUpdate,
    known_root,
    marked,
    path_of,
    read_listed,
    write_updates,
)
from fleetprompt_indexer.entry import PARSER_VERSION, Status
from fleetprompt_indexer.names import raw, shown
from fleetprompt_indexer.scan import refusal_digest
from fleetprompt_indexer.search import match_expression, ranked
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path
    from types import TracebackType

__all__ = ["MAX_RANKED", "Catalog", "Found", "Listed"]

T = TypeVar("T")

MAX_RANKED = 500
"""Matches that are ranked; a search for a word that is everywhere ranks the first ones found."""

_HOLDS = "(e.status = 'unvalidated' AND v.sha256 IS e.sha256)"
_STATUS_CONDITIONS: dict[Status, str] = {
    "unvalidated": f"NOT r.is_gone AND e.status = 'unvalidated' AND NOT {_HOLDS}",
    "valid": f"NOT r.is_gone AND {_HOLDS} AND v.is_valid",
    "invalid": f"NOT r.is_gone AND (e.status = 'invalid' OR ({_HOLDS} AND NOT v.is_valid))",
    "stale": "r.is_gone",
    "unreadable": "NOT r.is_gone AND e.status = 'unreadable'",
}
"""A validation holds for the bytes that it was made of; a root that is gone makes all stale."""


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a search."""

    hits: tuple[Listed, ...]
    """Best first."""
    is_cut: bool
    """There are more than were asked for, or more than are ranked."""


class Catalog:
    """One open catalog; may be used from several threads, one call at a time.

    Args:
        path: The file, in the state directory; made when there is none.
        wait_s: How long a write waits for another program's.
    """

    def __init__(self, path: Path, *, wait_s: float = BUSY_TIMEOUT_S) -> None:
        self.path = path
        self._wait_s = wait_s
        self._lock = threading.RLock()
        self._connection, self.notices = open_catalog_file(path, wait_s=wait_s)
        """Sentences for people about what had to be repaired."""

    def close(self) -> None:
        """Close the file; the catalog cannot be used afterwards."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Reading

    def roots(self) -> list[Path]:
        """Every root in the catalog, those that are gone included, by path."""
        rows = self._read("SELECT path FROM roots ORDER BY path")
        return [path_of(row[0]) for row in rows]

    def entries(
        self, root: Path | None = None, *, after: Listed | None = None, limit: int = 100_000
    ) -> list[Listed]:
        """The entries, by id and path.

        Args:
            root: Only those of this root.
            after: Only those behind this one: the last of the page before.
            limit: At most this many.
        """
        where = "TRUE"
        values: list[Any] = []
        if after is not None:
            where += " AND (e.workflow_id, r.path, e.relative) > (?, ?, ?)"
            values += (after.entry.workflow_id, _bytes(after.root), after.entry.relative)
        if root is not None:
            where += " AND r.path = ?"
            values.append(_bytes(root))
        order = "ORDER BY e.workflow_id, r.path, e.relative LIMIT ?"
        return marked(self._listed(f"WHERE {where} {order}", (*values, limit)))

    def find(self, reference: str, *, root: Path | None = None) -> Listed:
        """The entry with this id or relative path.

        Raises:
            WorkflowError: `workflow.not_found`, or `workflow.ambiguous` when several files fit.
        """
        text = _storable(reference)
        condition, values = "", [text, text, raw(reference)]
        if root is not None:
            condition = "AND r.path = ?"
            values.append(_bytes(root))
        found = self._listed(
            "WHERE (e.workflow_id = ? OR e.file_path = ? OR e.relative = ?) "
            f"{condition} ORDER BY r.path, e.relative LIMIT 51",
            values,
        )
        by_path = [listed for listed in found if listed.entry.workflow_id != reference]
        found = by_path or found
        if len(found) == 1:
            return found[0]
        if not found:
            where = f" in {shown(str(root))}" if root is not None else ""
            raise WorkflowError(
                "workflow.not_found",
                f"No workflow `{shown(reference)}`{where}. `fleetprompt list` shows what there is, "
                "`fleetprompt index` looks again.",
                details={"workflow": shown(reference)},
            )
        places = [f"{shown(str(item.root))}: {item.entry.file_path}" for item in found]
        raise WorkflowError(
            "workflow.ambiguous",
            f"`{shown(reference)}` is found in {len(found)} places: {', '.join(places[:5])}. "
            "Give the root and the path.",
            details={"places": places[:50]},
        )

    def search(
        self,
        words: str = "",
        *,
        tool: str | None = None,
        agent: str | None = None,
        status: Status | None = None,
        root: Path | None = None,
        limit: int = 20,
    ) -> Found:
        """The entries that hold all the words, best first.

        Args:
            words: Parts of ids, names, descriptions, tools, agents and input names; the last word
                may be the beginning of one.
            tool: Only entries that name this tool id.
            agent: Only entries that name this agent.
            status: Only entries of this status.
            root: Only those of this root.
            limit: At most this many.
        """
        expression = match_expression(words, tool=tool, agent=agent)
        conditions: list[str] = []
        values: list[Any] = []
        if tool is not None:
            conditions.append("EXISTS (SELECT 1 FROM json_each(e.tools) WHERE value = ?)")
            values.append(_storable(tool))
        if agent is not None:
            conditions.append("EXISTS (SELECT 1 FROM json_each(e.agents) WHERE value = ?)")
            values.append(_storable(agent))
        if status is not None:
            conditions.append(_STATUS_CONDITIONS[status])
        if root is not None:
            conditions.append("r.path = ?")
            values.append(_bytes(root))
        if expression is None:
            where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
            hits = self._listed(
                f"{where} ORDER BY e.workflow_id, r.path LIMIT ?", (*values, limit + 1)
            )
            return Found(tuple(hits[:limit]), len(hits) > limit)
        where = " AND ".join(["e.entry_id = w.rowid", "entry_words MATCH ?", *conditions])
        tables = JOINED if conditions else "entries e"
        matches = self._read(
            "SELECT e.entry_id, e.workflow_id, e.name, e.tools, e.agents, e.input_names "  # noqa: S608  # constant parts
            f"FROM entry_words w CROSS JOIN {tables} WHERE {where} LIMIT ?",
            (expression, *values, MAX_RANKED + 1),
        )
        best = ranked(words, matches[:MAX_RANKED])[:limit]
        found = dict(
            self._listed_with_ids(
                "WHERE e.entry_id IN (SELECT value FROM json_each(?))", (json.dumps(best),)
            )
        )
        hits = [found[entry_id] for entry_id in best if entry_id in found]
        return Found(tuple(hits), len(matches) > limit)

    def refused_by_code(self, wanted: Callable[[bytes], bool] | None = None) -> dict[str, int]:
        """How many files and folders were refused, by the code of their first error.

        Args:
            wanted: Told a root's path; whether it counts. Roots that are gone never do.
        """
        counts: dict[str, int] = {}
        of_entries = self._read(
            "SELECT r.path, e.problems FROM entries e JOIN roots r USING (root_id) "
            "WHERE NOT r.is_gone AND e.status IN ('invalid', 'unreadable') "
            "AND e.status != 'unvalidated'"  # as the partial index has it
        )
        of_roots = self._read(
            "SELECT path, problems FROM roots WHERE NOT is_gone AND problems != '[]'"
        )
        for rows, most in ((of_entries, 1), (of_roots, None)):
            for path, text in rows:
                if wanted is None or wanted(path):
                    errors = [p["code"] for p in json.loads(text) if p["severity"] == "error"]
                    for code in errors[:most]:
                        counts[code] = counts.get(code, 0) + 1
        return dict(sorted(counts.items()))

    # Writing

    def mark_validated(
        self,
        root: Path,
        relative: bytes,
        *,
        sha256: str,
        is_valid: bool,
        digest: str | None = None,
        diagnostics: Sequence[dict[str, Any]] = (),
    ) -> bool:
        """Keep what the agent's validation of these bytes gave; False when they are not listed."""

        def write(connection: sqlite3.Connection) -> bool:
            cursor = connection.execute(
                "INSERT INTO validations (entry_id, sha256, digest, is_valid, diagnostics, "
                "validated_at) SELECT e.entry_id, ?, ?, ?, ?, ? FROM entries e JOIN roots r "
                "ON r.root_id = e.root_id WHERE r.path = ? AND e.relative = ? AND e.sha256 = ? "
                "ON CONFLICT (entry_id) DO UPDATE SET sha256 = excluded.sha256, "
                "digest = excluded.digest, is_valid = excluded.is_valid, "
                "diagnostics = excluded.diagnostics, validated_at = excluded.validated_at",
                (
                    sha256,
                    digest,
                    is_valid,
                    json.dumps(list(diagnostics)),
                    int(time.time()),
                    _bytes(root),
                    relative,
                    sha256,
                ),
            )
            return cursor.rowcount > 0

        return self._write(write)

    def forget(self, root: Path) -> None:
        """Drop a root and its entries, and no longer walk it."""

        def write(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM roots WHERE path = ?", (_bytes(root),))
            connection.execute("DELETE FROM scan_roots WHERE path = ?", (_bytes(root),))

        self._write(write)

    # For the indexer

    def scan_roots(self) -> dict[bytes, int | None]:
        """The folders that index runs were asked to look through, and when each was last walked."""
        return dict(self._read("SELECT path, walked_at FROM scan_roots ORDER BY path"))

    def remember_scan_root(self, path: bytes, *, walked_at: int | None) -> None:
        """Remember a folder to look through; `walked_at` in seconds, None before a full walk."""
        self._write(
            lambda connection: connection.execute(
                "INSERT INTO scan_roots (path, walked_at) VALUES (?, ?) ON CONFLICT (path) "
                "DO UPDATE SET walked_at = coalesce(excluded.walked_at, walked_at)",
                (path, walked_at),
            )
        )

    def forget_scan_root(self, path: bytes) -> None:
        """No longer look through a folder; what is known of the roots in it stays."""
        self._write(
            lambda connection: connection.execute("DELETE FROM scan_roots WHERE path = ?", (path,))
        )

    def known_paths(self) -> set[bytes]:
        """The paths of all roots."""
        return {row[0] for row in self._read("SELECT path FROM roots")}

    def known_roots(self, *, after: int, limit: int) -> list[KnownRoot]:
        """A page of roots with the signatures of their files, in the order of their numbers."""
        query = f"SELECT {KNOWN} FROM roots WHERE root_id > ? ORDER BY root_id LIMIT ?"  # noqa: S608  # constant parts
        return [known_root(row) for row in self._read(query, (after, limit))]

    def known_root(self, path: bytes) -> KnownRoot | None:
        """What is known of one root."""
        rows = self._read(f"SELECT {KNOWN} FROM roots WHERE path = ?", (path,))  # noqa: S608  # constant parts
        return known_root(rows[0]) if rows else None

    def digests(self, root_id: int) -> dict[bytes, str]:
        """The digests of a root's files (`scan.visit`), as far as the present parser made them."""
        rows = self._read(
            "SELECT relative, sha256, CASE WHEN sha256 IS NULL THEN problems END FROM entries "
            "WHERE root_id = ? AND parser_version = ?",
            (root_id, PARSER_VERSION),
        )
        return {
            relative: sha256 or refusal_digest(json.loads(problems)[0]["code"])
            for relative, sha256, problems in rows
        }

    def workflow_ids(self, root_id: int) -> dict[bytes, str]:
        """The ids of a root's workflows by relative path."""
        query = "SELECT relative, workflow_id FROM entries WHERE root_id = ?"
        return dict(self._read(query, (root_id,)))

    def apply(self, updates: Iterable[RootUpdate]) -> None:
        """Write what scans found, one update for each root, all of it or nothing."""
        batch = list(updates)
        self._write(lambda connection: write_updates(connection, batch))

    def remove_roots(self, paths: Iterable[bytes]) -> int:
        """Drop roots that are no more; gives the number of entries that went with them."""
        gone = [(path,) for path in paths]

        def write(connection: sqlite3.Connection) -> int:
            count = "SELECT count(*) FROM entries"
            (before,) = connection.execute(count).fetchone()
            connection.executemany("DELETE FROM roots WHERE path = ?", gone)
            (after,) = connection.execute(count).fetchone()
            return int(before - after)

        return self._write(write) if gone else 0

    # The file

    def _listed(self, rest: str, values: Sequence[Any]) -> list[Listed]:
        return [item for _, item in self._listed_with_ids(rest, values)]

    def _listed_with_ids(self, rest: str, values: Sequence[Any]) -> list[tuple[int, Listed]]:
        rows = self._read(f"SELECT {COLUMNS} FROM {JOINED} {rest}", values)  # noqa: S608  # constant parts
        return [(row[1], read_listed(row)) for row in rows]

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        return self._guarded(lambda connection: connection.execute(query, values).fetchall())

    def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def transaction(connection: sqlite3.Connection) -> T:
            # Ctrl-C can come between any two lines, also when the last transaction was ended.
            _roll_back(connection)
            try:
                connection.execute("BEGIN IMMEDIATE")
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
            return result

        return self._guarded(transaction)

    def _guarded(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work; on a damaged file, once more on a new one."""
        with self._lock:
            try:
                return self._patiently(work)
            except sqlite3.DatabaseError as error:
                if not is_corruption(error):
                    raise unavailable(self.path, error) from error
            try:
                self._connection.close()
                self._connection, notices = replace_catalog_file(self.path, "the file was damaged")
                self.notices.extend(notices)
                return self._patiently(work)
            except sqlite3.DatabaseError as error:
                raise unavailable(self.path, error) from error

    def _patiently(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Do the work, again and again while another program writes; Ctrl-C ends it soon."""
        end = time.monotonic() + self._wait_s
        while True:
            try:
                return work(self._connection)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or time.monotonic() >= end:
                    raise


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:
        connection.execute("ROLLBACK")


def _storable(text: str) -> str:
    """The text without halves of surrogate pairs, which SQLite cannot take."""
    return text.encode("utf-8", "replace").decode()


def _bytes(path: Path) -> bytes:
    return os.fsencode(path)
