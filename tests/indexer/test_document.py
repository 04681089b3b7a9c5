"""Composing a file: what is accepted, what is refused and where, and that both formats agree."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fleetprompt_indexer.document import ListNode, MapNode, Node, ScalarNode, compose
from fleetprompt_indexer.walker import walk
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from fleetprompt_indexer.events import Format

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=15,
)
JSON_MAPS = st.dictionaries(TEXT, JSON_VALUES, max_size=5)


def refused(text: str | bytes, format: Format = "yaml") -> dict[str, Any]:  # noqa: A002  # users' word
    """The first error that the text is refused for."""
    data = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(WorkflowError) as caught:
        compose(data, format=format, file="f.yaml")
    diagnostics = (caught.value.details or {})["diagnostics"]
    errors = [d for d in diagnostics if d["severity"] == "error"]
    assert all(d["file"] == "f.yaml" and d["message"].endswith(".") for d in errors)
    first: dict[str, Any] = errors[0]
    return first


def python(text: str) -> Any:
    return compose(text.encode(), format="yaml", file="f.yaml").to_python()


def leaves(node: Node) -> list[ScalarNode]:
    match node:
        case ScalarNode():
            return [node]
        case ListNode():
            return [leaf for item in node.items for leaf in leaves(item)]
        case MapNode():
            return [leaf for key, value in node.entries for leaf in (key, *leaves(value))]


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("on", "on"),
        ("no", "no"),
        ("y", "y"),
        ("12:30", "12:30"),
        ("2024-01-31", "2024-01-31"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("True", True),
        ("false", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("012", 12),
        ("0o17", 15),
        ("0xFf", 255),
        ("-3", -3),
        ("+3", 3),
        ("1.10", 1.1),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1000.0),
        ("1.2.0", "1.2.0"),
        ("1e", "1e"),
        ("'1'", "1"),
        ('"true"', "true"),
        ("tRue", "tRue"),
    ],
)
def test_plain_scalars_are_read_as_yaml_1_2_core(written: str, value: object) -> None:
    read = python(f"a: {written}\n")["a"]
    assert read == value
    assert type(read) is type(value)


def test_a_scalar_keeps_the_text_it_was_written_as() -> None:
    root = compose(b"version: 1.10\nzero: 0644\n", format="yaml", file="f")
    version, zero = (value for _, value in root.entries)
    assert isinstance(version, ScalarNode)
    assert isinstance(zero, ScalarNode)
    assert (version.value, version.text, zero.value, zero.text) == (1.1, "1.10", 644, "0644")


def test_keys_are_text_whatever_they_look_like() -> None:
    assert python("1: a\ntrue: b\nnull: c\n1.50: d\n") == {
        "1": "a",
        "true": "b",
        "null": "c",
        "1.50": "d",
    }


def test_spans_count_characters_and_end_where_the_value_ends() -> None:
    text = "a: 1\n\U0001f600b: 'x'  # c\nc:\n  - 1\n  - {d: e}\nf: |\n  g\nh: [1,\n  2]\n"
    root = compose(text.encode(), format="yaml", file="f")
    spans = {
        key.text: (value.span.line, value.span.column, value.span.end_line, value.span.end_column)
        for key, value in root.entries
    }
    assert spans == {
        "a": (1, 4, 1, 5),
        "\U0001f600b": (2, 5, 2, 8),
        "c": (4, 3, 5, 11),
        "f": (6, 4, 8, 1),
        "h": (8, 4, 9, 5),
    }
    key = root.key("\U0001f600b")
    assert key is not None
    assert (key.span.column, key.span.end_column) == (1, 3)


def test_styles_tell_plain_from_quoted_from_block() -> None:
    root = compose(b"a: x\nb: 'x'\nc: \"x\"\nd: |\n  x\ne: >\n  x\n", format="yaml", file="f")
    styles = [value.style for _, value in root.entries if isinstance(value, ScalarNode)]
    assert styles == ["plain", "quoted", "quoted", "block", "block"]


def test_brackets_are_told_from_indentation() -> None:
    root = compose(b"a: {b: 1}\nc:\n  d: 1\ne: [1]\nf:\n- 1\n", format="yaml", file="f")
    flows = [value.is_flow for _, value in root.entries if not isinstance(value, ScalarNode)]
    assert flows == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a: 1\nb: 2\na: 3\n", "document.duplicate_key", 3, 1),
        ("x:\n  - {a: 1, a: 2}\n", "document.duplicate_key", 2, 12),
        ("'1': a\n1: b\n", "document.duplicate_key", 2, 1),
        ("a: &x 1\nb: *x\n", "document.alias", 2, 4),
        ("a: {b: *x}\n", "document.alias", 1, 8),
        ("a: {*x : 1}\n", "document.alias", 1, 5),
        ("<<: {a: 1}\n", "document.merge_key", 1, 1),
        ("a: !!python/object:os.system x\n", "document.tag", 1, 4),
        ("a: !x [1]\n", "document.tag", 1, 4),
        ("!x {a: 1}\n", "document.tag", 1, 1),
        ("if: !x\n", "document.tag", 1, 5),
        ("a: 1\n---\nb: 2\n", "document.multiple", 2, 1),
        ("", "document.empty", 1, 1),
        ("# only a comment\n", "document.empty", 1, 1),
        ("- a\n", "document.not_a_map", 1, 1),
        ("just text\n", "document.not_a_map", 1, 1),
        ("{{ x }}: 1\n", "document.key", 1, 1),
        ("? [a]\n: 1\n", "document.key", 1, 3),
        ("? \n: 1\n", "document.key", 1, 2),
        ("a: .inf\n", "document.number", 1, 4),
        ("a: -.INF\n", "document.number", 1, 4),
        ("a: .nan\n", "document.number", 1, 4),
        ("a: 1e999\n", "document.number", 1, 4),
        ("a: 9223372036854775808\n", "document.number", 1, 4),
        ("a: [b\n", "document.syntax", 2, 1),
        ("a: b: c\n", "document.syntax", 1, 5),
        ("a:\n\t- b\n", "document.syntax", 2, 1),
        ("a: @b\n", "document.syntax", 1, 4),
        ("a: *.py\n", "document.syntax", 1, 5),
        ("a: 'b\n", "document.syntax", 2, 1),
        ("a: \x1b[31m\n", "document.syntax", 1, 4),
        ("é: \x00\n", "document.syntax", 1, 4),
        ('a: "\\ud800"\n', "document.syntax", 1, 7),
        ('a: "\\q"\n', "document.syntax", 1, 5),
        ("a: 1\n]\n", "document.syntax", 2, 1),
        ("a: 'b' c\n", "document.syntax", 1, 8),
        ("a:\n  b: 1\n c: 2\n", "document.syntax", 3, 2),
        ("w: {a: ${{ b }}}\n", "document.syntax", 1, 9),
        ("%FOO\n--- {}\n", "document.syntax", 1, 5),
        ("%YAML 2.0\n--- {}\n", "document.syntax", 1, 1),
        ("a: " + "[" * 70, "document.too_deep", 1, 67),
    ],
)
def test_yaml_is_refused_at_its_place(text: str, code: str, line: int, column: int) -> None:
    found = refused(text)
    assert (found["code"], found["line"], found["column"]) == (code, line, column)


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ('{"a": 1,\n "a": 2}', "document.duplicate_key", 2, 2),
        ('{"a": NaN}', "document.syntax", 1, 7),
        ('{"a": Infinity}', "document.syntax", 1, 7),
        ('{"a": -Infinity}', "document.syntax", 1, 7),
        ('{"a": 1e999}', "document.number", 1, 7),
        ('{"a": 01}', "document.syntax", 1, 8),
        ('{"a": +1}', "document.syntax", 1, 7),
        ('{"a": .5}', "document.syntax", 1, 7),
        ('{"a": 1,}', "document.syntax", 1, 9),
        ('{"a": [1,]}', "document.syntax", 1, 10),
        ('{"a" 1}', "document.syntax", 1, 6),
        ("{'a': 1}", "document.syntax", 1, 2),
        ('{"a": 1} x', "document.syntax", 1, 10),
        ('{"a": 1}{}', "document.syntax", 1, 9),
        ('{"a": "x\ny"}', "document.syntax", 1, 9),
        ('{"a": "\\ud800"}', "document.syntax", 1, 7),
        ('{"a": "\\x"}', "document.syntax", 1, 8),
        ('{"a": "x', "document.syntax", 1, 7),
        ('{"a": [1', "document.syntax", 1, 9),
        ('{"a": 1]', "document.syntax", 1, 8),
        ('{"a": // no\n 1}', "document.syntax", 1, 7),
        ("[1]", "document.not_a_map", 1, 1),
        ('"a"', "document.not_a_map", 1, 1),
        (" \n", "document.empty", 1, 1),
        ('{"a": ' + "[" * 70, "document.too_deep", 1, 70),
    ],
)
def test_json_is_refused_at_its_place(text: str, code: str, line: int, column: int) -> None:
    found = refused(text, "json")
    assert (found["code"], found["line"], found["column"]) == (code, line, column)


def test_a_duplicate_names_both_places_and_the_path() -> None:
    found = refused("steps:\n- id: a\n  env: {X: 1, Y: 2, X: 3}\n")
    assert found["path"] == "steps[0].env.X"
    assert "line 3, column 9" in found["message"]
    assert (found["line"], found["column"]) == (3, 21)


def test_findings_are_given_in_one_pass() -> None:
    with pytest.raises(WorkflowError) as caught:
        compose(b"a: 1\na: 2\nb: !x 1\nc: *d\n", format="yaml", file="f")
    codes = [d["code"] for d in (caught.value.details or {})["diagnostics"]]
    assert codes == ["document.duplicate_key", "document.tag", "document.alias"]


def test_bytes_that_are_not_utf_8_have_a_line_and_a_column() -> None:
    with pytest.raises(WorkflowError) as caught:
        compose("a: é\nbé: ".encode() + b"\xff\n", format="yaml", file="f")
    assert caught.value.code == "workflow.unreadable"
    found = (caught.value.details or {})["diagnostics"][0]
    assert (found["code"], found["line"], found["column"]) == ("document.encoding", 2, 5)


def test_utf_16_is_named_as_what_it_probably_is() -> None:
    assert "UTF-16" in refused("a: 1".encode("utf-16"))["message"]


def test_a_byte_order_mark_is_skipped_with_a_warning() -> None:
    data = b"\xef\xbb\xbfa: 1\n"
    assert compose(data, format="yaml", file="f").to_python() == {"a": 1}
    assert [p.code for p in walk(data, format="yaml").problems] == ["document.bom"]


def test_anchors_without_aliases_are_tolerated_up_to_a_budget() -> None:
    few = "".join(f"k{n}: &a{n} 1\n" for n in range(64))
    assert len(python(few)) == 64
    assert refused(few + "z: &z 1\n")["code"] == "document.anchors"


def test_a_document_of_too_many_parts_is_refused() -> None:
    assert refused("a: [" + "1," * 20_000 + "1]")["code"] == "document.too_complex"
    assert refused('{"a": [' + "1," * 20_000 + "1]}", "json")["code"] == "document.too_complex"


def test_depth_is_allowed_up_to_its_limit() -> None:
    deep = "a: " + "[" * 63 + "]" * 63
    assert python(deep) is not None
    assert refused("a: " + "[" * 64 + "]" * 64)["code"] == "document.too_deep"


def test_the_seed_example_composes() -> None:
    text = (
        'name: inbox-triage\nargs:\n  tag:\n    default: "family"\nsteps:\n- id: collect\n'
        "  command: cli inbox list --json\n  output: json\n- id: execute\n"
        "  stdin: $collect.stdout\n  condition: $approve.approved\n"
    )
    assert python(text)["steps"][1]["stdin"] == "$collect.stdout"


@given(JSON_MAPS, st.sampled_from([None, 0, 2]), st.booleans())
@settings(max_examples=80)
def test_json_gives_what_the_standard_library_gives(
    value: dict[str, Any], indent: int | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    root = compose(text.encode(), format="json", file="f")
    assert root.to_python() == json.loads(text)
    types = [type(leaf.value) for leaf in leaves(root)]
    assert types == [type(leaf) for leaf in flat(json.loads(text))]


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in (key, *flat(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in flat(inner)]
    return [value]


@given(st.text('{}[]",:\\ \n\t0123456789eE+-.truefalsnNI\u00e9\x00/*', max_size=40))
@settings(max_examples=80)
def test_any_json_text_is_accepted_exactly_when_the_standard_library_accepts_it(text: str) -> None:
    # Beyond the standard library we refuse: a root that is no map, duplicates, constants, overflow.
    seen: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(items)) < len(items):
            seen.append("duplicate")
        return dict(items)

    try:
        expected = json.loads(
            f'{{"x": {text}}}', parse_constant=seen.append, object_pairs_hook=pairs
        )
    except (ValueError, RecursionError):
        expected = None
    numbers = [] if expected is None else [n for n in flat(expected) if isinstance(n, float | int)]
    if seen or any(math.isinf(n) or (type(n) is int and abs(n) > 2**63) for n in numbers):
        expected = None
    try:
        got = compose(f'{{"x": {text}}}'.encode(), format="json", file="f").to_python()
    except WorkflowError:
        got = None
    assert got == expected


@given(JSON_MAPS, st.booleans())
@settings(max_examples=60)
def test_yaml_gives_back_what_was_dumped(value: dict[str, Any], flow: bool) -> None:
    # PyYAML writes YAML 1.1, where `0E0` is text; what it writes is else the same in 1.2.
    texts = [leaf for leaf in flat(value) if isinstance(leaf, str)]
    assume(not any(re.match(r"[-+.]*[0-9]", text) for text in texts))
    text = yaml.safe_dump(value, default_flow_style=flow, sort_keys=False)
    assert compose(text.encode(), format="yaml", file="f").to_python() == value


@given(st.binary(max_size=200), st.sampled_from(["yaml", "json"]))
@settings(max_examples=80)
def test_any_bytes_give_a_tree_or_findings(data: bytes, format: Format) -> None:  # noqa: A002
    check_either(data, format)


SIGNS = ["a", "b", "1", "é", ": ", ":", "- ", "\n", "  ", "\t", "[", "]", "{", "}", ", "]
MARKS = ["'", '"', "&x ", "*x", "!t ", "#", "? ", "---\n", "...\n", "%", "<<", "\\", "@"]
YAML_PIECES = st.lists(st.sampled_from([*SIGNS, *MARKS, "|\n", ">\n"]), max_size=40).map("".join)


@given(YAML_PIECES)
@settings(max_examples=80)
def test_any_yaml_like_text_gives_a_tree_or_findings(text: str) -> None:
    check_either(text.encode(), "yaml")


def check_either(data: bytes, format: Format) -> None:  # noqa: A002  # users' word
    try:
        root = compose(data, format=format, file="f")
    except WorkflowError as error:
        found = (error.details or {})["diagnostics"]
        assert found
        lines = data.count(b"\n") + data.count(b"\r") + data.count("\u2028".encode()) + 2
        assert all(1 <= d["line"] <= lines + 2 and d["column"] >= 1 for d in found)
        return
    json.dumps(root.to_python(), allow_nan=False)
    for leaf in leaves(root):
        start, end = (leaf.span.line, leaf.span.column), (leaf.span.end_line, leaf.span.end_column)
        assert start <= end
