from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.cells import cell_width
from fleetprompt.style import Style
from fleetprompt.table import Cell, Column, table_lines

PLAIN = Style(colour=False)


def test_columns_are_as_wide_as_what_stands_in_them() -> None:
    columns = (Column("NAME"), Column("TIME", align="right"))
    lines = table_lines(columns, [("build", "1.2 s"), ("deploy", "35 ms")], 80, PLAIN)
    assert lines == ["NAME     TIME", "build   1.2 s", "deploy  35 ms"]


def test_a_column_that_nothing_stands_in_is_left_out() -> None:
    lines = table_lines((Column("A"), Column("B")), [("x", ""), ("y", "")], 80, PLAIN)
    assert lines == ["A", "x", "y"]


def test_a_table_without_rows_is_empty() -> None:
    assert table_lines((Column("A"),), [], 80, PLAIN) == []


def test_an_optional_column_gives_way_before_anything_is_cut_too_short() -> None:
    columns = (Column("RUN"), Column("WORKFLOW", least=8), Column("AT", is_optional=True))
    row = ("r" * 36, "repository-health", "2026-01-01 00:00:00")
    assert table_lines(columns, [row], 60, PLAIN)[1] == f"{'r' * 36}  repository-health"
    assert table_lines(columns, [row], 80, PLAIN)[1].endswith("2026-01-01 00:00:00")


def test_colours_take_no_room() -> None:
    columns = (Column("STATUS"), Column("NEXT"))
    plain = table_lines(columns, [(Cell("failed", "red"), "x")], 80, PLAIN)
    coloured = table_lines(columns, [(Cell("failed", "red"), "x")], 80, Style(colour=True))
    assert coloured[1] == plain[1].replace("failed", "\x1b[31mfailed\x1b[0m")


@settings(max_examples=100)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=90)] * 3),
        max_size=5,
    ),
    st.integers(50, 100),
)
def test_every_line_fits(rows: list[tuple[str, str, str]], width: int) -> None:
    columns = (Column("A", least=8), Column("B", least=8, align="right"), Column("C", least=8))
    assert all(cell_width(line) <= width for line in table_lines(columns, rows, width, PLAIN))
