from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.command import CommandError, first_word, split_command
from fleetprompt_agent.language.expressions import ExpressionError
from fleetprompt_agent.language.templates import parse_template

SCOPE = {"inputs": {"x": "V; rm -rf /", "n": 3}}


def rendered(text: str, *, assignments: bool = False) -> list[object]:
    words = split_command(text, 0, assignments=assignments)
    return [parse_template(word.value).render(SCOPE) for word in words]


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("gh pr list --json a,b", ["gh", "pr", "list", "--json", "a,b"]),
        ("  a\t b \n c ", ["a", "b", "c"]),
        ("'a b' \"c d\" e\\ f", ["a b", "c d", "e f"]),
        (r'"a\"b\\c\d" ' + r"'a\b'", ['a"b\\c\\d', "a\\b"]),
        ("'' \"\"", ["", ""]),
        ("a'b'\"c\"d", ["abcd"]),
        ("a \\\n b", ["a", "b"]),
        ("$HOME $5 *.py ~ a#b #c", ["$HOME", "$5", "*.py", "~", "a#b", "#c"]),
        ("dd if=a of=b k:=3", ["dd", "if=a", "of=b", "k:=3"]),
        ("a&b=1 x|y 'a;'", ["a&b=1", "x|y", "a;"]),
        ("echo ${{ inputs.x }}", ["echo", "V; rm -rf /"]),
        ("\"x ${{ inputs.x }}\" '${{ inputs.n }}'", ["x V; rm -rf /", 3]),
        ("n=${{ inputs.n }}", ["n=3"]),
        ("${{ inputs.n }}", [3]),
        ("${{ inputs.x + ' }} ' }}z", ["V; rm -rf / }} z"]),
        ("$${{ inputs.x }}", ["${{", "inputs.x", "}}"]),
        ("$$inputs.x", ["$inputs.x"]),
        ("'$'${{ inputs.n }} 'a$'${{ inputs.n }}", ["$3", "a$3"]),
    ],
)
def test_words_are_split_by_quotes_and_nothing_is_expanded(text: str, argv: list[object]) -> None:
    assert rendered(text) == argv


def test_assignments_are_text_or_typed_json() -> None:
    text = (
        'a=1 b:=[1, {"x": "${{ inputs.n }}"}] c:=${{ inputs.n }} d="q r" e=${{ inputs.n }} z f:="$"'
    )
    words = split_command(text, 0, assignments=True)
    values = {word.name: parse_template(word.value).render(SCOPE) for word in words}
    assert values == {
        "a": "1",
        "b": [1, {"x": 3}],
        "c": 3,
        "d": "q r",
        "e": 3,
        None: "z",
        "f": "$",
    }


@pytest.mark.parametrize(
    ("text", "code", "marked"),
    [
        ("a | b", "command.shell_syntax", "|"),
        ("a && b", "command.shell_syntax", "&&"),
        ("a > f", "command.shell_syntax", ">"),
        ("a 2>&1", "command.shell_syntax", "2>&1"),
        ("a; b", "command.shell_syntax", ";"),
        ("a $(b)", "command.shell_syntax", "$"),
        ("a `b`", "command.shell_syntax", "`"),
        ("a &", "command.shell_syntax", "&"),
        ("a <<EOF", "command.shell_syntax", "<<"),
        ("a 'b", "command.syntax", "'"),
        ("a \\", "command.syntax", "\\"),
        ("a:=[1,", "command.json", "[1,"),
        ("a:={}x", "command.json", "x"),
        ("a:=NaN", "command.json", "NaN"),
        ("a:=${{ inputs.n }}x", "command.json", "a:=${{ inputs.n }}x"),
    ],
)
def test_what_a_shell_would_do_is_refused_at_its_place(text: str, code: str, marked: str) -> None:
    with pytest.raises(CommandError) as caught:
        split_command(text, 0, assignments=True)
    assert caught.value.code == code
    assert text[caught.value.start : caught.value.end] == marked


def test_quoted_signs_of_a_shell_are_text() -> None:
    assert rendered("a '|' \"&&\" \\> 'x;' \"`b`\" '$(c)'") == [
        "a",
        "|",
        "&&",
        ">",
        "x;",
        "`b`",
        "$(c)",
    ]


def test_an_expression_that_does_not_parse_is_reported_within_the_command() -> None:
    text = 'echo "a ${{ 1 + }} b"'
    with pytest.raises(ExpressionError) as caught:
        split_command(text, 0, assignments=False)
    assert text[caught.value.start : caught.value.end] == " "
    with pytest.raises(ExpressionError, match="not closed"):
        split_command("echo ${{ 1", 0, assignments=False)


def test_expressions_and_bare_text_know_their_places() -> None:
    text = "echo $collect.stdout '$quoted.x' \"${{ inputs.x }}\""
    words = split_command(text, 0, assignments=False)
    (embedded,) = words[3].embedded
    assert text[embedded.start : embedded.end] == "${{ inputs.x }}"
    assert text[embedded.inner :].startswith("inputs.x")
    assert "$collect.stdout" in words[1].bare
    assert "$quoted" not in words[2].bare


def test_the_first_word_stands_where_it_stands() -> None:
    assert first_word("  cli gh") == ("cli", 2, 5)
    assert first_word(" ") == ("", 1, 1)


@settings(max_examples=150)
@given(st.lists(st.text(max_size=8), max_size=5))
def test_what_a_shell_would_quote_comes_through_as_it_is(argv: list[str]) -> None:
    text = shlex.join(word.replace("${{", "") for word in argv)
    assert rendered(text) == [word.replace("${{", "") for word in argv]


@settings(max_examples=150)
@given(st.text(alphabet="ab =:'\"\\${}|&;<>`(1[],\n", max_size=30), st.booleans())
def test_any_text_is_split_or_refused_with_a_place(text: str, assignments: bool) -> None:
    caught: CommandError | ExpressionError | None = None
    try:
        for word in split_command(text, 0, assignments=assignments):
            assert 0 <= word.start < word.end <= len(text)
            json.dumps(word.value)
    except (CommandError, ExpressionError) as error:
        caught = error
    assert caught is None or 0 <= caught.start < caught.end <= len(text) + 1
