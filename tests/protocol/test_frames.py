"""Frames: whatever the chunking, the same messages; whatever the bytes, bounded memory."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_protocol.frames import (
    MAX_DECLARED_BYTES,
    FrameDecoder,
    FrameFault,
    Framing,
    encode_frame,
)

LIMIT = 64

frames = st.binary(max_size=100).map(lambda data: data.replace(b"\n", b" "))
streams = st.one_of(
    st.lists(frames).map(b"\n".join),
    st.lists(frames).map(lambda texts: b"".join(encode_frame(t, "content-length") for t in texts)),
    st.lists(
        st.sampled_from(
            [b"\n", b"\r\n", b" ", b"\xef\xbb\xbf", b"\xef", b"{}", b"[1]", b"C", b"-", b"Type: a"],
        )
        | st.sampled_from(
            [b"Content-Length", b": ", b"2", b"70", b"\r\n\r\n", b"\n\n", b"x" * 63, b"0" * 9],
        )
    ).map(b"".join),
    st.binary(),
)


def decoded(data: bytes, sizes: list[int], framing: str = "auto") -> list[bytes | FrameFault]:
    decoder = FrameDecoder(framing, LIMIT)  # type: ignore[arg-type]  # drawn by a strategy
    found: list[bytes | FrameFault] = []
    while data:
        size = sizes.pop() if sizes else len(data)
        found += decoder.feed(data[:size])
        data = data[size:]
    return found + decoder.finish()


@settings(max_examples=300)
@given(
    streams,
    st.lists(st.integers(1, 9)),
    st.sampled_from(["auto", "newline", "content-length"]),
)
def test_any_chunking_gives_the_same_messages(data: bytes, sizes: list[int], framing: str) -> None:
    whole = decoded(data, [], framing)
    assert decoded(data, sizes, framing) == whole
    assert decoded(data, [1] * len(data), framing) == whole


@settings(max_examples=100)
@given(
    st.lists(st.text().map(lambda text: repr(text).encode()), min_size=1),
    st.sampled_from(["newline", "content-length"]),
    st.sampled_from([b"", b"\xef\xbb\xbf", b"\r\n \t\n", b"\n\xef\xbb\xbf\n"]),
)
def test_what_was_framed_is_found(texts: list[bytes], framing: Framing, before: bytes) -> None:
    decoder = FrameDecoder("auto")
    stream = before + b"".join(encode_frame(text, framing) for text in texts)
    assert decoder.feed(stream) + decoder.finish() == texts
    if texts[0][:1] not in b"Cc":
        assert decoder.framing == framing


@pytest.mark.parametrize("framing", ["newline", "content-length"])
def test_a_gibibyte_is_never_held(framing: Framing) -> None:
    decoder = FrameDecoder(framing, max_frame_bytes=1 << 20)
    chunk = b'{"jsonrpc":"2.0","id":7,"method":"' + b"x" * ((1 << 16) - 34)
    most = 0
    size = (1 << 30) if framing == "newline" else MAX_DECLARED_BYTES
    if framing == "content-length":
        decoder.feed(b"Content-Length: %d\r\n\r\n" % size)
    chunks = (size - 1) // len(chunk)
    for _ in range(chunks):
        assert decoder.feed(chunk) == []
        most = max(most, decoder.held_bytes)
    rest = size - chunks * len(chunk)
    found = decoder.feed(b"x" * rest + b"\n{}\n" if framing == "newline" else b"x" * rest)
    assert most <= 1 << 20
    fault = found[0]
    assert isinstance(fault, FrameFault)
    assert fault.code == "protocol.frame_too_large"
    assert not fault.is_fatal
    assert fault.head.startswith(b'{"jsonrpc":"2.0","id":7')
    assert len(fault.head) <= 4096
    assert len(fault.tail) <= 4096
    if framing == "newline":
        assert found[1:] == [b"{}"]


def test_the_longest_message_is_taken_and_one_byte_more_is_not() -> None:
    for framing in ("newline", "content-length"):
        decoder = FrameDecoder("auto", LIMIT)
        stream = encode_frame(b"x" * LIMIT, framing) + encode_frame(b"y" * (LIMIT + 1), framing)
        first, second = decoder.feed(stream)
        assert first == b"x" * LIMIT
        assert isinstance(second, FrameFault)


def test_an_announcement_beyond_reason_ends_the_stream() -> None:
    decoder = FrameDecoder("content-length")
    (fault,) = decoder.feed(b"Content-Length: %d\r\n\r\n{}" % (MAX_DECLARED_BYTES + 1))
    assert isinstance(fault, FrameFault)
    assert fault.is_fatal
    assert fault.code == "protocol.frame_too_large"
    assert decoder.feed(b"Content-Length: 2\r\n\r\n{}") == []
    assert decoder.finish() == []


@pytest.mark.parametrize(
    "headers",
    [
        b"Content-Length: -1\r\n\r\n",
        b"Content-Length: 1_0\r\n\r\n",
        b"Content-Length: 0x2\r\n\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n",
        b"Content-Type: application/json\r\n\r\n",
        b"Content-Length 2\r\n\r\n",
        b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        b"Content-Length: 2\r\nX: " + b"a" * 8200 + b"\r\n\r\n",
        b"C" * 9000,
    ],
)
def test_headers_that_cannot_be_understood_end_the_stream(headers: bytes) -> None:
    found = FrameDecoder("auto").feed(headers + b"{}")
    assert [isinstance(fault, FrameFault) and fault.is_fatal for fault in found] == [True]


def test_other_headers_and_any_case_are_taken() -> None:
    decoder = FrameDecoder("auto")
    headers = (
        b"content-type: application/vscode-jsonrpc; charset=utf-8\r\nCONTENT-LENGTH:  2 \r\n\r\n"
    )
    assert decoder.feed(headers + b"{}") == [b"{}"]


def test_half_a_message_at_the_end_is_told() -> None:
    decoder = FrameDecoder("auto")
    assert decoder.feed(b'Content-Length: 20\r\n\r\n{"id":1') == []
    (fault,) = decoder.finish()
    assert isinstance(fault, FrameFault)
    assert fault.head == b'{"id":1'
    assert FrameDecoder("auto").feed(b"{}") == []


def test_a_last_line_without_newline_is_a_message() -> None:
    decoder = FrameDecoder("auto")
    assert decoder.feed(b'{"id":1}\n{"id":2}') == [b'{"id":1}']
    assert decoder.finish() == [b'{"id":2}']


def test_many_short_lines_in_random_chunks() -> None:
    choose = random.Random(7)
    lines = [b"%d" % number for number in range(5000)]
    data = b"\n".join(lines)
    sizes = [choose.randrange(1, 3000) for _ in range(2000)]
    assert decoded(data, sizes, "newline") == lines
