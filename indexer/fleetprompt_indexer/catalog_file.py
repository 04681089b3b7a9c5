"""The catalog's file: opening it, bringing it to the present schema, replacing it when it is bad.

All of it is derived from the repositories, so a file that cannot be used is set aside and made
anew, with a notice. It is never deleted: it might be something else that was put there by mistake.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION_ID = 0x466C5049
"""Stands in the file's header ("FlPI"): another program's database is not taken for ours."""

BUSY_TIMEOUT_S = 30.0
"""How long a writer waits for another one; a batch of 500 takes some fifty milliseconds."""

_WAIT_MS = 100
"""Longest wait of one call into SQLite, during which Python does not notice Ctrl-C."""

_CACHE_KIB = 16_000
"""Of pages that are kept in memory, when there are as many: 100,000 entries take 155 MB, and with
the usual 2 MB a search among them spends a sixth of its time on reading pages again."""

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE scan_roots (
        path BLOB PRIMARY KEY,
        walked_at INTEGER
    ) WITHOUT ROWID;
    CREATE TABLE roots (
        root_id INTEGER PRIMARY KEY,
        path BLOB NOT NULL UNIQUE,
        folders BLOB,
        config BLOB,
        name TEXT,
        problems TEXT NOT NULL DEFAULT '[]',
        is_gone INTEGER NOT NULL DEFAULT 0,
        scanned_at INTEGER
    );
    CREATE TABLE entries (
        entry_id INTEGER PRIMARY KEY,
        root_id INTEGER NOT NULL REFERENCES roots ON DELETE CASCADE,
        relative BLOB NOT NULL,
        signature BLOB,
        parser_version INTEGER NOT NULL,
        sha256 TEXT,
        status TEXT NOT NULL,
        tenant TEXT NOT NULL,
        workflow_id TEXT NOT NULL,
        name TEXT NOT NULL,
        description TEXT,
        version TEXT,
        file_path TEXT NOT NULL,
        agents TEXT NOT NULL,
        tools TEXT NOT NULL,
        inputs TEXT NOT NULL,
        input_names TEXT NOT NULL,
        outputs TEXT NOT NULL,
        problems TEXT NOT NULL,
        UNIQUE (root_id, relative)
    );
    CREATE INDEX entries_signature ON entries (root_id, relative, signature, parser_version);
    CREATE INDEX entries_workflow_id ON entries (workflow_id);
    CREATE INDEX entries_status ON entries (status) WHERE status != 'unvalidated';
    CREATE VIRTUAL TABLE entry_words USING fts5 (
        workflow_id, name, description, tools, agents, input_names,
        content = 'entries', content_rowid = 'entry_id', columnsize = 0
    );
    CREATE TRIGGER entries_insert AFTER INSERT ON entries BEGIN
        INSERT INTO entry_words (rowid, workflow_id, name, description, tools, agents, input_names)
        VALUES (new.entry_id, new.workflow_id, new.name, new.description, new.tools, new.agents,
                new.input_names);
    END;
    CREATE TRIGGER entries_delete AFTER DELETE ON entries BEGIN
        INSERT INTO entry_words
            (entry_words, rowid, workflow_id, name, description, tools, agents, input_names)
        VALUES ('delete', old.entry_id, old.workflow_id, old.name, old.description, old.tools,
                old.agents, old.input_names);
    END;
    CREATE TRIGGER entries_update
    AFTER UPDATE OF workflow_id, name, description, tools, agents, input_names ON entries BEGIN
        INSERT INTO entry_words
            (entry_words, rowid, workflow_id, name, description, tools, agents, input_names)
        VALUES ('delete', old.entry_id, old.workflow_id, old.name, old.description, old.tools,
                old.agents, old.input_names);
        INSERT INTO entry_words (rowid, workflow_id, name, description, tools, agents, input_names)
        VALUES (new.entry_id, new.workflow_id, new.name, new.description, new.tools, new.agents,
                new.input_names);
    END;
    """,
    """
    CREATE TABLE validations (
        entry_id INTEGER PRIMARY KEY REFERENCES entries ON DELETE CASCADE,
        sha256 TEXT NOT NULL,
        digest TEXT,
        is_valid INTEGER NOT NULL,
        diagnostics TEXT NOT NULL,
        validated_at INTEGER NOT NULL
    );
    """,
    # Without an index of beginnings, a word that is being typed (`w6`) costs what all the words
    # cost that begin so: 5 ms for 11,000 of them.
    """
    DROP TABLE entry_words;
    CREATE VIRTUAL TABLE entry_words USING fts5 (
        workflow_id, name, description, tools, agents, input_names,
        content = 'entries', content_rowid = 'entry_id', columnsize = 0, prefix = '2'
    );
    INSERT INTO entry_words (entry_words) VALUES ('rebuild');
    """,
    # What a scan compares stands in one row for each root: 27,000 rows to read for 100,000 files,
    # and one index less to keep. The words of new entries are written by `write_updates`, all of a
    # batch in one statement: for a trigger, the word index writes its buffer out after each row.
    """
    DROP TRIGGER entries_insert;
    DROP INDEX entries_signature;
    ALTER TABLE entries DROP COLUMN signature;
    ALTER TABLE roots ADD COLUMN files BLOB NOT NULL DEFAULT x'';
    ALTER TABLE roots ADD COLUMN signatures BLOB NOT NULL DEFAULT x'';
    ALTER TABLE roots ADD COLUMN parser_version INTEGER NOT NULL DEFAULT 0;
    UPDATE roots SET (files, signatures) = (
        SELECT coalesce(CAST(group_concat(CAST(relative AS TEXT), char(0)) AS BLOB), x''),
               zeroblob(40 * count(*))
        FROM entries WHERE entries.root_id = roots.root_id
    );
    """,
)
"""What brings a catalog from version N to N+1, for each N from 0. Only ever appended to."""


TABLES = frozenset({"scan_roots", "roots", "entries", "entry_words", "validations"})
"""What a catalog of the present version has."""


def open_catalog_file(
    path: Path, *, wait_s: float = BUSY_TIMEOUT_S
) -> tuple[sqlite3.Connection, list[str]]:
    """A connection to a sound catalog at the path, made when there is none, and notices.

    Its calls wait for another program for a moment only: see `is_busy`.

    Args:
        path: The file.
        wait_s: How long opening waits for another program's writing.

    Raises:
        OperatorError: `catalog.unavailable` when the folder or the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = _connect(path, wait_s)
        with _closed_on_error(connection):
            if _reason_to_replace(connection) is None and _version(connection) == len(MIGRATIONS):
                _configure(connection)
                _make_prompt(connection)
                return connection, []
        connection.close()
        return _open_locked(path, None)
    except (OSError, sqlite3.Error) as error:
        raise unavailable(path, error) from error


def replace_catalog_file(path: Path, reason: str) -> tuple[sqlite3.Connection, list[str]]:
    """A connection to a new, empty catalog, and the notice of where the old file went.

    Another process may have replaced the file already; then its new one is taken.
    """
    try:
        return _open_locked(path, reason)
    except (OSError, sqlite3.Error) as error:
        raise unavailable(path, error) from error


def _open_locked(path: Path, reason: str | None) -> tuple[sqlite3.Connection, list[str]]:
    with _locked(path):
        connection = _connect(path)
        with _closed_on_error(connection):
            found = _reason_to_replace(connection, thorough=reason is not None)
        notices = []
        if found is not None:
            connection.close()
            notices = [set_aside(path, reason or found)]
            connection = _connect(path)
        with _closed_on_error(connection):
            _configure(connection)
            _migrate(connection)
            _make_prompt(connection)
        return connection, notices


@contextmanager
def _closed_on_error(connection: sqlite3.Connection) -> Iterator[None]:
    try:
        yield
    except BaseException:
        connection.close()
        raise


def set_aside(path: Path, reason: str) -> str:
    """Move the file and its companions out of the way; gives the notice for people."""
    aside = path.with_name(f"{path.name}.set-aside")
    path.replace(aside)
    for ending in ("-wal", "-shm"):
        # Frames of the old file must not be taken for the new one's.
        path.with_name(path.name + ending).unlink(missing_ok=True)
    return (
        f"The catalog was made anew: {reason}. The old file is {aside}. "
        "`fleetprompt index FOLDER` looks through the folders again."
    )


def unavailable(path: Path, error: Exception) -> OperatorError:
    """The error that says that the catalog cannot be used at all."""
    if isinstance(error, OSError):
        reason, may_pass = error.strerror or "unknown error", True
    else:
        reason, may_pass = str(error), getattr(error, "sqlite_errorcode", None) is not None
    return OperatorError(
        "catalog.unavailable",
        f"The catalog {path} cannot be used: {reason}. Check the folder's permissions and space.",
        retryable=may_pass,
    )


def is_corruption(error: sqlite3.Error) -> bool:
    """Whether the error says that the file itself is bad, rather than busy or full."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return True
    return "no such table" in str(error)  # one that every catalog has


def is_busy(error: sqlite3.Error) -> bool:
    """Whether another program was writing for as long as one call waits; asking again may help."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF == sqlite3.SQLITE_BUSY


def _connect(path: Path, wait_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    return sqlite3.connect(path, timeout=wait_s, isolation_level=None, check_same_thread=False)


def _configure(connection: sqlite3.Connection) -> None:
    for pragma in (
        "journal_mode = WAL",
        "synchronous = NORMAL",
        "foreign_keys = ON",
        "temp_store = MEMORY",
        f"cache_size = -{_CACHE_KIB}",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _make_prompt(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA busy_timeout = {_WAIT_MS}")


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _reason_to_replace(connection: sqlite3.Connection, *, thorough: bool = False) -> str | None:
    """Why the file cannot be a catalog of ours; None when it can, or is new."""
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
        version = _version(connection)
        if application_id != APPLICATION_ID:
            return "the file is not a catalog" if tables or application_id or version else None
        if version > len(MIGRATIONS):
            return f"it is of version {version}, this program knows {len(MIGRATIONS)}"
        if version == len(MIGRATIONS) and not tables >= TABLES:
            return "a table is missing"
        if thorough:
            (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            return None if found == "ok" else "the file is damaged"
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and not is_corruption(error):
            raise
        return "the file is damaged, or is not a catalog"
    return None


def _migrate(connection: sqlite3.Connection) -> None:
    """Apply what is missing, each step in a transaction of its own."""
    while True:
        version = _version(connection)
        if version >= len(MIGRATIONS):
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _statements(MIGRATIONS[version]):
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version + 1}")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        connection.execute("COMMIT")


def _statements(script: str) -> Iterator[str]:
    """The statements of a script; `executescript` would commit between them."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock under which catalogs are made, migrated and replaced."""
    lock = os.open(
        path.with_name(f"{path.name}.lock"),
        os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC,
        0o600,
    )
    try:
        end = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.01)
        yield
    finally:
        os.close(lock)
