from __future__ import annotations

import unicodedata
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.escaping import escape_line, escape_text, shown
from fleetprompt_protocol.redaction import escape_controls


def test_a_text_keeps_its_lines_and_nothing_else_that_moves_the_cursor() -> None:
    assert escape_text("a\tb\r\nc\x1b[2J") == "a       b\nc\\x1b[2J"
    assert escape_line("a\tb\nc\u202e") == "a b c\\u202e"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@settings(max_examples=100)
@given(json_values)
def test_a_value_that_is_shown_has_no_control_characters_anywhere(value: Any) -> None:
    def check(item: Any) -> None:
        if isinstance(item, str):
            assert not any(unicodedata.category(c) in ("Cc", "Cs") and c != "\n" for c in item)
        elif isinstance(item, dict):
            for key, inner in item.items():
                assert "\n" not in key
                check(key)
                check(inner)
        elif isinstance(item, list):
            for inner in item:
                check(inner)

    check(shown(value))


def test_whatever_is_escaped_is_not_printable() -> None:
    """So that text which is printable as a whole can be passed on as it is."""
    changed = [chr(code) for code in range(0x110000) if escape_controls(chr(code)) != chr(code)]
    assert len(changed) > 2_000
    assert not any(character.isprintable() for character in [*changed, "\n", "\t", "\r"])
