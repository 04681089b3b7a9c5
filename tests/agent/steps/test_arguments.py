"""Data never becomes an option, and only what a program can be given is given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetprompt_agent.steps.arguments import check_argv, encode_words
from fleetprompt_protocol.errors import RequestError


@pytest.mark.parametrize(
    ("argv", "tainted"),
    [
        (["rm", "--", "-x"], [False, False, True]),
        (["rm", "-f", "x"], [False, False, True]),
        (["rm", "--file=-x"], [False, False]),
        (["rm", "x-y", ""], [False, True, True]),
        (["-odd", "x"], [True, True]),
        (["a"], [False]),
    ],
)
def test_arguments_that_are_no_options_of_the_data_pass(
    argv: list[str], tainted: list[bool]
) -> None:
    check_argv(argv, tainted)


@pytest.mark.parametrize(
    ("argv", "tainted", "index"),
    [
        (["rm", "-x"], [False, True], 1),
        (["rm", "-"], [False, True], 1),
        (["rm", "-x", "--"], [False, True, False], 1),
        (["rm", "--", "-x"], [False, True, True], 1),
        (["rm", "a", "--force"], [False, True, True], 2),
    ],
)
def test_data_that_looks_like_an_option_is_refused(
    argv: list[str], tainted: list[bool], index: int
) -> None:
    with pytest.raises(RequestError) as caught:
        check_argv(argv, tainted)

    assert caught.value.code == "cli.option_injection"
    assert caught.value.details == {"argument": index}
    assert argv[index] not in caught.value.message or len(argv[index]) < 3


@given(
    st.lists(st.tuples(st.sampled_from(["a", "-", "--", "-x", "--y", ""]), st.booleans())),
)
def test_what_passes_has_no_dashed_data_before_a_literal_double_dash(
    words: list[tuple[str, bool]],
) -> None:
    argv = ["program", *(word for word, _ in words)]
    tainted = [False, *(is_tainted for _, is_tainted in words)]
    try:
        check_argv(argv, tainted)
    except RequestError:
        return
    for word, is_tainted in words:
        if word == "--" and not is_tainted:
            break
        assert not (is_tainted and word.startswith("-"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))))
def test_text_is_passed_as_utf8(words: list[str]) -> None:
    assert [word.decode() for word in encode_words(words, "argument")] == words


@pytest.mark.parametrize("word", ["\0", "a\0b", "\ud800", "a\udcffb"])
def test_what_no_program_can_be_given_is_refused(word: str) -> None:
    with pytest.raises(RequestError) as caught:
        encode_words(["fine", word], "argument")

    assert caught.value.code == "cli.argument"
    assert caught.value.details == {"argument": 1}


def test_stdin_may_hold_a_nul() -> None:
    assert encode_words(["a\0b"], "stdin", nul_is_fine=True) == [b"a\0b"]
