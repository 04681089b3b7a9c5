from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.input_values import MAX_INPUTS_BYTES, convert_inputs, read_inputs, split_pairs
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("text", "declared", "value"),
    [
        ("7", {"type": "integer"}, 7),
        ("-7", {"type": "integer"}, -7),
        ("7", {"type": "string"}, "7"),
        ("7", {}, "7"),
        ("1.5", {"type": "number"}, 1.5),
        ("true", {"type": "boolean"}, True),
        ("False", {"type": "boolean"}, False),
        ("true", {"type": "string"}, "true"),
        ("[1, 2]", {"type": "array"}, [1, 2]),
        ('{"a": 1}', {"type": "object"}, {"a": 1}),
        ("null", {"type": ["integer", "null"]}, None),
        ("9", {"type": ["integer", "null"]}, 9),
        ("abc", {"type": ["integer", "string"]}, "abc"),
        ("", {"type": "string"}, ""),
    ],
)
def test_a_text_becomes_a_value_of_the_declared_type(
    text: str, declared: dict[str, Any], value: Any
) -> None:
    converted = convert_inputs({"name": text}, {"name": declared})["name"]
    assert converted == value
    assert type(converted) is type(value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("abc", "integer"),
        ("1.5", "integer"),
        ("yes", "boolean"),
        ("NaN", "number"),
        ("Infinity", "number"),
        ("true", "number"),
        ("{}", "array"),
        ("[", "array"),
        ('{"a": 1, "a": 2}', "object"),
        ("[" * 5000, "array"),
    ],
)
def test_a_text_that_is_no_such_value_is_an_error(text: str, kind: str) -> None:
    with pytest.raises(RequestError) as caught:
        convert_inputs({"name": text}, {"name": {"type": kind}})
    assert caught.value.code == "inputs.invalid"
    assert "`name`" in caught.value.message


def test_an_input_that_is_not_declared_stays_a_text_for_the_agent_to_refuse() -> None:
    assert convert_inputs({"other": "7"}, {}) == {"other": "7"}


def test_a_pair_may_hold_more_equal_signs() -> None:
    assert split_pairs(["query=a=b", "empty="]) == {"query": "a=b", "empty": ""}


@pytest.mark.parametrize("pairs", [["name"], ["=value"], ["a=1", "a=2"]])
def test_a_malformed_or_repeated_pair_is_an_error(pairs: list[str]) -> None:
    with pytest.raises(RequestError):
        split_pairs(pairs)


def test_inputs_are_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_text('{"a": [1, null]}')
    assert read_inputs(str(file)) == {"a": [1, None]}


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"\xff\xfe", b"[" * 100_000]
)
def test_a_file_that_holds_no_json_object_is_an_error(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        read_inputs(str(file))
    assert caught.value.code == "inputs.invalid"


def test_a_file_that_is_missing_or_too_large_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        read_inputs(str(tmp_path / "nothing.json"))
    assert caught.value.code == "inputs.invalid"
    large = tmp_path / "large.json"
    large.write_bytes(b" " * (MAX_INPUTS_BYTES + 1))
    with pytest.raises(RequestError) as caught:
        read_inputs(str(large))
    assert caught.value.code == "inputs.too_large"


@settings(max_examples=150)
@given(
    st.text(max_size=40),
    st.sampled_from(["integer", "number", "boolean", "array", "object", "null", "string", "odd"]),
)
def test_any_text_converts_to_json_or_is_refused(text: str, kind: str) -> None:
    with contextlib.suppress(RequestError):
        json.dumps(convert_inputs({"name": text}, {"name": {"type": kind}}), allow_nan=False)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty"),
        (b"{'a': 1}", "a name in double quotes is missing in line 1, column 2"),
        (b'{"a": 1,\n "b" 2}', "a `:` is missing in line 2, column 6"),
        (b'{"a": caf\xe9}', "its byte 10 is not UTF-8"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": 1e400}', "1e400 is too large for a number"),
        (b'{"a": 99999999999999999999}', "is beyond 64 bits"),
        (b'{"a": ' + b"9" * 5_000 + b"}", "is beyond 64 bits"),
        (b'{"a": 1, "a": 2}', "a name is given twice"),
    ],
)
def test_a_fault_in_json_is_said_in_plain_words(content: bytes, said: str, tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_bytes(content)
    with pytest.raises(RequestError) as caught:
        read_inputs(str(file))
    assert said in caught.value.message
    for word in ("codec", "char ", "delimiter", "Expecting"):
        assert word not in caught.value.message


def test_a_byte_order_mark_is_no_part_of_json(tmp_path: Path) -> None:
    file = tmp_path / "inputs.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_inputs(str(file)) == {"a": 1}


def test_an_integer_beyond_64_bits_is_refused() -> None:
    with pytest.raises(RequestError, match="beyond 64 bits"):
        convert_inputs({"n": "99999999999999999999"}, {"n": {"type": "integer"}})
