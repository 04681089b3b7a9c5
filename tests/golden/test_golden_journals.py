"""Runs of earlier versions are read and continued as they were meant.

A folder holds the journals of one format; `0-first` has plans with every default spelled out and
without the fields that came later. When the format or the semantics change, a new folder is written
(see `fleetprompt_testing.golden`); the older ones stay, and must still pass.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fleetprompt_testing import golden

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_agent.engine.core.events import BODIES, LeaseTaken, RunCreated
from fleetprompt_agent.engine.event_rows import COLUMNS, to_row
from fleetprompt_agent.language.plan import SEMANTICS, plan_from_json, plan_to_json

FILES = sorted(Path(__file__).parent.glob("*/*.jsonl"))
NEWEST = max(file.parent for file in FILES)
every_file = pytest.mark.parametrize(
    "file", FILES, ids=[f"{file.parent.name}/{file.stem}" for file in FILES]
)


@every_file
def test_an_old_journal_says_what_it_said(file: Path) -> None:
    events, expected = golden.read(file)
    assert golden.told(events) == expected


@every_file
def test_an_old_journal_can_be_continued_from_any_point(file: Path) -> None:
    events, _ = golden.read(file)
    for length in range(1, len(events)):
        fold(golden.RUN_ID, events[:length])
    assert fold(golden.RUN_ID, events).is_terminal


@every_file
def test_an_old_plan_survives_being_written_again(file: Path) -> None:
    events, _ = golden.read(file)
    assert isinstance(events[0].body, RunCreated)
    plan = plan_from_json(events[0].body.plan)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_the_newest_format_is_the_one_that_is_written() -> None:
    """Fails when rows are written differently: then a new folder of golden files is due."""
    for file in NEWEST.glob("*.jsonl"):
        events, _ = golden.read(file)
        rows = [json.loads(line) for line in file.read_text().splitlines()[:-1]]
        for event, row in zip(events, rows, strict=True):
            written = dict(zip(COLUMNS, to_row(event), strict=True))
            assert json.loads(written.pop("data")) == row.pop("data")
            assert written == row
        assert isinstance(events[0].body, RunCreated)
        assert plan_to_json(plan_from_json(events[0].body.plan)) == events[0].body.plan


def test_the_files_hold_every_semantics() -> None:
    plans = [events[0].body for file in FILES if (events := golden.read(file)[0])]
    known = {body.plan["semantics"] for body in plans if isinstance(body, RunCreated)}
    assert known == set(range(1, SEMANTICS + 1))


def test_the_files_hold_what_matters_of_the_types_of_events() -> None:
    held = {event.body.type for file in NEWEST.glob("*.jsonl") for event in golden.read(file)[0]}
    rare = {
        "run.cancel_requested", "step.late_result", "step.interrupted", "step.canceled",
    }  # fmt: skip
    assert held >= BODIES.keys() - rare
    assert LeaseTaken.type in held
