from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.cells import cell_width
from fleetprompt.diagnostic_view import diagnostic_lines, error_lines, excerpt_lines
from fleetprompt.results import Diagnostic
from fleetprompt.style import Style
from fleetprompt_protocol.errors import WorkflowError

PLAIN = Style(colour=False)

FINDING = Diagnostic(
    code="workflow.unknown_key",
    message="`depends_on` is not a key of a step.",
    file=".fleetprompt/workflows/deploy.yaml",
    line=2,
    column=5,
    end_line=2,
    end_column=15,
    hint="write `needs`",
)
SOURCE = ["steps:", "    depends_on: [a]"]


def test_a_finding_shows_place_source_caret_hint_and_code() -> None:
    assert diagnostic_lines(FINDING, SOURCE, 80, PLAIN) == [
        ".fleetprompt/workflows/deploy.yaml:2:5: error",
        "  `depends_on` is not a key of a step.",
        "  2 │     depends_on: [a]",
        "    │     ^^^^^^^^^^",
        "  hint: write `needs`",
        "  code: workflow.unknown_key",
    ]


def test_a_finding_without_its_source_is_shown_all_the_same() -> None:
    lines = diagnostic_lines(FINDING, [], 80, PLAIN)
    assert lines[0].startswith(".fleetprompt/workflows/deploy.yaml:2:5")
    assert not any("^" in line for line in lines)


def test_carets_stand_under_wide_characters_and_after_tabs() -> None:
    shown, carets = excerpt_lines("\t日本: x", 1, 2, 4, 80, PLAIN)
    assert shown == "  1 │  日本: x"
    assert carets == "    │  ^^^^"


def test_control_characters_of_the_source_are_escaped() -> None:
    shown, carets = excerpt_lines("a\x1b[2Jb", 1, 2, 3, 80, PLAIN)
    assert "\x1b" not in shown
    assert carets.endswith("│  ^^^^")


def test_a_long_line_is_cut_around_the_carets() -> None:
    text = "x" * 300 + "HERE" + "y" * 300
    shown, carets = excerpt_lines(text, 1, 301, 305, 60, PLAIN)
    assert cell_width(shown) <= 60
    at = carets.index("^")
    assert shown[at : at + 4] == "HERE"


def test_a_file_on_one_line_is_shown_like_any_other() -> None:
    text = "{" + '"key": "value", ' * 6000
    shown, carets = excerpt_lines(text, 1, 80_001, 80_004, 60, PLAIN)
    at = carets.index("^^^")
    assert shown[at : at + 3] == text[80_000:80_003]


def test_an_error_of_a_call_shows_each_finding() -> None:
    error = WorkflowError(
        "workflow.invalid",
        "The workflow has errors.",
        details={"diagnostics": [FINDING.to_json(), {"odd": 1}, {"code": 7}]},
    )
    lines = error_lines(error, {FINDING.file: SOURCE}, 80, PLAIN)
    assert lines[0] == "error: The workflow has 1 error."
    assert "    │     ^^^^^^^^^^" in lines
    assert lines[-1] == "  code: workflow.invalid"


def test_an_error_with_a_place_points_at_it() -> None:
    error = WorkflowError(
        "workflow.unreadable", "No.", where={"file": "a.yaml", "line": 1, "column": 2}
    )
    lines = error_lines(error, {"a.yaml": ["abc"]}, 80, PLAIN)
    assert lines[1:4] == ["  at a.yaml:1:2", "  1 │ abc", "    │  ^"]


@settings(max_examples=100)
@given(st.text(max_size=200), st.integers(-5, 250), st.integers(-5, 250) | st.none())
def test_any_text_and_place_give_two_lines_that_fit(
    text: str, column: int, end_column: int | None
) -> None:
    lines = excerpt_lines(text, 12, column, end_column, 60, PLAIN)
    assert len(lines) == 2
    assert all(cell_width(line) <= 60 for line in lines)
    assert "^" in lines[1]
