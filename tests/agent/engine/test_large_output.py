"""Output past the inline cap: small rows, the same events."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt_agent.engine.core.events import Event, RunSucceeded, StepFailed, StepSucceeded
from fleetprompt_agent.engine.event_rows import to_row
from fleetprompt_agent.engine.journal import Journal
from fleetprompt_agent.engine.journal_port import RunRow
from fleetprompt_agent.engine.large_output import INLINE_BYTES
from fleetprompt_agent.engine.owner import Owner
from fleetprompt_protocol.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetprompt_agent.engine.core.events import Body

LONG = "é" * INLINE_BYTES
LIST = list(range(20_000))
BODIES: list[Body] = [
    StepSucceeded("a", 1, {"stdout": LONG, "text": "short", "json": LIST, "exit_code": 0}),
    StepFailed("b", 1, {"code": "step.exit_code"}, {"stdout": LONG + "\ud800"}),
    StepSucceeded("c", 1, {"apart": {"result.x": 1}, "x": {"artifacts": LONG}}),
    RunSucceeded({"all": LIST}, LONG),
]


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


def events() -> list[Event]:
    return [
        Event(number, 1, body, f"e{number}", "req", "cor", None)
        for number, body in enumerate(BODIES, 1)
    ]


def write(journal: Journal, run_id: str, written: list[Event]) -> None:
    with journal.transaction():
        journal.create_run(RunRow(run_id, "/p", "w", run_id, 1), tenant="t", parent_run_id=None)
        epoch = journal.acquire(run_id, Owner.of_this_process())
        journal.append(run_id, epoch, written)


def rows(journal: Journal) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(journal.path)) as db:
        return [json.loads(data) for (data,) in db.execute("SELECT data FROM events ORDER BY seq")]


def test_the_rows_are_small_and_the_events_are_whole(journal: Journal) -> None:
    write(journal, "r", events())
    assert journal.load("r") == events()
    for data in rows(journal):
        assert len(json.dumps(data)) < 2_000
    apart = rows(journal)[0]["apart"]
    assert sorted(apart) == ["result.json", "result.stdout"]
    assert apart["result.stdout"]["name"] == "stdout"
    assert apart["result.stdout"]["size"] == 2 * INLINE_BYTES
    kept = journal.path.parent / "artifacts" / apart["result.stdout"]["sha256"][:2]
    assert (kept / apart["result.stdout"]["sha256"]).read_text() == LONG


def test_output_at_the_cap_stays_in_its_row(journal: Journal) -> None:
    write(journal, "r", [Event(1, 1, StepSucceeded("a", 1, {"text": "x" * INLINE_BYTES}),
                               "e", "req", "cor", None)])  # fmt: skip
    assert "apart" not in rows(journal)[0]
    assert journal.artifact_digests() == set()


def test_rows_that_hold_everything_themselves_are_read(journal: Journal) -> None:
    write(journal, "r", [])
    with closing(sqlite3.connect(journal.path)) as db:
        for event in events():
            marks = ",".join("?" * 14)
            db.execute(f"INSERT INTO events VALUES ({marks})", ("r", *to_row(event)))
        db.commit()
    assert journal.load("r") == events()


def test_what_is_apart_counts_for_the_size_and_is_not_swept(journal: Journal) -> None:
    write(journal, "r", events())
    referred = {item["sha256"] for data in rows(journal) for item in data["apart"].values()}
    assert journal.artifact_digests() == referred
    assert journal.run_sizes("/p")["r"] > 4 * 2 * INLINE_BYTES


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_lost_content_is_told_with_its_run_and_harms_no_other(
    journal: Journal, damage: str
) -> None:
    write(journal, "r", events())
    write(journal, "s", [Event(1, 1, StepSucceeded("a", 1, {}), "e", "req", "cor", None)])
    sha256 = rows(journal)[0]["apart"]["result.json"]["sha256"]
    place = journal.path.parent / "artifacts" / sha256[:2] / sha256
    if damage == "gone":
        place.unlink()
    else:
        place.write_text("[]")
    with pytest.raises(JournalError) as refused:
        journal.load("r")
    assert refused.value.code == "journal.corrupt"
    assert "run r " in refused.value.message
    assert len(journal.load("s")) == 1


def test_a_store_that_cannot_be_written_leaves_nothing_half_written(journal: Journal) -> None:
    write(journal, "r", [])
    (journal.path.parent / "artifacts").write_text("not a folder")
    with pytest.raises(JournalError) as refused, journal.transaction():
        journal.append("r", 1, events())
    assert refused.value.code == "journal.unavailable"
    assert journal.load("r") == []
