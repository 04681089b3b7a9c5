"""A real agent is killed before and after every write of its journal, and the run goes on.

`CRASH=all` in the environment takes every write; without it, a few of each kind.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.ordeal import ONCE, Ordeal, picture

if TYPE_CHECKING:
    from pathlib import Path

every_write = pytest.mark.skipif(
    os.environ.get("CRASH") != "all", reason="takes minutes; `CRASH=all` runs it"
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Ordeal]:
    """The picture of a run that nothing happens to, and the run."""
    ordeal = Ordeal(tmp_path_factory.mktemp("undisturbed"))
    result = ordeal.see_through()
    assert ordeal.questions == []
    assert all(count == 1 for line, count in ordeal.lines().items() if line != "flaky")
    return picture(result), ordeal


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("event", ["run.created", "gate.opened", "gate.resolved", "run.succeeded"])
def test_a_kill_at_a_write_changes_nothing_in_the_end(
    undisturbed: tuple[dict[str, Any], Ordeal], tmp_path: Path, moment: str, event: str
) -> None:
    ordeal = Ordeal(tmp_path, (f"{moment}:{event}",))
    assert picture(ordeal.see_through()) == undisturbed[0]
    assert ordeal.deaths == 1


def test_a_side_effect_whose_outcome_was_lost_is_asked_about(
    undisturbed: tuple[dict[str, Any], Ordeal], tmp_path: Path
) -> None:
    """Killed with the outcome in hand: the step has acted, and nobody wrote it down."""
    ordeal = Ordeal(tmp_path, ("before:step.succeeded@deploy", "before:step.succeeded@notify"))
    assert picture(ordeal.see_through()) == undisturbed[0]
    assert ordeal.questions == ["deploy", "notify"]


@every_write
@pytest.mark.timeout(3600)  # some sixty runs, each with a death; on a busy machine
def test_a_kill_at_every_write(undisturbed: tuple[dict[str, Any], Ordeal], tmp_path: Path) -> None:
    expected, calm = undisturbed
    # How the ends of parallel steps fall together differs from run to run, and so does the number
    # of writes: every type of event, and each side effect, is met by its name too.
    names = (*sorted(types_in(calm)), *(f"step.succeeded@{step}" for step in ONCE))
    kills: list[tuple[str, ...]] = [
        (f"{moment}:{which}",)
        for which in (*range(1, len(calm.writes) + 1), *names)
        for moment in ("before", "after")
    ]
    ordeals = see_all_through(tmp_path, kills, expected)
    died = [ordeal for ordeal in ordeals if ordeal.deaths]
    assert len(died) >= len(ordeals) - 4
    seen = {name.partition("@")[0] for ordeal in died for name in ordeal.writes[-1]}
    assert seen >= types_in(calm)
    assert {step for ordeal in ordeals for step in ordeal.questions} == set(ONCE)


@every_write
@pytest.mark.timeout(3600)
def test_a_second_kill_while_the_run_is_being_resumed(
    undisturbed: tuple[dict[str, Any], Ordeal], tmp_path: Path
) -> None:
    expected, calm = undisturbed
    random = Random(20261120)  # a fixed sample of the pairs
    count = len(calm.writes)
    kills = [
        tuple(f"{random.choice(['before', 'after'])}:{random.randint(1, count)}" for _ in range(3))
        for _ in range(24)
    ]
    ordeals = see_all_through(tmp_path, kills, expected)
    assert sum(ordeal.deaths for ordeal in ordeals) > len(ordeals)


def types_in(ordeal: Ordeal) -> set[str]:
    """The types of the events that the first agent wrote."""
    return {name.partition("@")[0] for names in ordeal.writes for name in names}


def see_all_through(
    folder: Path, kills: list[tuple[str, ...]], expected: dict[str, Any]
) -> list[Ordeal]:
    """Each in a folder of its own, as many at once as the machine has cores."""

    def see_one(number: int) -> tuple[Ordeal, str | None]:
        ordeal = Ordeal(folder / str(number), kills[number])
        try:
            seen = picture(ordeal.see_through())
        except AssertionError as error:
            return ordeal, f"killed at {kills[number]}: {error}"
        return ordeal, None if seen == expected else f"killed at {kills[number]}: {seen}"

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(see_one, range(len(kills))))
    wrong = [problem for _, problem in results if problem is not None]
    assert wrong == []
    return [ordeal for ordeal, _ in results]
