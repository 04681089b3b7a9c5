"""What every journal promises, whatever keeps it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.memory_journal import MemoryJournal, MemoryStore

from fleetprompt_agent.engine.core.events import (
    Event,
    LeaseTaken,
    RunFailed,
    RunReopened,
    RunSucceeded,
    StepSucceeded,
)
from fleetprompt_agent.engine.journal import Journal
from fleetprompt_agent.engine.journal_port import PRUNED, RunRow
from fleetprompt_agent.engine.owner import Owner
from fleetprompt_protocol.errors import JournalError, RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fleetprompt_agent.engine.core.events import Body
    from fleetprompt_agent.engine.journal_port import JournalPort

ME = Owner.of_this_process()
OTHER = replace(ME, pid_namespace="elsewhere")
"""Alive as far as anybody can tell: a process that cannot be seen from here."""


@pytest.fixture(params=["sqlite", "memory"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., JournalPort]]:
    """Opens journals over the same store, as several processes would."""
    opened: list[JournalPort] = []
    store = MemoryStore()

    def open_journal(**options: Any) -> JournalPort:
        journal: JournalPort
        if request.param == "sqlite":
            journal = Journal(tmp_path / "journal.db", **options)
        else:
            options.pop("busy_timeout_s", None)
            journal = MemoryJournal(store, **options)
        opened.append(journal)
        return journal

    yield open_journal
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(opener: Callable[..., JournalPort]) -> JournalPort:
    return opener()


def row(run_id: str, created_ms: int = 1, **fields: Any) -> RunRow:
    values = {"project": "/p", "workflow_id": "w", "correlation_id": run_id, **fields}
    return RunRow(run_id=run_id, created_ms=created_ms, **values)


def event(seq: int, **fields: Any) -> Event:
    body = fields.pop("body", LeaseTaken("o", 1))
    return Event(seq, 1000 + seq, body, f"e{seq}", "req", "cor", None, **fields)


def made(journal: JournalPort, run_id: str = "r", **fields: Any) -> int:
    """A run of one event; gives the epoch of its lease."""
    with journal.transaction():
        journal.create_run(row(run_id, **fields), tenant="local", parent_run_id=None)
        epoch = journal.acquire(run_id, ME)
        journal.append(run_id, epoch, [event(1)])
    return epoch


def seqs(journal: JournalPort, run_id: str = "r", after: int = 0) -> list[int]:
    return [item.seq for item in journal.load(run_id, after)]


def test_events_come_back_as_they_were_and_in_order(journal: JournalPort) -> None:
    epoch = made(journal)
    body = StepSucceeded("a[0]", 2, {"json": {"ünï": [1, 2.5, None, "\u0000 😀 \ud800"]}}, 1.5)
    second = event(2, body=body, actor_type="human", actor_id="me", tenant="t")
    with journal.transaction():
        journal.append("r", epoch, [second])
    assert journal.load("r") == [event(1), second]
    assert journal.load("r", after=1) == [second]
    assert journal.load("nobody") == []


def test_a_failed_transaction_leaves_nothing(journal: JournalPort) -> None:
    epoch = made(journal)

    def fail() -> None:
        with journal.transaction():
            journal.append("r", epoch, [event(2)])
            journal.post("r", "cancel", {})
            journal.claim_key("s", "k", "f", "r", 1)
            journal.join_group("/p", "g", "r")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert journal.group_members("/p", "g") == []
    assert seqs(journal) == [1]
    assert journal.read_inbox("r") == []
    with journal.transaction():
        assert journal.claim_key("s", "k", "g", "q", 1) == ("q", "g")


def test_a_block_within_a_block_belongs_to_the_outer_one(journal: JournalPort) -> None:
    epoch = made(journal)

    def fail() -> None:
        with journal.transaction():
            with journal.transaction(durable=True):
                journal.append("r", epoch, [event(2)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert seqs(journal) == [1]


def test_what_one_has_committed_the_other_sees(opener: Callable[..., JournalPort]) -> None:
    one, other = opener(), opener()
    seen = other.data_version()
    epoch = made(one)
    assert other.data_version() != seen
    seen = other.data_version()
    assert seqs(other) == [1]
    assert other.data_version() == seen
    with one.transaction(durable=True):
        one.append("r", epoch, [event(2)])
    assert seqs(other, after=1) == [2]
    assert other.data_version() != seen


def test_an_append_without_the_lease_is_refused_and_harms_nobody_else(
    opener: Callable[..., JournalPort],
) -> None:
    one, other = opener(), opener()
    old = made(one)
    epoch = made(one, "q")
    with other.transaction():
        new = other.acquire("r", ME)
    assert new > old
    with one.transaction():
        with pytest.raises(JournalError) as refused:
            one.append("r", old, [event(2)])
        one.append("q", epoch, [event(2)])
    assert refused.value.code == "journal.fenced"
    assert (seqs(other), seqs(other, "q")) == ([1], [1, 2])
    with other.transaction():
        other.append("r", new, [event(2)])
    assert seqs(one) == [1, 2]


def test_an_append_of_nothing_still_asks_for_the_lease(journal: JournalPort) -> None:
    epoch = made(journal)
    with journal.transaction():
        journal.append("r", epoch, [])
        with pytest.raises(JournalError):
            journal.append("r", epoch + 1, [])
        with pytest.raises(JournalError):
            journal.append("nobody", 1, [])


def test_a_lease_of_the_living_is_not_given_away(opener: Callable[..., JournalPort]) -> None:
    one, other = opener(), opener()
    made(one)
    assert other.has_live_owner("r")
    assert other.has_live_owner("r", besides=OTHER)
    assert not other.has_live_owner("r", besides=ME)
    with pytest.raises(RequestError) as refused, other.transaction():
        other.acquire("r", OTHER)
    assert refused.value.code == "run.conflict"
    assert refused.value.details == {"run_id": "r", "owner_pid": os.getpid()}


def test_a_lease_of_the_dead_is_free_at_once(journal: JournalPort) -> None:
    with subprocess.Popen(["true"]) as process:
        dead = replace(ME, pid=process.pid, start="1")
    with journal.transaction():
        journal.create_run(row("r"), tenant="local", parent_run_id=None)
        first = journal.acquire("r", dead)
    assert not journal.has_live_owner("r")
    with journal.transaction():
        assert journal.acquire("r", ME) > first


def test_a_lease_that_has_run_out_is_free(opener: Callable[..., JournalPort]) -> None:
    hasty, other = opener(lease_s=0.0), opener()
    first = made(hasty)
    assert not other.has_live_owner("r")
    with other.transaction():
        assert other.acquire("r", OTHER) > first


def test_a_released_lease_is_free_and_an_old_release_changes_nothing(
    journal: JournalPort,
) -> None:
    epoch = made(journal)
    with journal.transaction():
        journal.release("r", epoch - 1)
    assert journal.has_live_owner("r")
    with journal.transaction():
        journal.release("r", epoch)
    assert not journal.has_live_owner("r")
    assert not journal.has_live_owner("nobody")


def test_a_renewal_prolongs_and_names_what_was_taken(opener: Callable[..., JournalPort]) -> None:
    hasty, patient = opener(lease_s=0.0), opener()
    kept, lost = made(hasty), made(hasty, "q")
    with patient.transaction():
        patient.acquire("q", ME)
        assert patient.renew({"r": kept, "q": lost}) == {"q"}
    assert patient.has_live_owner("r")


def test_requests_wait_in_order_until_they_are_cleared(opener: Callable[..., JournalPort]) -> None:
    asker, owner = opener(), opener()
    with asker.transaction():
        posted = asker.post("r", "cancel", {"reason": "ü"})
        asker.post("q", "cancel", {})
        asker.post("r", "decide", {"gate_id": "g"})
    assert owner.runs_with_requests() == {"r", "q"}
    first, second = owner.read_inbox("r")
    assert first.id == posted
    assert (first.kind, first.body, second.kind) == ("cancel", {"reason": "ü"}, "decide")
    assert first.id < second.id
    assert owner.has_requests("r", first.id)
    assert not owner.has_requests("r", second.id)
    with owner.transaction():
        owner.clear_inbox("r", first.id)
    assert [item.kind for item in owner.read_inbox("r")] == ["decide"]
    assert owner.runs_with_requests() == {"r", "q"}


def test_a_request_after_a_clearing_has_a_new_number(journal: JournalPort) -> None:
    with journal.transaction():
        journal.post("r", "cancel", {})
    (first,) = journal.read_inbox("r")
    with journal.transaction():
        journal.clear_inbox("r", first.id)
        journal.post("r", "cancel", {})
    (second,) = journal.read_inbox("r")
    assert second.id > first.id


def test_runs_are_listed_newest_first_page_by_page(journal: JournalPort) -> None:
    for number, run_id in enumerate(("a", "c", "b", "d")):
        made(journal, run_id, created_ms=number // 2)
    made(journal, "x", project="/other")
    rows = journal.list_runs("/p", limit=10)
    assert [item.run_id for item in rows] == ["d", "b", "c", "a"]
    page = journal.list_runs("/p", limit=3)
    last = page[-1]
    rest = journal.list_runs("/p", limit=3, before=(last.created_ms, last.run_id))
    assert page + rest == rows
    assert journal.get_run("x") == row("x", project="/other")
    assert journal.get_run("y") is None


@pytest.mark.parametrize(
    ("prefix", "found"),
    [
        ("", ["ab2", "ab1", "a%b", "a"]),
        ("a", ["ab2", "ab1", "a%b", "a"]),
        ("ab", ["ab2", "ab1"]),
        ("ab1", ["ab1"]),
        ("a%", ["a%b"]),
        ("a_", []),
        ("A", []),
        ("ü", []),
        ("\ud800", []),
        ("\x7f", []),
    ],
)
def test_runs_are_found_by_the_beginning_of_their_id(
    journal: JournalPort, prefix: str, found: list[str]
) -> None:
    for number, run_id in enumerate(("a", "a%b", "ab1", "ab2")):
        made(journal, run_id, created_ms=number)
    made(journal, "ab3", project="/other")
    assert [item.run_id for item in journal.find_runs("/p", prefix)] == found
    assert [item.run_id for item in journal.find_runs("/p", prefix, 1)] == found[:1]


def test_a_timeline_has_its_runs_oldest_first(journal: JournalPort) -> None:
    made(journal, "late", correlation_id="line", created_ms=2)
    made(journal, "early", correlation_id="line", created_ms=1)
    made(journal, "foreign", correlation_id="line", project="/other")
    made(journal, "alone")
    assert [item.run_id for item in journal.runs_of("/p", "line")] == ["early", "late"]


def test_the_first_claim_of_a_key_holds(opener: Callable[..., JournalPort]) -> None:
    one, other = opener(), opener()
    with one.transaction():
        assert one.claim_key("s", "k", "f", "r", 1) == ("r", "f")
    with other.transaction():
        assert other.claim_key("s", "k", "g", "q", 2) == ("r", "f")
        assert other.claim_key("t", "k", "g", "q", 2) == ("q", "g")


def test_a_group_is_a_queue_of_its_own(opener: Callable[..., JournalPort]) -> None:
    one, other = opener(), opener()
    with one.transaction():
        for run_id in ("c", "a", "b", "a"):
            one.join_group("/p", "g", run_id)
        one.join_group("/p", "h", "x")
        one.join_group("/other", "g", "y")
    assert other.group_members("/p", "g") == ["c", "a", "b"]
    with other.transaction():
        other.leave_group("c")
        other.leave_group("nobody")
    assert one.group_members("/p", "g") == ["a", "b"]
    with other.transaction():
        other.join_group("/p", "g", "c")
    assert one.group_members("/p", "g") == ["a", "b", "c"]


def test_a_forgotten_run_leaves_its_key_and_nothing_else(
    opener: Callable[..., JournalPort],
) -> None:
    one, other = opener(), opener()
    artifact = {"name": "a", "sha256": "ab" * 32, "size": 1}
    for run_id in ("r", "q"):
        epoch = made(one, run_id)
        with one.transaction():
            body = StepSucceeded("a", 1, {"artifacts": [{**artifact, "sha256": run_id * 64}]})
            one.append(run_id, epoch, [event(2, body=body)])
            one.post(run_id, "cancel", {})
            one.join_group("/p", "g", run_id)
            one.claim_key("s", run_id, "f", run_id, 10)
    made(one, "elsewhere", project="/other")
    assert one.run_sizes("/p").keys() == {"r", "q"}
    assert all(size > 0 for size in one.run_sizes("/p").values())
    assert one.artifact_digests() == {"r" * 64, "q" * 64}
    with one.transaction():
        one.delete_run("r")
        one.delete_run("nobody")
    assert (other.get_run("r"), other.load("r"), other.read_inbox("r")) == (None, [], [])
    assert other.group_members("/p", "g") == ["q"]
    assert other.run_sizes("/p").keys() == {"q"}
    assert other.artifact_digests() == {"q" * 64}
    assert (seqs(other, "q"), len(other.read_inbox("q"))) == ([1, 2], 1)
    with other.transaction():
        assert other.claim_key("s", "r", "f", "r", 20) == (f"{PRUNED}r", "f")
        assert other.forget_keys(10) == 0
        assert other.forget_keys(11) == 1
        assert other.claim_key("s", "r", "f", "new", 20) == ("new", "f")
        assert other.claim_key("s", "q", "f", "new", 20) == ("q", "f")


def test_a_forgotten_run_that_was_taken_over_still_shuts_out_its_first_owner(
    journal: JournalPort,
) -> None:
    first = made(journal)
    with journal.transaction():
        second = journal.acquire("r", ME)
        journal.release("r", second)
        journal.delete_run("r")
    assert made(journal) > second > first


def test_what_is_not_committed_is_seen_by_nobody_else(opener: Callable[..., JournalPort]) -> None:
    one, other = opener(), opener()
    epoch = made(one)
    with one.transaction():
        one.append("r", epoch, [event(2)])
        assert seqs(other) == [1]
    assert seqs(other) == [1, 2]


def test_a_writer_who_finds_another_is_told_so(opener: Callable[..., JournalPort]) -> None:
    one, other = opener(), opener(busy_timeout_s=0.0)
    epoch = made(one)
    with one.transaction():
        one.append("r", epoch, [event(2)])
        with pytest.raises(JournalError) as refused, other.transaction():
            pass
    assert (refused.value.code, refused.value.retryable) == ("journal.busy", True)
    made(other, "q")
    assert seqs(one) == [1, 2]


def test_how_a_run_ended_is_told_until_it_is_reopened(journal: JournalPort) -> None:
    epoch = made(journal)
    assert journal.ending("r") is None
    assert journal.ending("nobody") is None
    steps: list[tuple[Body, tuple[str, int] | None]] = [
        (RunFailed({"code": "x"}), ("failed", 1002)),
        (RunReopened("a"), None),
        (RunSucceeded({}, None), ("succeeded", 1004)),
        (LeaseTaken("o", 3), ("succeeded", 1004)),
    ]
    for seq, (body, ending) in enumerate(steps, 2):
        with journal.transaction():
            journal.append("r", epoch, [event(seq, body=body)])
        assert journal.ending("r") == ending


def test_pages_of_one_run_and_of_several_come_in_order(journal: JournalPort) -> None:
    for run_id in ("a", "b"):
        epoch = made(journal, run_id)
        with journal.transaction():
            journal.append(run_id, epoch, [event(seq) for seq in range(2, 5)])
    assert [(who, item.seq) for who, item in journal.load_page(["b"], 1, 2)] == [("b", 2), ("b", 3)]
    both = [(who, item.seq) for who, item in journal.load_page(["b", "a"], 0, 9)]
    assert both == [(who, seq) for seq in range(1, 5) for who in ("a", "b")]
    assert [(who, item.seq) for who, item in journal.load_page(["b", "a"], 3, 2)] == both[3:5]
    assert journal.load_page(["a"], 9, 2) == []
