"""The parser without libyaml behaves as the one with it, and complaints are plain sentences."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml.events import StreamEndEvent

from fleetprompt_indexer.events import open_parser, pure_yaml_parser, syntax_problem

WITHOUT_LIBYAML = """
import json, sys
sys.modules["yaml._yaml"] = None
from fleetprompt_indexer.document import compose
from fleetprompt_protocol.errors import WorkflowError
for line in sys.stdin:
    try:
        print(json.dumps(compose(json.loads(line).encode(), format="yaml", file="f").to_python()))
    except WorkflowError as error:
        found = error.details["diagnostics"][0]
        print(json.dumps([found["code"], found["line"]]))
"""


def events_of(parser: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    while True:
        event = parser.get_event()
        start = event.start_mark
        found.append(
            (
                type(event),
                getattr(event, "value", None),
                getattr(event, "implicit", (None,))[:1] if hasattr(event, "value") else None,
                (start.line, start.column),
            )
        )
        if type(event) is StreamEndEvent:
            return found


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=12)
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)


@given(DOCUMENTS, st.booleans())
@settings(max_examples=60)
def test_both_yaml_parsers_give_the_same_events(value: Any, flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow)
    assert events_of(open_parser(text, format="yaml")) == events_of(pure_yaml_parser(text))


def test_without_libyaml_the_same_is_accepted_and_refused() -> None:
    texts = {
        "a: 1\nb: [no, 012, 'x']\n": {"a": 1, "b": ["no", 12, "x"]},
        "a: 1\na: 2\n": ["document.duplicate_key", 2],
        "a: *b\n": ["document.alias", 1],
        "a: [1\n": ["document.syntax", 2],
        "a: b: c\n": ["document.syntax", 1],
        "x: \x07\n": ["document.syntax", 1],
        "a: " + "[" * 70: ["document.too_deep", 1],
        "": ["document.empty", 1],
    }
    lines = "".join(json.dumps(text) + "\n" for text in texts)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_LIBYAML], input=lines, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert [json.loads(line) for line in done.stdout.splitlines()] == list(texts.values())


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("prompt: a: b\n", "`:` stands where no key", "quote"),
        ("w: {a: ${{ b }}}\n", "`${{ … }}` inside", "quote the expression"),
        ("glob: *.py\n", "`*` and `&`", "quote the value"),
        ("a: `b`\n", "cannot begin with `", "quote the value"),
        ("a:\n\tb: 1\n", "tab", "spaces"),
        ("a: [1,\nb: 2\n", "`[…]` is not closed", None),
        ("a: {b: 1\nc: 2\n", "`{…}` is not closed", None),
        ("a: 'it's'\n", "Text follows a value", "quote the whole value"),
        ("a:\n  - b\n c: d\n", "indentation", "same number of spaces"),
        ("a: }\n", "closing bracket|value is missing", None),
    ],
)
@pytest.mark.parametrize("open_yaml", [lambda t: open_parser(t, format="yaml"), pure_yaml_parser])
def test_a_syntax_error_says_what_to_do(
    text: str, words: str, hint: str | None, open_yaml: Any
) -> None:
    with pytest.raises(yaml.YAMLError) as caught:
        events_of(open_yaml(text))
    problem = syntax_problem(caught.value, text)
    assert any(word in problem.message for word in words.split("|")), problem.message
    if hint is not None:
        assert hint in (problem.hint or "")
    for jargon in ("token", "scalar", "mapping", "sequence", "block end", "libyaml"):
        assert jargon not in problem.message
