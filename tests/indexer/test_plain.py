"""Reading plain YAML and JSON: what is read means what the walk says, the rest is left to it."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetprompt_indexer.events import decode
from fleetprompt_indexer.walker import Head, plain_head, walk, walk_events

if TYPE_CHECKING:
    from fleetprompt_indexer.events import Format

ROOT = Path(__file__).parents[2]


def agree(text: str, format: Format = "yaml") -> bool:  # noqa: A002  # the word users know
    """Whether the text is read; when it is, the walk says the same and finds nothing."""
    head = plain_head(text, format=format)
    if head is None:
        return False
    decoded, problems = decode(text.encode())
    walked = walk_events(decoded, problems, format=format)
    assert (repr(head.values), walked.problems) == (repr(walked.values), ()), text
    return True


READ = {
    "a workflow": """
        # About this file
        name: Release notes  # what it is called
        version: 1.10
        description: |
          Collects what changed.

            Then asks: is it right?
        inputs:
          since: {type: string, default: "v1", required: true}
          count:
            type: integer
            default: 5
          none: ~
          kinds: [a, 'b c', -1, 0x1f, 1e3, [x, {y: z}], {}]
        steps:
        - id: collect
          command: cli git log ${{ inputs.since }}..HEAD --format=%s
          env:
            A: one
            B: "two # three"
        - id: write
          tool: com.example.mail/send
          if: inputs.count > 3 && steps.collect.ok
          with: {to: "a, b: c", limit: 5}
          needs: [collect]
        - {id: last, command: cli true, timeout: 30s}
        finally:
          - id: tidy
            command: |-
              sh tidy.sh
        outputs:
          notes: $write.text
        """,
    "dashes within dashes": "inputs:\n- - a\n  - b\n- - - c\n- d: 1\n  e: 2\n",
    "lists that are not indented": "inputs:\n  a:\n  - b\n  - c\n  d: e\nname: x\n",
    "values that are missing": "name:\ninputs:\n  a:\n  b:\nsteps:\n- id:\n  command:\nversion:",
    "texts nobody wants": "x: >-\n  folded\n\n   more\ny: |\n  # no comment\n",
    "a document that begins with a line": "---\nname: a\n",
    "signs within values": "name: a#b c:d e'f [g] {h} *i &j !k %l @m `n`\n",
    "letters of the world": "name: Größe 版本 🚀\ndescription: é — ü\n",
    "maps in one line": "x: {a: 1, ab: 2, aba: 3}\ny: {a: 1, b: 2, c: 3, d: 4}\nz: [a, b]  \n",
    "spaces at the end": "name: a   \nversion: 'b'  \ninputs: [c]  \n",
}


@pytest.mark.parametrize("name", READ)
def test_plain_files_are_read(name: str) -> None:
    assert agree(textwrap.dedent(READ[name]).lstrip("\n"))


LEFT = [
    *("", "\n", "# nothing\n", "- a\n", "a\n", "{a: 1}\n", "[]\n", "'a': 1\n", "? a\n: b\n"),
    *("a: {b: 1, c: 2, b: 3}\n", "a: {b: 1, c: 2, c: 3}\n", "a: {b: 1, c: 2, d: 3, b: 4}\n"),
    *("a: 1\na: 2\n", "a: {b: 1, b: 2}\n", "a:\n- b: 1\n  b: 2\n", "a: {b: 1, 'b': 2}\n"),
    *("a: &x 1\n", "a: *x\n", "a: !t 1\n", "<<: 1\n", "a: {<<: 1}\n", "%YAML 1.2\n---\na: 1\n"),
    *("a: 1\n---\nb: 2\n", "a: 1\n...\n", "---\n---\na: 1\n", "a:\t1\n", "a: 1\r\n"),
    *("a: b: c\n", "a: b\n c\n", "a: 'b\n  c'\n", 'a: "\\n"\n', "a: 'it''s'\n", "a: [b\n  ]\n"),
    *("a: [b,]\n", "a: [b: c]\n", "a: {b}\n", "a: {b: }\n", "a: [b]]\n", "a: [b] c\n"),
    *("a: |\nb: 1\n", "a: |2\n   b\n", "a: |+\n  b\n", "a: |\n   b\n  c\n", "a: |\n"),
    *("a:\n  b: 1\n c: 2\n", "a: 1\n  b: 2\n", "a:\n- b\n - c\n", " a: 1\nb: 2\n"),
    *("a: - b\n", "a: ? b\n", "a: @b\n", "a: `b`\n", "a: %b\n", "a: ]\n", "a: -\n", "a:b\n"),
    *("a: \x1b\n", "a: b\u2028c: d\n", "a: \x85\n", "a: \u00a0b\n", "a: 'b' c\n", "-a: 1\n-\n"),
    *("a :\n", "a: {b:c}\n", "\ufeffa: 1\n", "description: >\n  b\n", "a:\n    - b\n  - c\n"),
    "a:\n" + "".join(" " * n + "- \n" for n in range(1, 40)),
    "".join("  " * n + "a:\n" for n in range(40)) + "  " * 40 + "b: 1\n",
    "a: 1\n" + "#" * 16_000,
]


@pytest.mark.parametrize("text", LEFT)
def test_what_is_not_plain_is_left_to_the_walk(text: str) -> None:
    assert plain_head(text) is None


def test_no_hazard_is_read_by_lines_as_something_else(hazards: dict[str, Any]) -> None:
    for hazard in hazards.values():
        text, problems = decode(hazard.content)
        if not problems:
            agree(text)


def test_the_files_of_this_repository_are_plain() -> None:
    files = [*(ROOT / ".fleetprompt").rglob("*.yaml"), *(ROOT / "examples").rglob("*.yaml")]
    texts = [file.read_text() for file in files]
    assert sum(map(agree, texts)) > len(texts) / 2
    assert all(isinstance(walk(text.encode(), format="yaml"), Head) for text in texts)


_SPACES = st.sampled_from(["", "", "", "  ", "  ", "    ", " ", "   "])
_DASHES = st.sampled_from(["", "", "", "- ", "- ", "- - ", "-", "-  "])
_KEYS = st.sampled_from(
    [
        *("", "a: ", "a:", "b: ", "b:", "id: ", "command: ", "steps:", "inputs:", "name: "),
        *("finally:", "description: ", "a/b: ", "'a': ", "<<: ", "a b: ", "a:b: ", "1: ", "a :"),
    ]
)
_VALUES = st.sampled_from(
    [
        *("", "", "x", "x y", "1", "1.10", "null", "~", "yes", '"q"', "'q'", "'a: b'", "x #c"),
        *("#c", "|", ">", "|-", ">-", "|+", "[a, b]", "[]", "{}", "{a: 1}", "{a: 1, a: 2}"),
        *("{id: x, command: y z}", "[{a: b}, c]", "{a: [b], c: {d: e}}", "{'a': b}", "[a: b]"),
        *("[a, ]", "*x", "&x y", "!t", "x  ", "-1", "- x", "--x", "---", "...", "x: y", "x:"),
        *(":x", "x:y", "${{ a }}", "{{ a }}", "é", "\u2028", "\u00a0", "%", "@x", "x'y", '"x'),
        *("[x, 'y, z: 1']", "{a: 'b, c: d', c: 1}", "?", "[x,y]", "{a: b,c: d}"),
    ]
)
_LINES = st.lists(
    st.builds("{}{}{}{}".format, _SPACES, _DASHES, _KEYS, _VALUES), min_size=1, max_size=9
)


@given(lines=_LINES, end=st.sampled_from(["", "\n"]))
def test_any_lines_mean_what_the_walk_says(lines: list[str], end: str) -> None:
    agree("\n".join(lines) + end)


_TEXTS = [textwrap.dedent(text).lstrip("\n") for text in READ.values()]


@given(data=st.data())
def test_a_file_with_a_few_changes_means_what_the_walk_says(data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(_TEXTS))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        more = data.draw(st.sampled_from(["", *" \n:#-[]{},'\"|>&*!%@`?~.\\a0", ": ", " #", "- "]))
        text = text[:at] + more + text[at + cut :]
    agree(text)


# JSON

_WORDS = st.sampled_from(
    ["a", "b", "id", "command", "steps", "inputs", "name", "finally", "<<", ""]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | _WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(value=st.dictionaries(_WORDS, _JSON, max_size=6), is_ascii=st.booleans())
def test_any_json_means_what_the_walk_says(value: dict[str, Any], is_ascii: bool) -> None:
    agree(json.dumps(value, ensure_ascii=is_ascii), "json")


@given(data=st.data())
def test_json_with_a_few_changes_means_what_the_walk_says(data: st.DataObject) -> None:
    text = _PLAIN_JSON
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 3))
        more = data.draw(st.sampled_from(["", *' \n:[]{},"\\a0.-+e\t\x1b\xa0', "NaN", "1e999"]))
        text = text[:at] + more + text[at + cut :]
    agree(text, "json")


_PLAIN_JSON = """{"id": "x", "name": 12, "version": 1.10, "description": null, "type": true,
 "inputs": {"a": {"default": 1.50, "required": false}, "b": [1, [2, {"c": 9e400}], 123456789012345678901]},
 "steps": [{"id": 1, "command": ["a", 2], "with": {"x": 1}}, [{"id": "y"}], 3, true, null],
 "finally": {"id": 1}, "outputs": {"o": "$x.text"}, "other": {"steps": [1]}}"""  # noqa: E501


def test_plain_json_is_read() -> None:
    assert agree(_PLAIN_JSON, "json")
    assert agree(json.dumps({"a": "é 🚀 \u2028"}, ensure_ascii=False), "json")
    assert agree("{}", "json")


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "1", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": "\\u00e9"}', '{"a": 1,}'),
        *('{"a": ' + "[" * 30 + "]" * 30 + "}", '{"a": "' + "x" * 16_000 + '"}', '\ufeff{"a": 1}'),
    ],
)
def test_what_is_not_plain_json_is_left_to_the_walk(text: str) -> None:
    assert plain_head(text, format="json") is None
