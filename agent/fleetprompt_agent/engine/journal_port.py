"""What the engine needs of a journal: the seam at which something else can stand in for SQLite.

The engine knows these protocols only. `tests/agent/engine/test_journal_contract.py` says what each
method promises, and runs against every implementation. All of it is synchronous and short: nothing
is awaited inside a transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunEnd
    from fleetprompt_agent.engine.owner import Owner

LEASE_S = 20.0
"""A lease that is not renewed for so long may be taken over; owners renew every quarter of it."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """What is known of a run without reading its events."""

    run_id: str
    project: str
    """The workspace's real path."""
    workflow_id: str
    correlation_id: str
    created_ms: int
    """Epoch milliseconds."""


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A request to the owner of a run."""

    id: int
    """Grows with each request of the journal."""
    run_id: str
    kind: str
    """`cancel`, `decide`, `reissue`."""
    body: dict[str, Any]


class Transactions(Protocol):
    """Whatever is written, is written in one of these."""

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        """Everything inside is committed at once when the block ends, or not at all.

        A block within a block belongs to the outer one. No other process writes meanwhile, so what
        is read inside is still true when it is committed.

        Args:
            durable: It must survive a power loss when the block has ended; otherwise it survives
                the death of the process.

        Raises:
            JournalError: the journal is busy, full, read-only or damaged; nothing was written.
        """
        ...


class EventStore(Protocol):
    """The events of every run, in order."""

    def create_run(self, row: RunRow, *, tenant: str, parent_run_id: str | None) -> None:
        """Make the run known; its events follow in the same transaction."""
        ...

    def append(self, run_id: str, epoch: int, events: list[Event]) -> None:
        """Add the events, of which there may be none, if the lease of this epoch still holds.

        Raises:
            JournalError: `journal.fenced` when another process has taken over the run; nothing was
                added, and the transaction can go on.
        """
        ...

    def load(self, run_id: str, after: int = 0) -> list[Event]:
        """The run's events after the given number, in order; empty when there is no such run.

        Raises:
            JournalError: `journal.corrupt`, naming the run and the event.
        """
        ...

    def load_page(self, run_ids: list[str], skip: int, limit: int) -> list[tuple[str, Event]]:
        """Some events of these runs with their run's id, in the order in which they happened.

        Of one run that is its own order; of several, the order of the clock.
        """
        ...

    def ending(self, run_id: str) -> tuple[RunEnd, int] | None:
        """How and when (epoch milliseconds) the run ended, without reading all of its events.

        None for a run that goes on, was reopened, or does not exist.
        """
        ...


class RunIndex(Protocol):
    """Finding runs without reading their events."""

    def get_run(self, run_id: str) -> RunRow | None:
        """The run of this very id, whatever its project."""
        ...

    def find_runs(self, project: str, prefix: str, limit: int = 20) -> list[RunRow]:
        """The project's runs whose id begins so, newest first."""
        ...

    def list_runs(
        self, project: str, *, limit: int, before: tuple[int, str] | None = None
    ) -> list[RunRow]:
        """The project's runs, newest first, those before `(created_ms, run_id)` if given."""
        ...

    def runs_of(self, project: str, correlation_id: str) -> list[RunRow]:
        """The project's runs on one timeline, oldest first."""
        ...


class Leases(Protocol):
    """Who drives a run: one process at a time."""

    @property
    def lease_s(self) -> float:
        """How long a lease holds that is not renewed, in seconds."""
        ...

    def acquire(self, run_id: str, owner: Owner) -> int:
        """The epoch of a lease that this owner now holds; larger than every epoch before.

        Raises:
            RequestError: `run.conflict`: another process owns the run and may be alive.
        """
        ...

    def renew(self, held: dict[str, int]) -> set[str]:
        """Prolong the leases (run id to epoch); gives the runs that were taken over meanwhile."""
        ...

    def release(self, run_id: str, epoch: int) -> None:
        """Give the lease back, if it is still this one."""
        ...

    def has_live_owner(self, run_id: str, besides: Owner | None = None) -> bool:
        """Whether some process, `besides` this one, holds the lease and is not provably dead."""
        ...


EVERY_REQUEST = (1 << 63) - 1
"""For `clear_inbox`: up to the last one."""


class Inbox(Protocol):
    """Requests to the owners of runs, from whoever asks; no lease is needed to leave one."""

    def post(self, run_id: str, kind: str, body: dict[str, Any]) -> int:
        """Leave a request for the run's owner; gives the request's id."""
        ...

    def read_inbox(self, run_id: str) -> list[InboxItem]:
        """The run's requests, oldest first; they stay until `clear_inbox`."""
        ...

    def clear_inbox(self, run_id: str, up_to_id: int) -> None:
        """Remove the requests that have been answered, in the transaction that answers them."""
        ...

    def has_requests(self, run_id: str, after_id: int) -> bool:
        """Whether a request came in after the given one."""
        ...

    def runs_with_requests(self) -> set[str]:
        """The ids of runs that have something in the inbox."""
        ...

    def data_version(self) -> int:
        """A number that changes when another process has written: worth another look."""
        ...


class Groups(Protocol):
    """At most one run of a concurrency group at a time, per project."""

    def join_group(self, project: str, name: str, run_id: str) -> None:
        """The run takes its place in the queue of its concurrency group, once."""
        ...

    def group_members(self, project: str, name: str) -> list[str]:
        """The ids of the group's runs that have not ended; the first one may run."""
        ...

    def leave_group(self, run_id: str) -> None:
        """The run has ended: the next one of its group may run."""
        ...


class RunKeys(Protocol):
    """Idempotency keys of runs."""

    def claim_key(
        self, scope: str, key: str, fingerprint: str, run_id: str, now_ms: int
    ) -> tuple[str, str]:
        """The `(run_id, fingerprint)` that hold the key: these, or those of whoever came first."""
        ...


PRUNED = "pruned:"
"""Before the id of a forgotten run, where an idempotency key still names it."""


class Retention(Protocol):
    """Forgetting runs; whoever asks has made sure that they have ended."""

    def run_sizes(self, project: str) -> dict[str, int]:
        """About how many bytes each of the project's runs takes, by run id."""
        ...

    def delete_run(self, run_id: str) -> None:
        """Forget the run; its idempotency key stays, held by `PRUNED` and the run's id."""
        ...

    def forget_keys(self, before_ms: int) -> int:
        """Forget the keys of forgotten runs that were claimed before; gives how many."""
        ...

    def artifact_digests(self) -> set[str]:
        """The digests of the artifacts that some run refers to, whatever its project."""
        ...


class JournalPort(
    Transactions, EventStore, RunIndex, Leases, Inbox, Groups, RunKeys, Retention, Protocol
):
    """A journal, whole."""

    def close(self) -> None:
        """Let go of it; leases that are held run out."""
        ...
