"""Hostile expressions: what bounds them is counted, not timed."""

from __future__ import annotations

import tracemalloc

import pytest

from fleetprompt_agent.language.expressions import ExpressionError, parse_expression

SCOPE = {
    "inputs": {
        "text": "a" * 500_000,
        "numbers": list(range(200_000)),
        "words": ["x" * 100] * 10_000,
        "objects": [{"size": number} for number in range(20_000)],
        "map": {str(number): number for number in range(50_000)},
        "lists": [[1, 2, 3]] * 5_000,
    }
}


@pytest.mark.parametrize(
    "source",
    [
        '"x"' + '.replace("x", "xxxx")' * 30,
        "[1, 1]" + ".map(a, [a, a])" * 20,
        "[[1]]" + ".map(a, a + a)" * 40,
        "[0].map(a, inputs.numbers).map(a, [a, a, a, a, a, a])",
        "inputs.numbers.map(a, a)",
        "inputs.numbers.map(a, inputs.numbers.map(b, b))",
        "inputs.objects.exists(o, o.nope == 1)",
        "inputs.words.map(w, inputs.text + w)",
        "inputs.words.all(w, inputs.map == inputs.map)",
        "inputs.lists.all(x, inputs.lists == inputs.lists)",
        "inputs.words.all(w, inputs.text.startsWith(inputs.text))",
        "inputs.words.filter(w, inputs.text.contains(w))",
        "inputs.words.join(inputs.text)",
        'inputs.text.split("")',
        'inputs.text.replace("a", "bbbbbbbbbb")',
        'inputs.text.replace("", "bbbbbbbbbb")',
        "inputs.numbers == inputs.numbers",
        "inputs.numbers.all(x, -1 in inputs.numbers)",
        '{"a": inputs.text, "b": inputs.text, "c": inputs.text}',
        "distinct(inputs.numbers)",
    ],
)
def test_work_and_memory_are_bounded(source: str) -> None:
    expression = parse_expression(source)
    tracemalloc.start()
    try:
        with pytest.raises(ExpressionError) as caught:
            expression.evaluate(SCOPE)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.kind == "limit"
    assert peak < 12 << 20


@pytest.mark.parametrize(
    "source",
    [
        "(" * 60 + "1" + ")" * 60,
        "[" * 60 + "]" * 60,
        "!" * 60 + "true",
        "a" + ".size()" * 60,
        "a ? b : " * 60 + "c",
        "a" + ".b" * 70,
        "a" + "[0]" * 70,
        "1" + " + 1" * 900,
        "[" + "1," * 1200 + "]",
        "'" + "x" * 5000 + "'",
        "'" + "é" * 2100 + "'",
    ],
)
def test_the_text_itself_is_bounded(source: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(source)
    assert caught.value.kind == "limit"


def test_what_is_within_the_bounds_is_evaluated() -> None:
    for source in (
        "(" * 40 + "1" + ")" * 40 + " == 1",
        "!" * 40 + "true",
        "1" + " + 1" * 400 + " == 401",
        "true" + " && true" * 300,
        "inputs.objects.exists(o, o.size == 19999)",
        "inputs.objects.filter(o, o.size < 5000).size() == 5000",
    ):
        assert parse_expression(source).evaluate(SCOPE) is True


def test_a_limit_is_not_hidden_by_an_operand_that_decides() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_expression("inputs.numbers.all(x, x >= 0) || true").evaluate(SCOPE)
    assert caught.value.kind == "limit"


def test_a_large_value_may_be_passed_on_but_not_made() -> None:
    assert parse_expression("inputs.numbers").evaluate(SCOPE) is SCOPE["inputs"]["numbers"]
