from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.expressions import ExpressionError
from fleetprompt_agent.language.references import loose_references
from fleetprompt_agent.language.templates import literal_template, parse_template, parse_text

SCOPE = {
    "inputs": {
        "n": 1,
        "none": None,
        "yes": True,
        "f": 1.5,
        "list": [1, {"k": "é"}],
        "evil": "x ${{ 1 }}",
    },
    "steps": {
        "collect": {"stdout": "out", "json": {"my-key": [{"id": 5}]}},
        "my-step": {"text": "t"},
    },
}


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("${{ inputs.n }}", 1),
        ("${{inputs.list}}", [1, {"k": "é"}]),
        ("$inputs.n", 1),
        ("$collect.json.my-key[0].id", 5),
        ("$my-step.text", "t"),
        ("$steps.collect.stdout", "out"),
        ("$collect.nope", None),
        ("${{ inputs.none }}", None),
        (7, 7),
        (None, None),
        ({"a": ["$inputs.n", {"b": "${{ inputs.yes }}"}, False]}, {"a": [1, {"b": True}, False]}),
    ],
)
def test_a_whole_scalar_keeps_its_type(template: object, value: object) -> None:
    assert parse_template(template).render(SCOPE) == value


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("n=${{ inputs.n }};", "n=1;"),
        ("<${{ inputs.none }}>", "<>"),
        ("${{ inputs.yes }} ${{ !inputs.yes }}", "true false"),
        ("${{ inputs.f }}s", "1.5s"),
        (" ${{ inputs.n }}", " 1"),
        ("l: ${{ inputs.list }}", 'l: [1,{"k":"é"}]'),
        ('${{ {"a": {"b": "}}"}} }} ', '{"a":{"b":"}}"}} '),
        ("${{ inputs.evil }}!", "x ${{ 1 }}!"),
    ],
)
def test_inside_a_text_a_value_becomes_text(template: str, text: str) -> None:
    assert parse_template(template).render(SCOPE) == text


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("$${{ inputs.n }}", "${{ inputs.n }}"),
        ("a $${{ b", "a ${{ b"),
        ("$$inputs.n", "$inputs.n"),
        ("$$", "$"),
        ("a$$b", "a$$b"),
        ("$$${{ inputs.n }}", "$1"),
        ("$HOME", "$HOME"),
        ("$inputs", "$inputs"),
        ("$1.50", "$1.50"),
        ("$collect.stdout and more", "$collect.stdout and more"),
        ("", ""),
    ],
)
def test_escapes_and_other_dollars_are_text(template: str, text: str) -> None:
    parsed = parse_template(template)
    assert parsed.render(SCOPE) == text


def test_a_value_is_never_looked_at_again() -> None:
    rendered = parse_template(["${{ inputs.evil }}"]).render(SCOPE)
    assert rendered == ["x ${{ 1 }}"]


@pytest.mark.parametrize(
    ("template", "start", "end"),
    [
        ("a ${{ inputs.n", 2, 5),
        ("${{ 1 + }}", 7, 8),
        ("x ${{ inputs.n }} ${{ ) }}", 22, 23),
        ("${{}}", 3, 4),
    ],
)
def test_an_error_knows_its_place_in_the_text(template: str, start: int, end: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_template(template)
    assert (caught.value.start, caught.value.end) == (start, end)


def test_references_and_constancy_are_known_without_rendering() -> None:
    template = parse_template(
        {"a": "x ${{ inputs.n }}", "b": ["$collect.json"], "c": "${{ 1 + 1 }}"}
    )
    assert [reference.text for reference in template.references] == [
        "inputs.n",
        "steps.collect.json",
    ]
    assert not template.is_constant
    assert parse_template({"c": "${{ 1 + 1 }}", "d": "$5"}).is_constant


def test_a_template_that_begins_with_data_says_so() -> None:
    begins = {
        text: parse_template(text).begins_with_expression
        for text in ("${{ inputs.n }}x", "$collect.stdout", "--a=${{ inputs.n }}", "plain", "$5")
    }
    assert [text for text, value in begins.items() if value] == [
        "${{ inputs.n }}x",
        "$collect.stdout",
    ]


def test_the_same_content_is_parsed_once() -> None:
    assert parse_template({"a": ["${{ 1 }}"]}) is parse_template({"a": ["${{ 1 }}"]})
    assert parse_template(1).render({}) == 1
    assert parse_template(True).render({}) is True


def test_a_text_made_of_parts_is_bounded() -> None:
    scope = {"inputs": {"big": "x" * 600_000}}
    assert len(parse_template("${{ inputs.big }}").render(scope)) == 600_000
    with pytest.raises(ExpressionError) as caught:
        parse_template("${{ inputs.big }}${{ inputs.big }}").render(scope)
    assert caught.value.kind == "limit"


@settings(max_examples=150)
@given(st.text(alphabet="$ {}a.b[0]'\"\\x\n", max_size=24) | st.text(max_size=12))
def test_every_text_has_a_template_that_gives_it_back(text: str) -> None:
    template = parse_template(literal_template(text))
    assert template.is_constant
    assert template.render({}) == text


@settings(max_examples=150)
@given(st.text(alphabet="$${{}} a.b[0]'\"\\x\n", max_size=24))
def test_any_text_is_a_template_or_an_error_with_a_place(text: str) -> None:
    caught: ExpressionError | None = None
    try:
        parsed = parse_text(text)
    except ExpressionError as error:
        caught = error
    else:
        assert all(text[part.start] == "$" for part in parsed.embedded)
    assert caught is None or 0 <= caught.start < caught.end <= len(text) + 1


def test_references_in_a_longer_text_are_found_with_their_fix() -> None:
    text = (
        "see $collect.json.items.0.id, $inputs.x-. $HOME $other.x $$inputs.z $collect $item; x$item"
    )
    found = list(loose_references(text, {"collect"}, {"inputs"}, {"item"}))
    assert [(one.text, one.fix) for one in found] == [
        ("$collect.json.items.0.id", "${{ steps.collect.json.items[0].id }}"),
        ("$inputs.x", "${{ inputs.x }}"),
        ("$item", "${{ item }}"),
    ]
    assert all(text[one.start : one.end] == one.text for one in found)
