"""The rows of the catalog: what is written of a scan, and what a row says when it is read."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from fleetprompt_indexer.entry import PARSER_VERSION, Entry, Status, mark_ambiguous
from fleetprompt_indexer.names import shown
from fleetprompt_indexer.problem import Problem
from fleetprompt_indexer.reader import SIGNATURE_BYTES

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

COLUMNS = (
    "r.path, e.entry_id, e.relative, e.sha256, e.status, e.tenant, e.workflow_id, e.name, "
    "e.description, e.version, e.file_path, e.agents, e.tools, e.inputs, e.outputs, e.problems, "
    "v.sha256, v.is_valid, v.digest, v.diagnostics, r.is_gone"
)
JOINED = (
    "entries e JOIN roots r ON r.root_id = e.root_id "
    "LEFT JOIN validations v ON v.entry_id = e.entry_id"
)


@dataclass(frozen=True, slots=True)
class Listed:
    """An entry of the catalog: the entry, the root it belongs to, and its validation."""

    root: Path
    entry: Entry
    """With the status and findings of the validation, when it holds for the present bytes."""
    digest: str | None = None
    """Of the plan that the validation gave; None when there is none."""

    def to_json(self) -> dict[str, Any]:
        """The entry's JSON with `root` (as it is shown) and `digest`."""
        return {**self.entry.to_json(), "root": shown(str(self.root)), "digest": self.digest}


_NO_SIGNATURE = bytes(SIGNATURE_BYTES)
"""That of no file."""


@dataclass(slots=True)
class KnownRoot:
    """What the catalog knows of a root, as the next scan needs it."""

    root_id: int
    path: bytes
    folders: bytes | None
    """Packed signatures of the two folders; None when they must be listed again."""
    config: bytes | None
    """Packed signature of the configuration; None when there was none."""
    is_gone: bool
    names: list[bytes]
    """Relative paths of its files."""
    signatures: bytes
    """Their packed signatures in the same order; zeros where the file must be read again."""

    @property
    def files(self) -> dict[bytes, bytes | None]:
        """Relative path to the file's packed signature; None when it must be read again."""
        places = range(0, len(self.signatures), SIGNATURE_BYTES)
        signatures = (self.signatures[place : place + SIGNATURE_BYTES] for place in places)
        return {
            name: signature if signature != _NO_SIGNATURE else None
            for name, signature in zip(self.names, signatures, strict=True)
        }


@dataclass(slots=True)
class RootUpdate:
    """What a scan found out about one root, to be written."""

    path: bytes
    folders: bytes | None
    config: bytes | None
    name: str | None = None
    problems: tuple[Problem, ...] = ()
    is_gone: bool = False
    files: dict[bytes, bytes | None] = field(default_factory=dict)
    """Relative path of every file to its packed signature; None when it must be read again."""
    changed: list[Entry] = field(default_factory=list)
    """Entries that are new or differ."""
    removed: list[bytes] = field(default_factory=list)


def known_root(row: Sequence[Any]) -> KnownRoot:
    """What a row of `KNOWN` says."""
    root_id, path, folders, config, is_gone, files, signatures, parser_version = row
    names = files.split(b"\0") if files else []
    if parser_version != PARSER_VERSION:
        signatures = bytes(len(signatures))
    return KnownRoot(root_id, path, folders, config, bool(is_gone), names, signatures)


def write_updates(connection: sqlite3.Connection, updates: list[RootUpdate]) -> None:
    """Write what scans found, one update for each root; the caller holds the transaction."""
    for update in updates:
        if update.removed:
            connection.executemany(
                "DELETE FROM entries WHERE relative = ? "
                "AND root_id = (SELECT root_id FROM roots WHERE path = ?)",
                [(relative, update.path) for relative in update.removed],
            )
    # From here on no entry goes, so that those with a larger number are the new ones.
    (last,) = connection.execute("SELECT coalesce(max(entry_id), 0) FROM entries").fetchone()
    now = int(time.time())
    rows: list[tuple[Any, ...]] = []
    for update in updates:
        (root_id,) = connection.execute(
            _UPSERT_ROOT,
            (
                update.path,
                update.folders,
                update.config,
                update.name,
                _json([problem.to_json() for problem in update.problems]),
                update.is_gone,
                now,
                b"\0".join(update.files),
                b"".join([signature or _NO_SIGNATURE for signature in update.files.values()]),
                PARSER_VERSION,
            ),
        ).fetchone()
        rows.extend(_row(root_id, entry) for entry in update.changed)
    connection.executemany(_UPSERT_ENTRY, rows)
    connection.execute(_INSERT_WORDS, (last,))


def _upsert(table: str, key: str, columns: str) -> str:
    names = columns.split(", ")
    changes = ", ".join(
        f"{name} = excluded.{name}" for name in names if name not in key.split(", ")
    )
    return (
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608  # constant parts
        f"ON CONFLICT ({key}) DO UPDATE SET {changes}"
    )


KNOWN = "root_id, path, folders, config, is_gone, files, signatures, parser_version"
_UPSERT_ROOT = (
    _upsert(
        "roots",
        "path",
        "path, folders, config, name, problems, is_gone, scanned_at, files, signatures, "
        "parser_version",
    )
    + " RETURNING root_id"
)
_UPSERT_ENTRY = _upsert(
    "entries",
    "root_id, relative",
    "root_id, relative, parser_version, sha256, status, tenant, workflow_id, name, description, "
    "version, file_path, agents, tools, inputs, input_names, outputs, problems",
)
_WORDS = "workflow_id, name, description, tools, agents, input_names"
_INSERT_WORDS = (
    f"INSERT INTO entry_words (rowid, {_WORDS}) "  # noqa: S608  # constant parts
    f"SELECT entry_id, {_WORDS} FROM entries WHERE entry_id > ?"
)


def _row(root_id: int, entry: Entry) -> tuple[Any, ...]:
    return (
        root_id,
        entry.relative,
        PARSER_VERSION,
        entry.sha256,
        entry.status,
        entry.tenant,
        entry.workflow_id,
        entry.name,
        entry.description,
        entry.version,
        entry.file_path,
        _json(entry.declared_agents),
        _json(entry.declared_tools),
        _json(entry.inputs_schema_summary),
        " ".join(entry.inputs_schema_summary),
        _json(entry.outputs_schema_summary),
        _json([problem.to_json() for problem in entry.problems]),
    )


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""`json.dumps` would make an encoder for every call."""


def _json(value: Any) -> str:
    return _encode(value) if value else _EMPTY[type(value)]


def _loads(text: str) -> Any:
    """The value of a column; most are empty, and reading takes a microsecond."""
    if len(text) == 2:
        return {} if text == "{}" else []
    return json.loads(text)


_EMPTY: dict[type, str] = {tuple: "[]", list: "[]", dict: "{}"}


def read_listed(row: Sequence[Any]) -> Listed:
    """What a row of `COLUMNS` says."""
    (path, _, relative, sha256, status, tenant, workflow_id, name, description, version) = row[:10]
    (file_path, agents, tools, inputs, outputs, problems) = row[10:16]
    (validated_sha256, is_valid, digest, diagnostics, is_gone) = row[16:]
    findings = [Problem(**found) for found in _loads(problems)]
    holds = status == "unvalidated" and validated_sha256 is not None and validated_sha256 == sha256
    if holds:
        status = "valid" if is_valid else "invalid"
        findings.extend(_finding(found) for found in json.loads(diagnostics))
    if is_gone:
        status = "stale"
    entry = Entry(
        workflow_id=workflow_id,
        name=name,
        description=description,
        version=version,
        file_path=file_path,
        declared_agents=tuple(_loads(agents)),
        declared_tools=tuple(_loads(tools)),
        inputs_schema_summary=_loads(inputs),
        outputs_schema_summary=_loads(outputs),
        sha256=sha256,
        status=cast("Status", status),
        problems=tuple(findings),
        relative=relative,
        tenant=tenant,
    )
    return Listed(path_of(path), entry, digest if holds else None)


def marked(listed: list[Listed]) -> list[Listed]:
    """The same, with a finding for each id that two files of one root claim."""
    by_root: dict[Path, list[int]] = {}
    for place, item in enumerate(listed):
        by_root.setdefault(item.root, []).append(place)
    for places in by_root.values():
        entries = mark_ambiguous([listed[place].entry for place in places])
        for place, entry in zip(places, entries, strict=True):
            if entry is not listed[place].entry:
                listed[place] = replace(listed[place], entry=entry)
    return listed


def _finding(found: dict[str, Any]) -> Problem:
    """A diagnostic of the language, which may have more fields than a finding."""
    return Problem(**{name: value for name, value in found.items() if name in _PROBLEM_FIELDS})


_PROBLEM_FIELDS = frozenset(Problem("", "").to_json())


@lru_cache(maxsize=256)
def path_of(data: bytes) -> Path:
    """The path of a root as the catalog keeps it."""
    return Path(os.fsdecode(data))
