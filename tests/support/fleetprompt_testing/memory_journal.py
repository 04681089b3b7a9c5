"""A journal in memory: a second implementation of the port, for tests that need no file.

`MemoryStore` is what the file is to SQLite: the journals over one store see the same runs. Rows are
kept as the SQLite journal keeps them, so that what does not survive a row does not survive here.
"""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.core.events import StepSucceeded
from fleetprompt_agent.engine.event_rows import from_row, to_row
from fleetprompt_agent.engine.journal import owned_elsewhere
from fleetprompt_agent.engine.journal_port import LEASE_S, PRUNED, InboxItem, RunRow
from fleetprompt_agent.engine.owner import boot_clock_s, is_live
from fleetprompt_protocol.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunEnd
    from fleetprompt_agent.engine.owner import Owner


@dataclass
class _Lease:
    owner: str | None
    epoch: int
    expires_boot_s: float


@dataclass
class _Data:
    runs: dict[str, RunRow] = field(default_factory=dict)
    events: dict[str, dict[int, tuple[Any, ...]]] = field(default_factory=dict)
    leases: dict[str, _Lease] = field(default_factory=dict)
    inbox: dict[int, tuple[str, str, str]] = field(default_factory=dict)
    last_inbox_id: int = 0
    groups: list[tuple[str, str, str]] = field(default_factory=list)
    keys: dict[tuple[str, str], tuple[str, str, int]] = field(default_factory=dict)
    """Run id, fingerprint and epoch milliseconds by scope and key."""


@dataclass
class MemoryStore:
    """What several journals share."""

    data: _Data = field(default_factory=_Data)
    writer: MemoryJournal | None = None
    version: int = 0


class MemoryJournal:
    """A `JournalPort` over a store."""

    def __init__(self, store: MemoryStore | None = None, *, lease_s: float = LEASE_S) -> None:
        self.store = store or MemoryStore()
        self.lease_s = lease_s
        self._own_writes = 0
        self._uncommitted: _Data | None = None

    @property
    def _data(self) -> _Data:
        return self._uncommitted or self.store.data

    def close(self) -> None:
        """Nothing is held."""

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:  # noqa: ARG002 - nothing lasts
        """A copy of everything is worked on until the block has ended well."""
        store = self.store
        if store.writer is self:
            yield
            return
        if store.writer is not None:
            raise JournalError("journal.busy", "Another journal writes.", retryable=True)
        store.writer, self._uncommitted = self, copy.deepcopy(store.data)
        try:
            yield
            store.data = self._uncommitted
            store.version += 1
            self._own_writes += 1
        finally:
            store.writer, self._uncommitted = None, None

    def create_run(self, row: RunRow, *, tenant: str, parent_run_id: str | None) -> None:  # noqa: ARG002 - nobody asks for them
        assert row.run_id not in self._data.runs
        self._data.runs[row.run_id] = row

    def append(self, run_id: str, epoch: int, events: list[Event]) -> None:
        lease = self._data.leases.get(run_id)
        if lease is None or lease.epoch != epoch:
            raise JournalError("journal.fenced", f"Run {run_id} has been taken over.")
        rows = self._data.events.setdefault(run_id, {})
        for event in events:
            assert event.seq not in rows
            rows[event.seq] = to_row(event)

    def load(self, run_id: str, after: int = 0) -> list[Event]:
        rows = self._data.events.get(run_id, {})
        return [from_row(run_id, rows[seq]) for seq in sorted(rows) if seq > after]

    def load_page(self, run_ids: list[str], skip: int, limit: int) -> list[tuple[str, Event]]:
        events = [(run_id, event) for run_id in run_ids for event in self.load(run_id)]
        if len(run_ids) > 1:
            events.sort(key=lambda pair: (pair[1].at_ms, pair[0], pair[1].seq))
        return events[skip : skip + limit]

    def ending(self, run_id: str) -> tuple[RunEnd, int] | None:
        for event in reversed(self.load(run_id)):
            match event.body.type:
                case "run.succeeded":
                    return "succeeded", event.at_ms
                case "run.failed":
                    return "failed", event.at_ms
                case "run.canceled":
                    return "canceled", event.at_ms
                case "run.reopened":
                    return None
        return None

    def get_run(self, run_id: str) -> RunRow | None:
        return self._data.runs.get(run_id)

    def _newest(self, project: str) -> list[RunRow]:
        rows = [row for row in self._data.runs.values() if row.project == project]
        return sorted(rows, key=lambda row: (row.created_ms, row.run_id), reverse=True)

    def find_runs(self, project: str, prefix: str, limit: int = 20) -> list[RunRow]:
        found = [row for row in self._newest(project) if row.run_id.startswith(prefix)]
        return found[:limit]

    def list_runs(
        self, project: str, *, limit: int, before: tuple[int, str] | None = None
    ) -> list[RunRow]:
        rows = self._newest(project)
        if before is not None:
            rows = [row for row in rows if (row.created_ms, row.run_id) < before]
        return rows[:limit]

    def runs_of(self, project: str, correlation_id: str) -> list[RunRow]:
        rows = reversed(self._newest(project))
        return [row for row in rows if row.correlation_id == correlation_id]

    def acquire(self, run_id: str, owner: Owner) -> int:
        lease = self._data.leases.get(run_id)
        text = owner.to_text()
        if lease is not None and lease.owner not in (None, text):
            assert lease.owner is not None
            if is_live(lease.owner, lease.expires_boot_s):
                raise owned_elsewhere(run_id, lease.owner)
        epoch = 1 if lease is None else lease.epoch + 1
        self._data.leases[run_id] = _Lease(text, epoch, boot_clock_s() + self.lease_s)
        return epoch

    def renew(self, held: dict[str, int]) -> set[str]:
        lost = set()
        for run_id, epoch in held.items():
            lease = self._data.leases.get(run_id)
            if lease is None or lease.epoch != epoch:
                lost.add(run_id)
            else:
                lease.expires_boot_s = boot_clock_s() + self.lease_s
        return lost

    def release(self, run_id: str, epoch: int) -> None:
        lease = self._data.leases.get(run_id)
        if lease is not None and lease.epoch == epoch:
            lease.owner, lease.expires_boot_s = None, 0.0

    def has_live_owner(self, run_id: str, besides: Owner | None = None) -> bool:
        lease = self._data.leases.get(run_id)
        if lease is None or lease.owner is None:
            return False
        if besides is not None and lease.owner == besides.to_text():
            return False
        return is_live(lease.owner, lease.expires_boot_s)

    def post(self, run_id: str, kind: str, body: dict[str, Any]) -> int:
        self._data.last_inbox_id += 1
        self._data.inbox[self._data.last_inbox_id] = (run_id, kind, json.dumps(body))
        return self._data.last_inbox_id

    def read_inbox(self, run_id: str) -> list[InboxItem]:
        return [
            InboxItem(id_, run_id, kind, json.loads(body))
            for id_, (whose, kind, body) in self._data.inbox.items()
            if whose == run_id
        ]

    def clear_inbox(self, run_id: str, up_to_id: int) -> None:
        for item in self.read_inbox(run_id):
            if item.id <= up_to_id:
                del self._data.inbox[item.id]

    def has_requests(self, run_id: str, after_id: int) -> bool:
        return any(item.id > after_id for item in self.read_inbox(run_id))

    def runs_with_requests(self) -> set[str]:
        return {run_id for run_id, _, _ in self._data.inbox.values()}

    def data_version(self) -> int:
        return self.store.version - self._own_writes

    def join_group(self, project: str, name: str, run_id: str) -> None:
        if all(member != run_id for _, _, member in self._data.groups):
            self._data.groups.append((project, name, run_id))

    def group_members(self, project: str, name: str) -> list[str]:
        return [run for where, group, run in self._data.groups if (where, group) == (project, name)]

    def leave_group(self, run_id: str) -> None:
        self._data.groups = [entry for entry in self._data.groups if entry[2] != run_id]

    def claim_key(
        self, scope: str, key: str, fingerprint: str, run_id: str, now_ms: int
    ) -> tuple[str, str]:  # fmt: skip
        kept = self._data.keys.setdefault((scope, key), (run_id, fingerprint, now_ms))
        return kept[0], kept[1]

    def run_sizes(self, project: str) -> dict[str, int]:
        return {
            run_id: sum(len(str(values)) for values in rows.values())
            for run_id, rows in self._data.events.items()
            if self._data.runs[run_id].project == project
        }

    def delete_run(self, run_id: str) -> None:
        data = self._data
        data.runs.pop(run_id, None)
        data.events.pop(run_id, None)
        data.inbox = {id_: item for id_, item in data.inbox.items() if item[0] != run_id}
        data.groups = [entry for entry in data.groups if entry[2] != run_id]
        lease = data.leases.get(run_id)
        if lease is not None and lease.epoch == 1:
            del data.leases[run_id]
        for place, (holder, fingerprint, at) in data.keys.items():
            if holder == run_id:
                data.keys[place] = (PRUNED + run_id, fingerprint, at)

    def forget_keys(self, before_ms: int) -> int:
        keys = self._data.keys
        gone = [
            place
            for place, (holder, _, at) in keys.items()
            if holder.startswith(PRUNED) and at < before_ms
        ]
        for place in gone:
            del keys[place]
        return len(gone)

    def artifact_digests(self) -> set[str]:
        bodies = [
            from_row(run_id, values).body
            for run_id, rows in self._data.events.items()
            for values in rows.values()
        ]
        results = [body.result for body in bodies if isinstance(body, StepSucceeded)]
        return {
            artifact["sha256"] for result in results for artifact in result.get("artifacts", ())
        }
