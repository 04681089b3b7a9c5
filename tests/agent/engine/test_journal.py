"""The SQLite journal when its file, its disk or its neighbours are not as they should be."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.plans import random_plan
from fleetprompt_testing.simulation import Simulation
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_agent.engine.core.decide import decide
from fleetprompt_agent.engine.event_rows import COLUMNS, from_row, to_row
from fleetprompt_agent.engine.journal import APPLICATION_ID, SCHEMA_VERSION, Journal
from fleetprompt_agent.engine.journal_port import RunRow
from fleetprompt_agent.engine.owner import Owner
from fleetprompt_protocol.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetprompt_agent.engine.core.events import Event

ME = Owner.of_this_process()


def simulated(seed: int) -> list[Event]:
    """The events of some run, from its beginning to its end."""
    random = Random(seed)
    sim = Simulation(random_plan(random), random)
    sim.run()
    return sim.events


def write(journal: Journal, run_id: str, events: list[Event]) -> int:
    """A run with these events; gives the epoch of its lease."""
    with journal.transaction(durable=True):
        row = RunRow(run_id, "/p", "w", run_id, 1)
        journal.create_run(row, tenant="local", parent_run_id=None)
        epoch = journal.acquire(run_id, ME)
        journal.append(run_id, epoch, events)
    return epoch


def refusal(open_it: Callable[[], object]) -> JournalError:
    """The error with which it is refused."""
    with pytest.raises(JournalError) as refused:
        open_it()
    return refused.value


def test_the_files_of_a_journal_are_for_their_owner_only(tmp_path: Path) -> None:
    os.umask(os.umask(0o022))
    with closing(Journal(tmp_path / "journal.db")) as journal:
        write(journal, "r", simulated(1))
        files = sorted(path.name for path in tmp_path.iterdir())
        assert files == ["journal.db", "journal.db-shm", "journal.db-wal"]
        for path in tmp_path.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_journal_opened_again_has_what_was_written(tmp_path: Path) -> None:
    events = simulated(2)
    with closing(Journal(tmp_path / "journal.db")) as journal:
        write(journal, "r", events)
    with closing(Journal(tmp_path / "journal.db")) as journal:
        assert journal.load("r") == events


def test_many_who_make_the_same_journal_at_once_all_get_it(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from fleetprompt_agent.engine.journal import Journal;"
        "sys.stdin.read(); Journal(pathlib.Path(sys.argv[1])).list_runs('/p', limit=1)"
    )
    path = tmp_path / "journal.db"
    many = [
        subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE)
        for _ in range(4)
    ]
    for process in many:
        assert process.stdin is not None
        process.stdin.close()
    assert [process.wait(60) for process in many] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("statements", "code"),
    [
        (f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={SCHEMA_VERSION + 1}",
         "journal.version"),
        (f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version=-1", "journal.version"),
        (f"PRAGMA application_id={APPLICATION_ID}", "journal.version"),
        ("PRAGMA user_version=1", "journal.corrupt"),
        ("PRAGMA application_id=7", "journal.corrupt"),
        ("CREATE TABLE events (x)", "journal.corrupt"),
        ("CREATE TABLE theirs (x); PRAGMA user_version=99", "journal.corrupt"),
    ],
)  # fmt: skip
def test_a_foreign_or_newer_file_is_refused_and_left_as_it_was(
    tmp_path: Path, statements: str, code: str
) -> None:
    path = tmp_path / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(statements)
    path.chmod(0o640)
    before = path.read_bytes()
    error = refusal(lambda: Journal(path))
    assert error.code == code
    assert str(path) in error.message
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("content", [b"not a database" * 1000, b"SQLite format 3\0" * 300])
def test_what_is_no_database_is_refused_and_left_as_it_was(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    assert refusal(lambda: Journal(path)).code in ("journal.corrupt", "journal.unavailable")
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    """A process may have died between making the file and filling it."""
    path = tmp_path / "journal.db"
    path.touch()
    with closing(Journal(path)) as journal:
        write(journal, "r", simulated(3))


@pytest.mark.parametrize("where", ["missing/journal.db", "."])
def test_a_place_that_cannot_be_written_is_told(tmp_path: Path, where: str) -> None:
    error = refusal(lambda: Journal(tmp_path / where))
    assert (error.code, error.retryable) == ("journal.unavailable", True)


def test_a_full_disk_refuses_the_transaction_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        events = simulated(4)
        epoch = write(journal, "r", events[:2])
        # SQLite's own limit gives the very error that a full disk gives.
        pages = journal._db.execute("PRAGMA page_count").fetchone()[0]
        journal._db.execute(f"PRAGMA max_page_count={pages}")
        big = [event for number in range(60) for event in simulated(number)]

        def fill() -> None:
            with journal.transaction(durable=True):
                journal.post("r", "cancel", {"reason": "x"})
                for number, _ in enumerate(big):
                    journal.post("r", "cancel", {"reason": "x" * 1000, "number": number})

        assert refusal(fill).code == "journal.unavailable"
        assert journal.read_inbox("r") == []
        assert journal.load("r") == events[:2]
        journal._db.execute("PRAGMA max_page_count=1000000")
        with journal.transaction(durable=True):
            journal.append("r", epoch, events[2:])
        assert journal.load("r") == events


def test_a_busy_writer_is_named_by_its_pid(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    script = (
        "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "db.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    )
    with closing(Journal(path, busy_timeout_s=0.05)) as journal:
        write(journal, "r", simulated(5))
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            error = refusal(lambda: write(journal, "q", simulated(6)))
            assert (error.code, error.details) == ("journal.busy", {"pid": holder.pid})
            assert journal.get_run("r") is not None
            assert holder.stdin is not None
            holder.stdin.close()
        write(journal, "q", simulated(6))


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9, 0.999])
def test_a_torn_log_leaves_whole_transactions_only(tmp_path: Path, cut: float) -> None:
    """The log of a machine that lost its power ends anywhere, or in garbage."""
    events = simulated(7)
    journal = Journal(tmp_path / "journal.db")
    epoch = write(journal, "r", events[:2])
    for event in events[2:]:
        with journal.transaction():
            journal.append("r", epoch, [event])
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / "journal.db").write_bytes((tmp_path / "journal.db").read_bytes())
    log = (tmp_path / "journal.db-wal").read_bytes()
    length = int(len(log) * cut)
    (torn / "journal.db-wal").write_bytes(log[:length] + os.urandom(len(log) - length))
    journal.close()
    if cut == 0.0:
        assert refusal_or_nothing(torn / "journal.db")
        return
    with closing(Journal(torn / "journal.db")) as journal:
        left = journal.load("r")
        assert left == events[: len(left)]
        if left:
            fold("r", left)


def refusal_or_nothing(path: Path) -> bool:
    """Whether nothing of the journal is left: the log held all of it."""
    with closing(Journal(path)) as journal:
        return journal.load("r") == []


def test_a_row_that_is_no_event_is_told_with_its_run_and_harms_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        write(journal, "bad", simulated(8))
        write(journal, "good", simulated(9))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE events SET data = '{' WHERE run_id = 'bad' AND seq = 2")
        error = refusal(lambda: journal.load("bad"))
        assert (error.code, error.details) == ("journal.corrupt", {"run_id": "bad", "seq": 2})
        assert "bad" in error.message
        assert journal.load("good") == simulated(9)
        assert len(journal.list_runs("/p", limit=9)) == 2


def test_a_row_whose_text_is_no_text_is_told_with_its_run(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        write(journal, "bad", simulated(10))
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("UPDATE events SET data = CAST(x'ff' AS TEXT) WHERE seq = 2")
        error = refusal(lambda: journal.load("bad"))
        assert (error.code, error.details) == ("journal.corrupt", {"run_id": "bad"})


def test_a_damaged_page_is_a_journal_error(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with closing(Journal(path)) as journal:
        for number in range(20):
            write(journal, f"r{number}", simulated(number))
    data = bytearray(path.read_bytes())
    for offset in range(4096, len(data), 4096):
        data[offset : offset + 100] = os.urandom(100)
    path.write_bytes(data)
    with closing(Journal(path)) as journal:
        for read in (
            lambda: journal.load("r3"),
            lambda: journal.list_runs("/p", limit=5),
            lambda: journal.get_run("r1"),
            journal.runs_with_requests,
            lambda: journal.has_live_owner("r1"),
        ):
            assert refusal(read).code == "journal.corrupt"


rubbish = st.sampled_from(
    [None, "", "x", -1, 0, 2**62, 1.5, b"\xff", "null", "[]", "{}", "[" * 5000, '{"a":1}', True]
)


@settings(max_examples=200)
@given(st.integers(0, 40), st.integers(0, 2**16), st.sampled_from(COLUMNS), rubbish)
def test_any_damage_to_a_row_is_told_or_harmless(
    seed: int, place: int, column: str, value: Any
) -> None:
    rows = [list(to_row(event)) for event in simulated(seed)]
    rows[place % len(rows)][COLUMNS.index(column)] = value
    _read(rows)


@settings(max_examples=200)
@given(st.integers(0, 40), st.data())
def test_any_damage_within_an_event_is_told_or_harmless(seed: int, data: st.DataObject) -> None:
    rows = [list(to_row(event)) for event in simulated(seed)]
    row = rows[data.draw(st.integers(0, len(rows) - 1))]
    body = json.loads(row[COLUMNS.index("data")])
    keys = sorted(body) or ["plan"]
    key = data.draw(st.sampled_from(keys))
    if data.draw(st.booleans()):
        body.pop(key, None)
    else:
        body[key] = data.draw(st.sampled_from([None, 0, "", "x", [], {}, {"a": 1}, True, 1e300]))
    row[COLUMNS.index("data")] = json.dumps(body)
    _read(rows)


@settings(max_examples=100)
@given(st.integers(0, 40), st.integers(0, 2**16), st.sampled_from(["drop", "double", "swap"]))
def test_a_row_that_is_missing_or_in_the_wrong_place_is_told_or_harmless(
    seed: int, place: int, how: str
) -> None:
    rows = [list(to_row(event)) for event in simulated(seed)]
    at = place % (len(rows) - 1)
    match how:
        case "drop":
            del rows[at]
        case "double":
            rows.insert(at, rows[at])
        case _:
            rows[at], rows[at + 1] = rows[at + 1], rows[at]
    if how != "drop" or at < len(rows):
        with pytest.raises(JournalError):
            fold("run-1", [from_row("run-1", tuple(row)) for row in rows])


def _read(rows: list[list[Any]]) -> None:
    """Fold the rows; nothing but a journal's error may come of it."""
    try:
        state = fold("run-1", [from_row("run-1", tuple(row)) for row in rows])
    except JournalError as error:
        told = error
    else:
        decide(state)
        return
    assert told.code in ("journal.corrupt", "journal.version")
    assert told.details is not None
    assert told.details["run_id"] == "run-1"
