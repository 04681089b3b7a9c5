from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.expressions import ExpressionError, parse_expression

SCOPE = {
    "inputs": {
        "tag": "family",
        "count": 3,
        "ratio": 2.5,
        "on": True,
        "list": [1, 2, 3],
        "none": None,
    },
    "steps": {
        "build": {"exit_code": 0, "json": {"items": [{"id": 7}], "my-key": "x"}, "stdout": "out\n"},
        "my-step": {"status": "skipped"},
    },
}


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 + 2 * 3 - 4 / 2", 5),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7 / 2.0", 3.5),
        ("1 + 0.5", 1.5),
        ("-9223372036854775808", -(2**63)),
        ("0x1F", 31),
        ("--1", 1),
        ("!!true", True),
        ("'a' + \"b\" + '''c'''", "abc"),
        (r'"\x41\u00e9\U0001F600\101\n\\"', "Aé😀A\n\\"),
        (r"r'\n'", "\\n"),
        ("[1, 'a', null, {\"k\": [true]},]", [1, "a", None, {"k": [True]}]),
        ("{'a': 1}.a", 1),
        ("[1, 2] + [3]", [1, 2, 3]),
        ("1 < 2 && 'a' <= 'b' && false < true && 1 < 1.5", True),
        ("1 == 1.0 && [1] == [1.0] && {'a': 1} == {'a': 1.0}", True),
        ("1 == true || null == false || '1' == 1", False),
        ("inputs.on ? 'yes' : 'no'", "yes"),
        ("2 in [1, 2] && !('x' in {'y': 1}) && 'y' in {'y': 1}", True),
        ("size('é😀') + size([1]) + {'a': 1}.size()", 4),
        ("has(inputs.tag) && !has(inputs.nope)", True),
        ("'Hello'.startsWith('He') && 'Hello'.endsWith('lo') && 'Hello'.contains('ell')", True),
        ("' É '.trim().lower() + 'a'.upper()", "éA"),
        ("'aXbXc'.replace('X', '-') + 'aa'.replace('a', 'b', 1)", "a-b-cba"),
        ("'a,b,c'.split(',').join('+')", "a+b+c"),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("int('42') + int(3.9) + int(true)", 46),
        ("double('1.5') + double(1)", 2.5),
        ("string(1) + string(true) + string(0.5) + string(1e6)", "1true0.51e+06"),
        ("type(1) == int && type(null) == null_type && type(type(1)) == type", True),
        ("[1, 2, 3].all(x, x > 0) && [1, 2].exists(x, x == 2)", True),
        ("[1, 2, 2].exists_one(x, x == 1)", True),
        ("[1, 2, 3].filter(x, x > 1).map(x, x * 2)", [4, 6]),
        ("[1, 2, 3].map(x, x > 1, x * 2)", [4, 6]),
        ("{'a': 1, 'b': 2}.map(k, k)", ["a", "b"]),
        ("[[1], [2]].map(x, x.map(y, y + 1))", [[2], [3]]),
        ("default(inputs.nope, 'x') + default(inputs.none, 'y')", "xy"),
        ("default(inputs.tag, 'z')", "family"),
        ("not(inputs.on) || cond(inputs.on, true, false)", True),
        ("distinct([1, 1.0, true, 'a', 'a'])", [1, True, "a"]),
        ("distinct([[1], [1.0], {'a': 1}, {'a': 1}])", [[1], {"a": 1}]),
        ("inputs.list[1] + inputs.list[2.0]", 5),
        ("inputs['tag']", "family"),
        ("1 // a comment\n + 1", 2),
    ],
)  # fmt: skip
def test_an_expression_has_the_value_that_cel_gives_it(source: str, value: object) -> None:
    result = parse_expression(source).evaluate(SCOPE)
    assert result == value
    assert type(result) is type(value)


@pytest.mark.parametrize(
    "source",
    [
        "true || 1 / 0 == 1",
        "1 / 0 == 1 || true",
        "!(false && inputs.nope)",
        "!(inputs.nope && false)",
        "[1, 0, 2].exists(x, 1 / x == 1)",
        "![0, 1].all(x, 1 / x == 2)",
        "inputs.count || true",
    ],
)
def test_an_operand_that_decides_hides_an_error_in_another(source: str) -> None:
    assert parse_expression(source).evaluate(SCOPE) is True


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("steps.build.json.items[0].id", 7),
        ("steps.build.json.nope", None),
        ("steps.build.json.nope.deeper[3].still", None),
        ("steps.build.json.items[5].id", None),
        ("steps.absent.stdout", None),
        ("has(steps.absent.json.x)", False),
        ('steps["my-step"].status', "skipped"),
        ("steps.`my-step`.status", "skipped"),
        ("$build.exit_code == 0 && $my-step.status == 'skipped'", True),
        ("$inputs.tag", "family"),
        ("$build.json.items.map(i, i.id)", [7]),
    ],
)
def test_a_path_rooted_in_steps_gives_null_through_null(source: str, value: object) -> None:
    assert parse_expression(source).evaluate(SCOPE) == value


@pytest.mark.parametrize(
    ("source", "kind", "span"),
    [
        ("inputs.nope", "missing", "inputs.nope"),
        ("inputs.tag.x", "type", "inputs.tag.x"),
        ("inputs.list[3]", "missing", "inputs.list[3]"),
        ("inputs.list['a']", "type", "inputs.list['a']"),
        ("1 + (true + 2)", "type", "true + 2"),
        ("1 / 0", "arithmetic", "1 / 0"),
        ("9223372036854775807 + 1", "arithmetic", "9223372036854775807 + 1"),
        ("1.0 / 0.0", "arithmetic", "1.0 / 0.0"),
        ("[1.0 / 0.0]", "arithmetic", "[1.0 / 0.0]"),
        ("int('9' + '9999999999999999999')", "arithmetic", None),
        ("int('1_0')", "type", "int('1_0')"),
        ("1 ? 2 : 3", "type", "1"),
        ("true && 1", "type", "1"),
        ("null > 0", "type", "null > 0"),
        ("type(1)", "type", "type(1)"),
        ("{1: 2}", "type", "1"),
        ("nope.x", "unknown", "nope"),
        ("[1].map(x, x.y)", "type", "x.y"),
        ("steps.build.stdout.nope", "type", "steps.build.stdout.nope"),
    ],
)
def test_an_evaluation_error_says_where(source: str, kind: str, span: str | None) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(source).evaluate(SCOPE)
    error = caught.value
    assert error.kind == kind
    assert error.code == "step.expression"
    if span is not None:
        assert source[error.start : error.end] == span


@pytest.mark.parametrize(
    ("source", "start"),
    [
        ("", 0),
        ("1 +", 3),
        ("(1", 2),
        ("a b", 2),
        ("a = 1", 2),
        ("'abc", 0),
        ("1u", 1),
        ("b'x'", 0),
        ("for", 0),
        ("a.in", 2),
        ("a.5", 1),
        (r"'\q'", 1),
        (r"'\ud800'", 1),
        ("{'a': 1, 'a': 2}", 9),
        ("[1].map(1, x)", 8),
        ("9223372036854775808", 0),
        ("a ? b ? c : d : e", 6),
        ("!-1", 1),
        ("$", 0),
        ("f(1)", 0),
        ("has(a)", 0),
        ("size()", 0),
        ("a.size(1)", 0),
    ],
)
def test_a_text_that_is_no_expression_is_refused_at_its_place(source: str, start: int) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(source)
    assert caught.value.kind in ("syntax", "unknown")
    assert caught.value.start == start
    assert caught.value.end > caught.value.start


def test_a_misspelt_function_is_told_what_was_meant() -> None:
    for source, meant in [
        ("inputs.list.siz()", "size"),
        ("x.startswith('a')", "startsWith"),
        ("lower(inputs.tag)", "x.lower"),
        ("inputs.tag.string()", "string(x)"),
    ]:
        with pytest.raises(ExpressionError, match=meant.replace("(", r"\(").replace(")", r"\)")):
            parse_expression(source)


def test_references_are_known_without_evaluating() -> None:
    source = (
        "steps.a.json[0].x > $b-c.n && inputs.l.exists(i, i == run.id) && steps[inputs.k].y == 1"
    )
    found = [
        (reference.text, source[reference.start : reference.end], reference.dynamic)
        for reference in parse_expression(source).references
    ]
    assert found == [
        ("steps.a.json[0].x", "steps.a.json[0].x", False),
        ('steps["b-c"].n', "$b-c.n", False),
        ("inputs.l", "inputs.l", False),
        ("run.id", "run.id", False),
        ("inputs.k", "inputs.k", False),
        ("steps", "steps[inputs.k].y", True),
    ]


def test_the_variable_of_a_loop_is_no_reference_and_ends_with_it() -> None:
    expression = parse_expression("[1].map(inputs, inputs + 1) == [2] && inputs.on")
    assert [reference.text for reference in expression.references] == ["inputs.on"]
    assert expression.evaluate(SCOPE) is True


def test_an_item_under_its_own_name_wins_over_a_step() -> None:
    expression = parse_expression("$pod.name")
    assert (
        expression.evaluate({"pod": {"name": "item"}, "steps": {"pod": {"name": "step"}}}) == "item"
    )
    assert expression.evaluate({"steps": {"pod": {"name": "step"}}}) == "step"


def test_evaluating_leaves_the_scope_as_it_was() -> None:
    before = repr(SCOPE)
    parse_expression("inputs.list.map(x, x + 1) + inputs.list").evaluate(SCOPE)
    assert repr(SCOPE) == before


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats()
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)
PIECES = r"""a b $a $a-b . [ ] ( ) { } , : ? + - * / % ! < <= == != && || in true null 1 2.5 'x' "y"
r'z' 0x1 .size() .map(x, x) .all(y, y) has( default( size( string( `q-r` // \ é 9e999"""
FRAGMENTS = st.sampled_from([*PIECES.split(), "\n", "\x00"])


@settings(max_examples=150)
@given(st.text(max_size=60) | st.lists(FRAGMENTS, max_size=25).map(" ".join), JSON, JSON)
def test_any_text_is_an_expression_or_an_expression_error(
    source: str, a: object, b: object
) -> None:
    caught: ExpressionError | None = None
    try:
        parse_expression(source).evaluate({"a": a, "b": b, "steps": {"a": a}})
    except ExpressionError as error:
        caught = error
    assert caught is None or 0 <= caught.start <= caught.end <= len(source) + 1


@settings(max_examples=100)
@given(JSON)
def test_equality_is_total_and_reflexive_but_for_nan(value: object) -> None:
    result = parse_expression("a == a").evaluate({"a": value})
    assert result is ("nan" not in repr(value))
