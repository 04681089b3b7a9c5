from __future__ import annotations

from fleetprompt.results import StepResult
from fleetprompt.step_rows import MOST_ITEMS, step_rows


def steps(*given: tuple[str, str]) -> list[StepResult]:
    return [
        StepResult(step_path=path, step_id=path.rpartition("/")[2], status=status)
        for path, status in given
    ]


def test_what_belongs_to_a_step_follows_it() -> None:
    given = [
        "a",
        "loop",
        "sub",
        "z",
        "loop[0]",
        "sub/x",
        "loop[1]",
        "sub/l",
        "sub/l[0]",
        "loop[0]/i",
    ]
    rows = step_rows(steps(*((path, "succeeded") for path in given)))
    assert [row.path for row in rows] == [
        "a", "loop", "loop[0]", "loop[0]/i", "loop[1]", "sub", "sub/x", "sub/l", "sub/l[0]", "z",
    ]  # fmt: skip


def test_a_step_whose_owner_is_not_listed_is_shown_with_the_next_one_up() -> None:
    rows = step_rows(steps(("sub", "failed"), ("sub/l[7]", "failed"), ("z", "succeeded")))
    assert [row.path for row in rows] == ["sub", "sub/l[7]", "z"]


def test_a_long_loop_is_summed_up_but_for_what_went_wrong() -> None:
    items = [(f"l[{i}]", "failed" if i % 100 == 7 else "succeeded") for i in range(10_000)]
    rows = step_rows(steps(("l", "succeeded"), *items, ("z", "succeeded")))
    shown = [(row.path, row.step.status, row.count) for row in rows]
    assert shown[:2] == [("l", "succeeded", 1), ("l[…]", "succeeded", 9_900)]
    assert shown[2] == ("l[7]", "failed", 1)
    assert shown[-2:] == [("l[…]", "failed", 100 - MOST_ITEMS), ("z", "succeeded", 1)]
    assert len(rows) == 4 + MOST_ITEMS
