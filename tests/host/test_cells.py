from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.cells import cell_width, clip, fold, pad

printable = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), include_characters="日本e\u0301 "), max_size=60
)


def test_a_wide_character_takes_two_cells_and_a_combining_one_none() -> None:
    assert cell_width("abc") == 3
    assert cell_width("日本") == 4
    assert cell_width("e\u0301") == 1


def test_clipped_text_ends_in_an_ellipsis() -> None:
    assert clip("abcdef", 4) == "abc…"
    assert clip("abcd", 4) == "abcd"
    assert clip("日本語", 4) == "日…"


def test_padding_counts_cells() -> None:
    assert pad("日", 4) == "日  "
    assert pad("7", 3, align="right") == "  7"


def test_text_is_folded_at_spaces() -> None:
    assert fold("one two three", 8) == ["one two", "three"]
    assert fold("abcdefgh", 3) == ["abc", "def", "gh"]
    assert fold("", 10) == [""]
    assert fold("  indented text", 9) == ["  indente", "d text"]


@settings(max_examples=150)
@given(printable, st.integers(2, 30))
def test_nothing_clipped_or_folded_is_wider_than_asked(text: str, width: int) -> None:
    assert cell_width(clip(text, width)) <= width
    lines = fold(text, width)
    assert all(cell_width(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


def test_a_text_on_one_long_line_is_folded_in_one_pass() -> None:
    assert len(fold("日本 " * 50_000, 60)) == 4167
