"""The journal: the events of every run, leases, the inbox and idempotency keys, in one SQLite file.

Theory of operation. Only the process that holds a run's lease appends to it: `append` checks the
lease's epoch in the same transaction as the rows, so a frozen owner that wakes up is fenced out.
Others put requests into the unfenced inbox. A transaction that holds an event which must survive a
power loss is committed with `synchronous=FULL`, any other with `NORMAL` (which survives the death
of the process). Everything is synchronous and short; nothing is awaited inside a transaction.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.core.events import Event, body_from, to_columns
from fleetprompt_agent.engine.owner import Owner, boot_clock_s
from fleetprompt_protocol.errors import JournalError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SCHEMA_VERSION = 1
APPLICATION_ID = 0x464C5054
"""`FLPT`, in the header of the file: a foreign database is refused."""
BUSY_TIMEOUT_MS = 5_000
"""How long a writer waits for another; a transaction takes a few milliseconds."""
LEASE_S = 20.0
"""A lease that is not renewed for so long may be taken over; owners renew every quarter of it."""

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
"""

_INSERT_EVENT = (
    "INSERT INTO events (run_id, seq, at, type, step_path, attempt, data, tenant, actor_type,"
    " actor_id, request_id, correlation_id, causation_id, event_id)"
    " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
)
_SELECT_EVENTS = (
    "SELECT seq, at, type, step_path, attempt, data, tenant, actor_type, actor_id, request_id,"
    " correlation_id, causation_id, event_id FROM events WHERE run_id = ? AND seq > ? ORDER BY seq"
)


@dataclass(frozen=True, slots=True)
class RunRow:
    """What is known of a run without reading its events."""

    run_id: str
    project: str
    workflow_id: str
    correlation_id: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A request to the owner of a run."""

    id: int
    run_id: str
    kind: str
    """`cancel`, `decide`, `reissue`."""
    body: dict[str, Any]


class Journal:
    """One open journal file. Not shared between threads."""

    def __init__(self, path: Path) -> None:
        """Open the file at `path`, or make it.

        Raises:
            JournalError: it cannot be opened, is foreign, or is of another version.
        """
        self.path = path
        self._in_transaction = False
        self._full = False
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_MS / 1000)
            path.chmod(0o600)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise self._error(error) from error

    def _prepare(self) -> None:
        db = self._db
        version = db.execute("PRAGMA user_version").fetchone()[0]
        application = db.execute("PRAGMA application_id").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise JournalError(
                "journal.version",
                f"The journal {self.path} has format {version}; this version reads up to "
                f"{SCHEMA_VERSION}. Use the newer version, or another FLEETPROMPT_HOME.",
            )
        if version == 0:
            # The journal mode cannot change inside a transaction; WAL is kept in the file.
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("BEGIN IMMEDIATE")
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                    db.execute("ROLLBACK")
                    raise JournalError(
                        "journal.corrupt",
                        f"{self.path} is not a journal of FleetPrompt. Move it away.",
                    )
                for statement in _SCHEMA.split(";"):
                    db.execute(statement)
                db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.execute("COMMIT")
        elif application != APPLICATION_ID:
            raise JournalError(
                "journal.corrupt", f"{self.path} is not a journal of FleetPrompt. Move it away."
            )
        db.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Close the file; leases that are held run out."""
        self._db.close()

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """Everything inside is committed at once, or not at all.

        Args:
            durable: It must survive a power loss when the block has ended.

        Raises:
            JournalError: the journal is busy, full, read-only or damaged; nothing was written.
        """
        if self._in_transaction:
            yield
            return
        try:
            if durable != self._full:
                self._db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
                self._full = durable
            self._db.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._error(error) from error
        self._in_transaction = True
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            self._rollback()
            if isinstance(error, sqlite3.Error):
                raise self._error(error) from error
            raise
        finally:
            self._in_transaction = False

    def _rollback(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise self._error(error) from error

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        """Within a transaction: what is inside can fail without taking the rest with it."""
        self._db.execute("SAVEPOINT run")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK TO run")
                self._db.execute("RELEASE run")
            raise
        self._db.execute("RELEASE run")

    def _error(self, error: Exception) -> JournalError:
        text = str(error)
        code = getattr(error, "sqlite_errorname", "") or ""
        if "BUSY" in code or "LOCKED" in code:
            return JournalError(
                "journal.busy",
                f"Another process has held the journal {self.path} for {BUSY_TIMEOUT_MS / 1000:g} "
                "s. Try again; if it stays so, look which process has the file open.",
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

    # Runs and events

    def create_run(self, row: RunRow, *, tenant: str, parent_run_id: str | None) -> None:
        """Make the run known; its events follow in the same transaction."""
        self._db.execute(
            "INSERT INTO runs (run_id, project, tenant, workflow_id, correlation_id,"
            " parent_run_id, created_ms) VALUES (?,?,?,?,?,?,?)",
            (
                row.run_id, row.project, tenant, row.workflow_id, row.correlation_id,
                parent_run_id, row.created_ms,
            ),
        )  # fmt: skip

    def append(self, run_id: str, epoch: int, events: list[Event]) -> None:
        """Add the events, if the lease of this epoch still holds.

        Raises:
            JournalError: `journal.fenced` when another process has taken over the run.
        """
        held = self._db.execute("SELECT epoch FROM leases WHERE run_id = ?", (run_id,)).fetchone()
        if held is None or held[0] != epoch:
            raise JournalError(
                "journal.fenced",
                f"Run {run_id} has been taken over by another process; this one leaves it alone.",
                details={"run_id": run_id},
            )
        self._db.executemany(_INSERT_EVENT, [_row(run_id, event) for event in events])

    def load(self, run_id: str, after: int = 0) -> list[Event]:
        """The run's events after the given number, in order; empty when there is no such run.

        Raises:
            JournalError: `journal.corrupt`, naming the run and the row.
        """
        try:
            rows = self._db.execute(_SELECT_EVENTS, (run_id, after)).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error
        return [_event(run_id, row) for row in rows]

    def get_run(self, run_id: str) -> RunRow | None:
        """The run of this very id."""
        row = self._db.execute(f"{_SELECT_RUNS} WHERE run_id = ?", (run_id,)).fetchone()
        return RunRow(*row) if row else None

    def find_runs(self, project: str, prefix: str, limit: int = 20) -> list[RunRow]:
        """The project's runs whose id begins so, newest first."""
        rows = self._db.execute(
            f"{_SELECT_RUNS} WHERE project = ? AND substr(run_id, 1, ?) = ?"
            " ORDER BY created_ms DESC, run_id DESC LIMIT ?",
            (project, len(prefix), prefix, limit),
        ).fetchall()
        return [RunRow(*row) for row in rows]

    def list_runs(
        self, project: str, *, limit: int, before: tuple[int, str] | None = None
    ) -> list[RunRow]:
        """The project's runs, newest first, those before `(created_ms, run_id)` if given."""
        at, run_id = before or (1 << 62, "")
        rows = self._db.execute(
            f"{_SELECT_RUNS} WHERE project = ? AND (created_ms, run_id) < (?, ?)"
            " ORDER BY created_ms DESC, run_id DESC LIMIT ?",
            (project, at, run_id, limit),
        ).fetchall()
        return [RunRow(*row) for row in rows]

    def runs_of(self, project: str, correlation_id: str) -> list[RunRow]:
        """The project's runs on one timeline, oldest first."""
        rows = self._db.execute(
            f"{_SELECT_RUNS} WHERE correlation_id = ? AND project = ? ORDER BY created_ms, run_id",
            (correlation_id, project),
        ).fetchall()
        return [RunRow(*row) for row in rows]

    # Leases

    def acquire(self, run_id: str, owner: Owner) -> int:
        """The epoch of a lease that this owner now holds; call it within a transaction.

        Raises:
            RequestError: `run.conflict`: another process owns the run and may be alive.
        """
        text = owner.to_text()
        row = self._db.execute(
            "SELECT owner, epoch, expires_boot_s FROM leases WHERE run_id = ?", (run_id,)
        ).fetchone()
        epoch = 1 if row is None else row[1] + 1
        if row is not None and row[0] is not None and row[0] != text and _is_live(row[0], row[2]):
            other = Owner.from_text(row[0])
            raise RequestError(
                "run.conflict",
                f"Run {run_id} is owned by process {other.pid if other else '?'}. "
                "Wait for it, or ask again when it has ended.",
                details={"run_id": run_id, "owner_pid": other.pid if other else None},
                retryable=True,
            )
        self._db.execute(
            "INSERT INTO leases (run_id, owner, epoch, expires_boot_s) VALUES (?,?,?,?)"
            " ON CONFLICT (run_id) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch,"
            " expires_boot_s = excluded.expires_boot_s",
            (run_id, text, epoch, boot_clock_s() + LEASE_S),
        )
        return epoch

    def renew(self, held: dict[str, int]) -> set[str]:
        """Prolong the leases (run id to epoch); gives the runs that were taken over meanwhile."""
        lost = set()
        expires = boot_clock_s() + LEASE_S
        for run_id, epoch in held.items():
            changed = self._db.execute(
                "UPDATE leases SET expires_boot_s = ? WHERE run_id = ? AND epoch = ?",
                (expires, run_id, epoch),
            )
            if changed.rowcount == 0:
                lost.add(run_id)
        return lost

    def release(self, run_id: str, epoch: int) -> None:
        """Give the lease back, if it is still this one."""
        self._db.execute(
            "UPDATE leases SET owner = NULL, expires_boot_s = 0 WHERE run_id = ? AND epoch = ?",
            (run_id, epoch),
        )

    def has_live_owner(self, run_id: str) -> bool:
        """Whether some process holds the run's lease and is not provably dead."""
        row = self._db.execute(
            "SELECT owner, expires_boot_s FROM leases WHERE run_id = ?", (run_id,)
        ).fetchone()
        return row is not None and row[0] is not None and _is_live(row[0], row[1])

    # The inbox

    def post(self, run_id: str, kind: str, body: dict[str, Any]) -> None:
        """Leave a request for the run's owner."""
        self._db.execute(
            "INSERT INTO inbox (run_id, kind, body) VALUES (?,?,?)",
            (run_id, kind, json.dumps(body, allow_nan=False)),
        )

    def read_inbox(self, run_id: str) -> list[InboxItem]:
        """The run's requests, oldest first; they stay until `clear_inbox`."""
        rows = self._db.execute(
            "SELECT id, kind, body FROM inbox WHERE run_id = ? ORDER BY id", (run_id,)
        ).fetchall()
        return [InboxItem(row[0], run_id, row[1], json.loads(row[2])) for row in rows]

    def clear_inbox(self, run_id: str, up_to_id: int) -> None:
        """Remove the requests that have been answered, in the transaction that answers them."""
        self._db.execute("DELETE FROM inbox WHERE run_id = ? AND id <= ?", (run_id, up_to_id))

    def has_requests(self, run_id: str, after_id: int) -> bool:
        """Whether a request came in after the given one."""
        row = self._db.execute(
            "SELECT 1 FROM inbox WHERE run_id = ? AND id > ? LIMIT 1", (run_id, after_id)
        ).fetchone()
        return row is not None

    def runs_with_requests(self) -> set[str]:
        """The ids of runs that have something in the inbox."""
        return {row[0] for row in self._db.execute("SELECT DISTINCT run_id FROM inbox")}

    def data_version(self) -> int:
        """A number that changes when another process has written."""
        value: int = self._db.execute("PRAGMA data_version").fetchone()[0]
        return value

    # Idempotency keys

    def claim_key(
        self, scope: str, key: str, fingerprint: str, run_id: str, now_ms: int
    ) -> tuple[str, str]:
        """The `(run_id, fingerprint)` that hold the key: these, or those of whoever came first."""
        self._db.execute(
            "INSERT OR IGNORE INTO run_keys (scope, key, fingerprint, run_id, created_ms)"
            " VALUES (?,?,?,?,?)",
            (scope, key, fingerprint, run_id, now_ms),
        )
        row = self._db.execute(
            "SELECT run_id, fingerprint FROM run_keys WHERE scope = ? AND key = ?", (scope, key)
        ).fetchone()
        return row[0], row[1]


_SELECT_RUNS = "SELECT run_id, project, workflow_id, correlation_id, created_ms FROM runs"


def _is_live(owner_text: str, expires_boot_s: float) -> bool:
    owner = Owner.from_text(owner_text)
    if owner is None or owner.is_gone():
        return False
    return expires_boot_s > boot_clock_s()


def _row(run_id: str, event: Event) -> tuple[Any, ...]:
    type_, step_path, attempt, data = to_columns(event.body)
    return (
        run_id, event.seq, event.at_ms, type_, step_path, attempt,
        json.dumps(data, separators=(",", ":"), allow_nan=False), event.tenant,
        event.actor_type, event.actor_id, event.request_id, event.correlation_id,
        event.causation_id, event.event_id,
    )  # fmt: skip


def _event(run_id: str, row: tuple[Any, ...]) -> Event:
    seq, at, type_, step_path, attempt, data, tenant, actor_type, actor_id, *ids = row
    try:
        body = body_from(type_, step_path, attempt, json.loads(data))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise JournalError(
            "journal.corrupt",
            f"Event {seq} of run {run_id} cannot be read. Other runs are not affected.",
            details={"run_id": run_id, "seq": seq},
        ) from error
    return Event(
        seq=seq,
        at_ms=at,
        body=body,
        event_id=ids[3],
        request_id=ids[0],
        correlation_id=ids[1],
        causation_id=ids[2],
        actor_type=actor_type,
        actor_id=actor_id,
        tenant=tenant,
    )
