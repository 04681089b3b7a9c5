"""JSON in and out: what cannot be JSON is refused, what can be comes back the same."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_protocol.errors import InternalError, ProtocolError
from fleetprompt_protocol.wire import Peek, dumps, is_request_id, loads, peek

any_text = st.text(st.characters(codec=None, categories=["L", "N", "P", "Z", "Cc", "Cs", "So"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=8,
)


@settings(max_examples=150)
@given(json_values)
def test_what_is_written_is_read_again(value: Any) -> None:
    text = dumps(value)
    assert loads(text) == value
    assert b"\n" not in text
    text.decode()


@settings(max_examples=300)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_a_value_or_a_protocol_error(data: bytes) -> None:
    try:
        value = loads(data)
    except ProtocolError as exc:
        code = exc.code
    else:
        code = "protocol.parse_error"
        assert loads(dumps(value)) == value
    assert code in {"protocol.parse_error", "protocol.too_deep"}


@pytest.mark.parametrize(
    "text",
    [
        *(
            "NaN",
            "[Infinity]",
            '{"a":-Infinity}',
            "1e999",
            "-1e999",
            "9" * 5000,
            "",
            "{",
            "{'a':1}",
        ),
        *("[1,]", "\x00", '"\x01"', "nul", '{"a":1}{"b":2}'),
    ],
)
def test_what_is_not_json_is_a_parse_error(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        loads(text.encode())
    assert caught.value.code == "protocol.parse_error"
    assert caught.value.rpc_code == -32700


def test_bytes_that_are_not_utf8_are_a_parse_error() -> None:
    with pytest.raises(ProtocolError, match="byte 2 is not UTF-8"):
        loads(b'"\xff"')


@pytest.mark.parametrize("depth", [64, 65, 5000, 200_000])
def test_nesting_is_limited(depth: int) -> None:
    lists = b"[" * depth + b"]" * depth
    objects = b'{"a":' * depth + b"1" + b"}" * depth
    for text in (lists, objects):
        if depth <= 64:
            assert dumps(loads(text)) == text
        else:
            with pytest.raises(ProtocolError) as caught:
                loads(text)
            assert caught.value.code == "protocol.too_deep"


def test_brackets_in_strings_are_not_levels() -> None:
    assert loads(json.dumps("[{" * 100).encode()) == "[{" * 100


def _circle() -> list[Any]:
    circle: list[Any] = []
    circle.append(circle)
    return circle


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1: {2}}, {(1, 2): 3}, b"x"])
def test_what_json_cannot_hold_is_not_written(value: Any) -> None:
    with pytest.raises(InternalError) as caught:
        dumps({"value": value})
    assert caught.value.code == "protocol.internal"
    assert "object" not in caught.value.message


def test_a_circle_is_not_written() -> None:
    with pytest.raises(InternalError):
        dumps(_circle())


@pytest.mark.parametrize("value", [0, -1, "", "a", "\ud800", 1.0, 2**64 - 1, -(2**63), "x" * 512])
def test_strings_and_whole_numbers_are_ids(value: object) -> None:
    assert is_request_id(value)


@pytest.mark.parametrize(
    "value", [None, True, False, 1.5, [], {}, 2**64, 10**400, 1e300, -1e300, "x" * 513]
)
def test_other_values_are_no_ids(value: object) -> None:
    assert not is_request_id(value)


@pytest.mark.parametrize(
    ("head", "tail", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":5,"method":"a","params":"', b"", Peek(5, False)),
        (b'{"id":"x\\u0041","method":"a', b"", Peek("xA", False)),
        (b'{"params":{"id":3,"a":[{"id":4}]},"id":9,"method":"m"', b"", Peek(9, False)),
        (b'{"result":{"id":3},"id":9,', b"", Peek(9, True)),
        (b'{"jsonrpc":"2.0","result":"xxxx', b'xx","id":12}', Peek(12, True)),
        (b'{"jsonrpc":"2.0","result":"xxxx', b'xx\\",\\"id\\":12}', Peek(None, True)),
        (b'{"method":"m","id":12', b"", Peek(None, False)),
        (b'{"method":"m","id":true,', b"", Peek(None, False)),
        (b'{"method":"m","id":null,"params":NaN}', b"", Peek(None, False)),
        (b'[{"id":1,"method":"m"}', b"", Peek(None, None)),
        (b'{"a":"\\",\\"id\\":7,\\"method\\":1', b"", Peek(None, None)),
        (b"", b"", Peek(None, None)),
    ],
)
def test_the_id_of_an_unreadable_message_is_found(head: bytes, tail: bytes, expected: Peek) -> None:
    assert peek(head, tail) == expected


@settings(max_examples=150)
@given(
    st.one_of(
        st.binary(),
        st.lists(
            st.sampled_from([b"{", b"}", b"[", b"]", b'"', b"\\", b":", b",", b'"id"', b"1"])
        ).map(b"".join),
    ),
    st.binary(),
)
def test_any_bytes_can_be_peeked_at(head: bytes, tail: bytes) -> None:
    found = peek(head, tail)
    assert found.id is None or is_request_id(found.id)


@settings(max_examples=60)
@given(
    st.integers(-(2**63), 2**64 - 1) | st.text(max_size=100),
    st.dictionaries(st.text(max_size=5), json_values, max_size=2),
)
def test_the_id_of_a_broken_request_is_its_id(request_id: Any, params: Any) -> None:
    text = dumps({"jsonrpc": "2.0", "id": request_id, "method": "m", "params": params})
    assert peek(text[:-1] + b"NaN") == Peek(request_id, False)
