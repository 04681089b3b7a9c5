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
    files: dict[bytes, bytes | None] = field(default_factory=dict)
    """Relative path to the file's packed signature; None when it must be read again."""


@dataclass(slots=True)
class RootUpdate:
    """What a scan found out about one root, to be written."""

    path: bytes
    folders: bytes | None
    config: bytes | None
    name: str | None = None
    problems: tuple[Problem, ...] = ()
    is_gone: bool = False
    changed: list[tuple[Entry, bytes | None]] = field(default_factory=list)
    """Entries that are new or differ, each with its packed signature."""
    touched: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    """Files whose bytes are the same under a new signature."""
    removed: list[bytes] = field(default_factory=list)


def write_updates(connection: sqlite3.Connection, updates: list[RootUpdate]) -> None:
    """Write what scans found; the caller holds the transaction."""
    now = int(time.time())
    for update in updates:
        (root_id,) = connection.execute(
            "INSERT INTO roots (path, folders, config, name, problems, is_gone, scanned_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (path) DO UPDATE SET "
            "folders = excluded.folders, config = excluded.config, name = excluded.name, "
            "problems = excluded.problems, is_gone = excluded.is_gone, "
            "scanned_at = excluded.scanned_at RETURNING root_id",
            (
                update.path,
                update.folders,
                update.config,
                update.name,
                json.dumps([problem.to_json() for problem in update.problems]),
                update.is_gone,
                now,
            ),
        ).fetchone()
        if update.changed:
            connection.executemany(
                _UPSERT, [_row(root_id, entry, signature) for entry, signature in update.changed]
            )
        if update.touched:
            connection.executemany(
                "UPDATE entries SET signature = ? WHERE root_id = ? AND relative = ?",
                [(signature, root_id, relative) for relative, signature in update.touched],
            )
        if update.removed:
            connection.executemany(
                "DELETE FROM entries WHERE root_id = ? AND relative = ?",
                [(root_id, relative) for relative in update.removed],
            )


_WRITTEN = (
    "root_id, relative, signature, parser_version, sha256, status, tenant, workflow_id, name, "
    "description, version, file_path, agents, tools, inputs, input_names, outputs, problems"
)
_UPSERT = (
    f"INSERT INTO entries ({_WRITTEN}) VALUES ({', '.join('?' * len(_WRITTEN.split(', ')))}) "  # noqa: S608  # constant parts
    "ON CONFLICT (root_id, relative) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _WRITTEN.split(", ")[2:])
)


def _row(root_id: int, entry: Entry, signature: bytes | None) -> tuple[Any, ...]:
    return (
        root_id,
        entry.relative,
        signature,
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
