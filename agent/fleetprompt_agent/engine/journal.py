"""The journal in one SQLite file: the events of every run, leases, the inbox, idempotency keys.

Theory of operation. Only the process that holds a run's lease appends to it: `append` checks the
lease's epoch in the same transaction as the rows, so a frozen owner that wakes up is fenced out.
Others put requests into the unfenced inbox. A transaction that holds an event which must survive a
power loss is committed with `synchronous=FULL`, any other with `NORMAL` (which survives the death
of the process); a full commit makes durable what was committed before it. What the methods promise
is written in `journal_port`.
"""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.event_rows import COLUMNS, from_row, to_row
from fleetprompt_agent.engine.journal_port import LEASE_S, PRUNED, InboxItem, RunRow
from fleetprompt_agent.engine.large_output import APART, digests_in
from fleetprompt_agent.engine.lock_holder import writer_of
from fleetprompt_agent.engine.owner import Owner, boot_clock_s, is_live
from fleetprompt_agent.steps.artifacts import ArtifactStore
from fleetprompt_protocol.errors import JournalError, RequestError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunEnd

SCHEMA_VERSION = 1
APPLICATION_ID = 0x464C5054
"""`FLPT`, in the header of the file: a foreign database is refused."""
BUSY_TIMEOUT_S = 5.0
"""How long a writer waits for another; a transaction takes a few milliseconds."""

_SCHEMA = """
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY, project TEXT NOT NULL, tenant TEXT NOT NULL,
    workflow_id TEXT NOT NULL, correlation_id TEXT NOT NULL, parent_run_id TEXT,
    created_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX runs_by_time ON runs (project, created_ms DESC, run_id DESC);
CREATE INDEX runs_by_correlation ON runs (correlation_id);
CREATE TABLE events (
    run_id TEXT NOT NULL, seq INTEGER NOT NULL, at INTEGER NOT NULL, type TEXT NOT NULL,
    step_path TEXT, attempt INTEGER, data TEXT NOT NULL, tenant TEXT NOT NULL,
    actor_type TEXT NOT NULL, actor_id TEXT, request_id TEXT NOT NULL,
    correlation_id TEXT NOT NULL, causation_id TEXT, event_id TEXT NOT NULL,
    PRIMARY KEY (run_id, seq)
) WITHOUT ROWID;
CREATE TABLE leases (
    run_id TEXT PRIMARY KEY, owner TEXT, epoch INTEGER NOT NULL, expires_boot_s REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE inbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, kind TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX inbox_by_run ON inbox (run_id, id);
CREATE TABLE run_keys (
    scope TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, run_id TEXT NOT NULL,
    created_ms INTEGER NOT NULL, PRIMARY KEY (scope, key)
) WITHOUT ROWID;
CREATE TABLE group_queue (
    id INTEGER PRIMARY KEY AUTOINCREMENT, project TEXT NOT NULL, name TEXT NOT NULL,
    run_id TEXT NOT NULL UNIQUE
);
CREATE INDEX group_queue_by_name ON group_queue (project, name, id);
"""

_EVENT_COLUMNS = ", ".join(COLUMNS)
_IS_HELD = "SELECT 1 FROM leases WHERE run_id = ? AND epoch = ?"
_PLACES = "?" + ",?" * len(COLUMNS)
_INSERT_EVENT = f"INSERT INTO events (run_id, {_EVENT_COLUMNS}) VALUES ({_PLACES})"  # noqa: S608 (constants)
_INSERT_AS_OWNER = (
    f"INSERT INTO events (run_id, {_EVENT_COLUMNS}) SELECT {_PLACES} WHERE EXISTS ({_IS_HELD})"
)
"""One event, if the lease is held: a statement less than asking first (measured: 7 µs of 54)."""
_SELECT_EVENTS = f"SELECT {_EVENT_COLUMNS} FROM events WHERE run_id = ? AND seq > ? ORDER BY seq"  # noqa: S608 (constants)
_SELECT_PAGE = f"SELECT run_id, {_EVENT_COLUMNS} FROM events WHERE (run_id, seq) IN"  # noqa: S608 (constants)
_OF_ONE = "(SELECT run_id, seq FROM events WHERE run_id = ? ORDER BY seq LIMIT ? OFFSET ?)"
_OF_SEVERAL = (
    "(SELECT run_id, seq FROM events WHERE run_id IN (SELECT value FROM json_each(?))"
    " ORDER BY at, run_id, seq LIMIT ? OFFSET ?)"
)
_SELECT_ENDING = (
    "SELECT type, at FROM events WHERE run_id = ? AND type IN"
    " ('run.succeeded', 'run.failed', 'run.canceled', 'run.reopened') ORDER BY seq DESC LIMIT 1"
)
_SELECT_RUNS = "SELECT run_id, project, workflow_id, correlation_id, created_ms FROM runs"


class Journal:
    """One open journal file: a `JournalPort`. Not shared between threads.

    Args:
        path: The file; it is made when there is none.
        lease_s: See `journal_port.LEASE_S`.
        busy_timeout_s: How long a transaction waits for the one of another process.

    Raises:
        JournalError: it cannot be opened, is foreign, or is of another version.
    """

    def __init__(
        self, path: Path, *, lease_s: float = LEASE_S, busy_timeout_s: float = BUSY_TIMEOUT_S
    ) -> None:
        self.path = path
        self.lease_s = lease_s
        self._artifacts = ArtifactStore(path.parent / "artifacts")
        self._busy_timeout_s = busy_timeout_s
        self._in_transaction = False
        self._full = False
        try:
            _make_private(path)
            self._db = sqlite3.connect(path, isolation_level=None, timeout=busy_timeout_s)
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error
        try:
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            self._db.close()
            raise self._error(error) from error
        except JournalError:
            self._db.close()
            raise

    def _prepare(self) -> None:
        db = self._db
        if self._is_new():
            # The journal mode cannot change inside a transaction; WAL is kept in the file.
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            # Another process may have been as quick.
            if self._is_new():
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.execute("COMMIT")
        self._check_version()
        db.execute("PRAGMA synchronous=NORMAL")

    def _is_new(self) -> bool:
        """Whether the file is an empty database, which may become a journal."""
        return not (
            self._db.execute("PRAGMA user_version").fetchone()[0]
            or self._db.execute("PRAGMA application_id").fetchone()[0]
            or self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        )

    def _check_version(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if self._db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
            raise JournalError(
                "journal.corrupt", f"{self.path} is not a journal of FleetPrompt. Move it away."
            )
        if version != SCHEMA_VERSION:
            raise JournalError(
                "journal.version",
                f"The journal {self.path} has format {version}; this version reads format "
                f"{SCHEMA_VERSION}. Use the version that wrote it, or another FLEETPROMPT_HOME.",
                details={"format": version, "supported": SCHEMA_VERSION},
            )

    def close(self) -> None:
        """Close the file; leases that are held run out."""
        self._db.close()

    # Transactions

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """See `journal_port.Transactions`."""
        return _Transaction(self, durable)

    def begin(self, *, durable: bool) -> bool:
        """Whether a transaction has begun; false within another, which it then is part of."""
        if self._in_transaction:
            return False
        try:
            if durable != self._full:
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._full = durable
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._error(error) from error
        self._in_transaction = True
        return True

    def end(self, error: BaseException | None) -> None:
        """Commit what was begun, or take it back when it ended with an error."""
        self._in_transaction = False
        try:
            if error is None:
                self._db.execute("COMMIT")
                return
        except sqlite3.Error as fault:
            error = fault
        self._rollback()
        if isinstance(error, sqlite3.Error):
            raise self._error(error) from error

    def _rollback(self) -> None:
        # An error such as a full disk may have rolled back already; what else fails here leaves the
        # transaction without its commit all the same.
        with suppress(sqlite3.Error):
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    def _error(self, error: Exception) -> JournalError:
        text = (isinstance(error, OSError) and error.strerror) or str(error)
        code = getattr(error, "sqlite_errorname", "") or ""
        if "BUSY" in code or "LOCKED" in code:
            pid = writer_of(self.path)
            who = "Another process" if pid is None else f"Process {pid}"
            return JournalError(
                "journal.busy",
                f"{who} has held the journal {self.path} for {self._busy_timeout_s:g} s; nothing "
                "was lost. Try again; if it stays so, look what that process does.",
                details={} if pid is None else {"pid": pid},
                retryable=True,
            )
        if "CORRUPT" in code or "NOTADB" in code:
            return JournalError(
                "journal.corrupt",
                f"The journal {self.path} is damaged ({text}). Move it away, or restore a copy.",
            )
        return JournalError(
            "journal.unavailable",
            f"The journal {self.path} cannot be used: {text}. "
            "Check the free space and the permissions of its directory; nothing was lost.",
            retryable=True,
        )

    def _read(self, sql: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    # Runs and events

    def create_run(self, row: RunRow, *, tenant: str, parent_run_id: str | None) -> None:
        """See `journal_port.EventStore`."""
        self._db.execute(
            "INSERT INTO runs (run_id, project, tenant, workflow_id, correlation_id,"
            " parent_run_id, created_ms) VALUES (?,?,?,?,?,?,?)",
            (
                row.run_id, row.project, tenant, row.workflow_id, row.correlation_id,
                parent_run_id, row.created_ms,
            ),
        )  # fmt: skip

    def append(self, run_id: str, epoch: int, events: list[Event]) -> None:
        """See `journal_port.EventStore`."""
        try:
            rows = [(run_id, *to_row(event, self._artifacts.keep)) for event in events]
        except OSError as error:
            raise self._error(error) from error
        if rows:
            is_held = self._db.execute(_INSERT_AS_OWNER, (*rows[0], run_id, epoch)).rowcount == 1
        else:
            is_held = bool(self._read(_IS_HELD, (run_id, epoch)))
        if not is_held:
            raise JournalError(
                "journal.fenced",
                f"Run {run_id} has been taken over by another process; this one leaves it alone.",
                details={"run_id": run_id},
            )
        if len(rows) > 1:
            self._db.executemany(_INSERT_EVENT, rows[1:])

    def load(self, run_id: str, after: int = 0) -> list[Event]:
        """See `journal_port.EventStore`."""
        rows = self._read_events(_SELECT_EVENTS, (run_id, after), run_id)
        return [from_row(run_id, row, self._artifacts.content) for row in rows]

    def load_page(self, run_ids: list[str], skip: int, limit: int) -> list[tuple[str, Event]]:
        """See `journal_port.EventStore`."""
        if len(run_ids) == 1:
            sql = f"{_SELECT_PAGE} {_OF_ONE} ORDER BY seq"
            rows = self._read_events(sql, (run_ids[0], limit, skip), run_ids[0])
        else:
            sql = f"{_SELECT_PAGE} {_OF_SEVERAL} ORDER BY at, run_id, seq"
            rows = self._read_events(sql, (json.dumps(run_ids), limit, skip), run_ids[0])
        content = self._artifacts.content
        return [(row[0], from_row(row[0], row[1:], content)) for row in rows]

    def _read_events(self, sql: str, values: tuple[Any, ...], run_id: str) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if "UTF-8" not in str(error):
                raise self._error(error) from error
            raise JournalError(
                "journal.corrupt",
                f"The events of run {run_id} cannot be read: {error}. Other runs are not affected.",
                details={"run_id": run_id},
            ) from error

    def ending(self, run_id: str) -> tuple[RunEnd, int] | None:
        """See `journal_port.EventStore`."""
        rows = self._read(_SELECT_ENDING, (run_id,))
        if not rows or rows[0][0] == "run.reopened":
            return None
        return rows[0][0].removeprefix("run."), rows[0][1]

    def get_run(self, run_id: str) -> RunRow | None:
        """See `journal_port.RunIndex`."""
        rows = self._read(f"{_SELECT_RUNS} WHERE run_id = ?", (run_id,))
        return RunRow(*rows[0]) if rows else None

    def find_runs(self, project: str, prefix: str, limit: int = 20) -> list[RunRow]:
        """See `journal_port.RunIndex`."""
        if not prefix:
            return self.list_runs(project, limit=limit)
        if not prefix.isascii():
            return []  # no id begins so
        after_all = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        rows = self._read(
            f"{_SELECT_RUNS} WHERE project = ? AND run_id >= ? AND run_id < ?"
            " ORDER BY created_ms DESC, run_id DESC LIMIT ?",
            (project, prefix, after_all, limit),
        )
        return [RunRow(*row) for row in rows]

    def list_runs(
        self, project: str, *, limit: int, before: tuple[int, str] | None = None
    ) -> list[RunRow]:
        """See `journal_port.RunIndex`."""
        at, run_id = before or (1 << 62, "")
        rows = self._read(
            f"{_SELECT_RUNS} WHERE project = ? AND (created_ms, run_id) < (?, ?)"
            " ORDER BY created_ms DESC, run_id DESC LIMIT ?",
            (project, at, run_id, limit),
        )
        return [RunRow(*row) for row in rows]

    def runs_of(self, project: str, correlation_id: str) -> list[RunRow]:
        """See `journal_port.RunIndex`."""
        rows = self._read(
            f"{_SELECT_RUNS} WHERE correlation_id = ? AND project = ? ORDER BY created_ms, run_id",
            (correlation_id, project),
        )
        return [RunRow(*row) for row in rows]

    # Leases

    def acquire(self, run_id: str, owner: Owner) -> int:
        """See `journal_port.Leases`; call it within a transaction."""
        text = owner.to_text()
        row = self._db.execute(
            "SELECT owner, epoch, expires_boot_s FROM leases WHERE run_id = ?", (run_id,)
        ).fetchone()
        epoch = 1 if row is None else row[1] + 1
        if row is not None and row[0] is not None and row[0] != text and is_live(row[0], row[2]):
            raise owned_elsewhere(run_id, row[0])
        self._db.execute(
            "INSERT INTO leases (run_id, owner, epoch, expires_boot_s) VALUES (?,?,?,?)"
            " ON CONFLICT (run_id) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch,"
            " expires_boot_s = excluded.expires_boot_s",
            (run_id, text, epoch, boot_clock_s() + self.lease_s),
        )
        return epoch

    def renew(self, held: dict[str, int]) -> set[str]:
        """See `journal_port.Leases`; call it within a transaction."""
        lost = set()
        expires = boot_clock_s() + self.lease_s
        for run_id, epoch in held.items():
            changed = self._db.execute(
                "UPDATE leases SET expires_boot_s = ? WHERE run_id = ? AND epoch = ?",
                (expires, run_id, epoch),
            )
            if changed.rowcount == 0:
                lost.add(run_id)
        return lost

    def release(self, run_id: str, epoch: int) -> None:
        """See `journal_port.Leases`."""
        self._db.execute(
            "UPDATE leases SET owner = NULL, expires_boot_s = 0 WHERE run_id = ? AND epoch = ?",
            (run_id, epoch),
        )

    def has_live_owner(self, run_id: str, besides: Owner | None = None) -> bool:
        """See `journal_port.Leases`."""
        rows = self._read("SELECT owner, expires_boot_s FROM leases WHERE run_id = ?", (run_id,))
        if not rows or rows[0][0] is None:
            return False
        if besides is not None and rows[0][0] == besides.to_text():
            return False
        return is_live(*rows[0])

    # The inbox

    def post(self, run_id: str, kind: str, body: dict[str, Any]) -> int:
        """See `journal_port.Inbox`."""
        cursor = self._db.execute(
            "INSERT INTO inbox (run_id, kind, body) VALUES (?,?,?)",
            (run_id, kind, json.dumps(body, allow_nan=False)),
        )
        return cursor.lastrowid or 0  # never None after an INSERT

    def read_inbox(self, run_id: str) -> list[InboxItem]:
        """See `journal_port.Inbox`."""
        rows = self._read(
            "SELECT id, kind, body FROM inbox WHERE run_id = ? ORDER BY id", (run_id,)
        )
        return [InboxItem(row[0], run_id, row[1], json.loads(row[2])) for row in rows]

    def clear_inbox(self, run_id: str, up_to_id: int) -> None:
        """See `journal_port.Inbox`."""
        self._db.execute("DELETE FROM inbox WHERE run_id = ? AND id <= ?", (run_id, up_to_id))

    def has_requests(self, run_id: str, after_id: int) -> bool:
        """See `journal_port.Inbox`."""
        return bool(
            self._read(
                "SELECT 1 FROM inbox WHERE run_id = ? AND id > ? LIMIT 1", (run_id, after_id)
            )
        )

    def runs_with_requests(self) -> set[str]:
        """See `journal_port.Inbox`."""
        return {row[0] for row in self._read("SELECT DISTINCT run_id FROM inbox")}

    def data_version(self) -> int:
        """See `journal_port.Inbox`."""
        value: int = self._read("PRAGMA data_version")[0][0]
        return value

    # Concurrency groups

    def join_group(self, project: str, name: str, run_id: str) -> None:
        """See `journal_port.Groups`."""
        self._db.execute(
            "INSERT OR IGNORE INTO group_queue (project, name, run_id) VALUES (?,?,?)",
            (project, name, run_id),
        )

    def group_members(self, project: str, name: str) -> list[str]:
        """See `journal_port.Groups`."""
        rows = self._read(
            "SELECT run_id FROM group_queue WHERE project = ? AND name = ? ORDER BY id",
            (project, name),
        )
        return [row[0] for row in rows]

    def leave_group(self, run_id: str) -> None:
        """See `journal_port.Groups`."""
        self._db.execute("DELETE FROM group_queue WHERE run_id = ?", (run_id,))

    # Idempotency keys

    def claim_key(
        self, scope: str, key: str, fingerprint: str, run_id: str, now_ms: int
    ) -> tuple[str, str]:
        """See `journal_port.RunKeys`."""
        self._db.execute(
            "INSERT OR IGNORE INTO run_keys (scope, key, fingerprint, run_id, created_ms)"
            " VALUES (?,?,?,?,?)",
            (scope, key, fingerprint, run_id, now_ms),
        )
        row = self._db.execute(
            "SELECT run_id, fingerprint FROM run_keys WHERE scope = ? AND key = ?", (scope, key)
        ).fetchone()
        return row[0], row[1]

    # Retention

    def run_sizes(self, project: str) -> dict[str, int]:
        """See `journal_port.Retention`."""
        rows = self._read(
            "SELECT run_id, SUM(LENGTH(CAST(data AS BLOB)) + ?) FROM events"
            " WHERE run_id IN (SELECT run_id FROM runs WHERE project = ?) GROUP BY run_id",
            (_ROW_BYTES, project),
        )
        sizes: dict[str, int] = dict(rows)
        apart = self._read(
            "SELECT run_id, data FROM events"
            " WHERE run_id IN (SELECT run_id FROM runs WHERE project = ?) AND instr(data, ?)",
            (project, f'"{APART}"'),
        )
        for run_id, data in apart:
            with suppress(ValueError, KeyError, TypeError, AttributeError):  # damaged, or no such
                sizes[run_id] += sum(item["size"] for item in json.loads(data)[APART].values())
        return sizes

    def delete_run(self, run_id: str) -> None:
        """See `journal_port.Retention`; call it within a transaction.

        A lease that was ever taken over stays: its epoch still shuts out an owner that was frozen,
        should another run get this id.
        """
        for table in ("events", "inbox", "group_queue", "runs"):
            self._db.execute(f"DELETE FROM {table} WHERE run_id = ?", (run_id,))  # noqa: S608 (constants)
        self._db.execute("DELETE FROM leases WHERE run_id = ? AND epoch = 1", (run_id,))
        self._db.execute(
            "UPDATE run_keys SET run_id = ? WHERE run_id = ?", (PRUNED + run_id, run_id)
        )

    def forget_keys(self, before_ms: int) -> int:
        """See `journal_port.Retention`; call it within a transaction."""
        gone = self._db.execute(
            "DELETE FROM run_keys WHERE created_ms < ? AND substr(run_id, 1, ?) = ?",
            (before_ms, len(PRUNED), PRUNED),
        )
        return gone.rowcount

    def artifact_digests(self) -> set[str]:
        """See `journal_port.Retention`."""
        rows = self._read(
            "SELECT data FROM events WHERE instr(data, '\"artifacts\"') OR instr(data, ?)",
            (f'"{APART}"',),
        )
        found: set[str] = set()
        for (data,) in rows:
            with suppress(ValueError):  # damaged: its run cannot be read any more
                found |= digests_in(json.loads(data))
        return found


_ROW_BYTES = 300
"""About what a row takes beside its data: ids, instants, the index."""


class _Transaction:
    """A block within a transaction. A generator would do the same in twice the time."""

    __slots__ = ("_begun", "_durable", "_journal")

    def __init__(self, journal: Journal, durable: bool) -> None:
        self._journal = journal
        self._durable = durable
        self._begun = False

    def __enter__(self) -> None:
        self._begun = self._journal.begin(durable=self._durable)

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if self._begun:
            self._journal.end(error)


def owned_elsewhere(run_id: str, owner_text: str) -> RequestError:
    """The refusal of a run that another process, which may be alive, owns."""
    other = Owner.from_text(owner_text)
    return RequestError(
        "run.conflict",
        f"Run {run_id} is owned by process {other.pid if other else '?'}. "
        "Wait for it, or ask again when it has ended.",
        details={"run_id": run_id, "owner_pid": other.pid if other else None},
        retryable=True,
    )


def _make_private(path: Path) -> None:
    """Make the file with mode 0600, which SQLite then gives to the files beside it."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
