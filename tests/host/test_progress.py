from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.cells import cell_width
from fleetprompt.durations import clock_text, duration_text, instant_text
from fleetprompt.progress import Board, board_lines, status_line
from fleetprompt.results import StepStatus
from fleetprompt.style import Style

PLAIN = Style(colour=False)
NOON = datetime(2026, 1, 1, 12, 0, 1, tzinfo=UTC)


def status(path: str | None, state: str, **fields: Any) -> StepStatus:
    return StepStatus.model_validate({"step_path": path, "state": state, **fields})


def test_a_board_has_one_line_for_each_step_in_the_order_of_their_start() -> None:
    board = Board()
    board.apply(status("collect", "started", completed=0, total=3), 10.0)
    board.apply(status("count", "started"), 10.0)
    board.apply(status("collect", "completed", duration_ms=1200, completed=1, total=3), 11.2)
    assert board_lines(board, 12.5, 60, 20, PLAIN) == [
        "1 of 3 steps",
        "✓ collect             1.2 s",
        "▸ count               2.5 s",
    ]


def test_a_retry_counts_its_time_anew() -> None:
    board = Board()
    board.apply(status("fetch", "started", attempt=1), 0.0)
    board.apply(status("fetch", "retrying", attempt=1, error={"code": "a", "message": "no"}), 5.0)
    assert "attempt 1" in board_lines(board, 6.0, 60, 20, PLAIN)[0]
    board.apply(status("fetch", "started", attempt=2), 8.0)
    assert board_lines(board, 9.0, 60, 20, PLAIN) == ["▸ fetch               1.0 s"]


def test_active_steps_stay_in_view_when_not_all_fit() -> None:
    board = Board()
    board.apply(status("first", "started"), 0.0)
    for i in range(50):
        board.apply(status(f"step{i}", "completed", duration_ms=1), 0.0)
    lines = board_lines(board, 0.0, 60, 5, PLAIN)
    assert len(lines) == 5
    assert lines[0] == "… 47 more"
    assert lines[1].startswith("▸ first")
    assert lines[-1].startswith("✓ step49")


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=90),
            st.sampled_from(["started", "completed", "failed", "waiting", "retrying", "odd"]),
        ),
        max_size=12,
    ),
    st.integers(20, 80),
    st.integers(1, 10),
)
def test_any_board_fits_the_screen(
    statuses: list[tuple[str, str]], width: int, height: int
) -> None:
    board = Board()
    for path, state in statuses:
        error = {"code": "x", "message": "went wrong"} if state == "failed" else None
        board.apply(status(path, state, error=error, total=len(statuses)), 0.0)
    lines = board_lines(board, 1.0, width, height, PLAIN)
    assert len(lines) <= height
    assert all(cell_width(line) <= width for line in lines)


def test_a_plain_line_says_when_what_happened() -> None:
    at = clock_text(NOON)
    assert status_line(status("collect", "started"), NOON) == f"{at} step collect started"
    assert (
        status_line(status("collect", "completed", duration_ms=1500), NOON)
        == f"{at} step collect completed in 1.5 s"
    )
    error = {"code": "step.exit_code", "message": "It ended\nwith 2."}
    assert (
        status_line(status("collect", "failed", duration_ms=80, error=error), NOON)
        == f"{at} step collect failed after 80 ms: It ended with 2. (step.exit_code)"
    )
    assert status_line(status(None, "waiting", text="run: waiting"), NOON) == f"{at} run: waiting"


def test_durations_read_in_the_unit_that_fits() -> None:
    texts = {0: "0 ms", 35.4: "35 ms", 994: "994 ms", 1000: "1.0 s", 59_900: "59.9 s"}
    texts |= {59_960: "1m 00s", 185_000: "3m 05s", 3_600_000: "1h 00m", 7_620_000: "2h 07m"}
    assert {ms: duration_text(ms) for ms in texts} == texts
    assert duration_text(None) == ""


def test_an_instant_that_is_none_is_shown_as_it_is() -> None:
    assert instant_text("yesterday") == "yesterday"
    assert instant_text(None) == ""
