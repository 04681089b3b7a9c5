"""The contract of a transport: the one in memory and the real ones keep the same."""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeAlias

import pytest

from fleetprompt_protocol.memory import memory_pair
from fleetprompt_protocol.stdio import ChildPipes, StdioTransport
from fleetprompt_protocol.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

Pair: TypeAlias = tuple[Transport, Transport]


def of_pipes(**options: bool) -> Pair:
    our_in, their_out = os.pipe()
    their_in, our_out = os.pipe()
    ours = StdioTransport(our_in, our_out, **options)
    return ours, StdioTransport(their_in, their_out, **options)


def of_child_pipes() -> Pair:
    pipes = ChildPipes()
    ours, theirs = os.dup(pipes.child_stdin), os.dup(pipes.child_stdout)
    pipes.close_child_ends()
    pipes.close_child_ends()
    return pipes.transport, StdioTransport(ours, theirs)


def of_sockets() -> Pair:
    left, right = socket.socketpair()
    pairs = [(os.dup(end.fileno()), end.detach()) for end in (left, right)]
    return StdioTransport(*pairs[0]), StdioTransport(*pairs[1])


PAIRS: dict[str, Callable[[], Pair]] = {
    "memory": memory_pair,
    "shared pipes": of_pipes,
    "private pipes": lambda: of_pipes(is_private=True),
    "threads": lambda: of_pipes(use_thread=True),
    "child": of_child_pipes,
    "sockets": of_sockets,
}


@contextmanager
def connected(kind: str) -> Iterator[Pair]:
    ours, theirs = PAIRS[kind]()
    try:
        yield ours, theirs
    finally:
        ours.close()
        theirs.close()
        ours.close()


async def write_all(transport: Transport, data: bytes, timeout_s: float = 30) -> None:
    view = memoryview(data)
    while view:
        taken = await transport.write(view, timeout_s)
        assert 0 < taken <= len(view)
        view = view[taken:]


async def read_all(transport: Transport) -> bytes:
    parts = []
    while data := await transport.read():
        parts.append(data)
    return b"".join(parts)


@pytest.mark.parametrize("kind", PAIRS)
async def test_bytes_arrive_in_order_both_ways_at_once(kind: str) -> None:
    there, back = os.urandom(500_000), os.urandom(300_000)

    async def send(transport: Transport, data: bytes, received: list[bytes], count: int) -> None:
        async def listen() -> None:
            while sum(map(len, received)) < count:
                received.append(await transport.read())

        async with asyncio.timeout(30):
            await asyncio.gather(write_all(transport, data), listen())

    with connected(kind) as (ours, theirs):
        got_here: list[bytes] = []
        got_there: list[bytes] = []
        await asyncio.gather(
            send(ours, there, got_here, len(back)), send(theirs, back, got_there, len(there))
        )
    assert b"".join(got_there) == there
    assert b"".join(got_here) == back


@pytest.mark.parametrize("kind", PAIRS)
async def test_what_was_written_before_the_end_is_read(kind: str) -> None:
    with connected(kind) as (ours, theirs):
        await write_all(ours, b"last words")
        ours.close()
        async with asyncio.timeout(30):
            assert await read_all(theirs) == b"last words"
            assert await theirs.read() == b""


@pytest.mark.parametrize("kind", PAIRS)
async def test_writing_to_nobody_is_an_os_error(kind: str) -> None:
    with connected(kind) as (ours, theirs):
        theirs.close()
        with pytest.raises(OSError):  # noqa: PT011 — the number differs by kind
            await write_all(ours, b"x" * 10_000_000)


@pytest.mark.parametrize("kind", PAIRS)
async def test_no_byte_taken_in_time_is_a_timeout(kind: str) -> None:
    with connected(kind) as (ours, theirs):
        with pytest.raises(TimeoutError):
            await write_all(ours, b"x" * 10_000_000, 0.05)
        async with asyncio.timeout(30):
            assert await theirs.read()


@pytest.mark.parametrize("kind", PAIRS)
async def test_closing_ends_a_pending_read_and_refuses_writes(kind: str) -> None:
    with connected(kind) as (ours, _):
        reading = asyncio.create_task(ours.read())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        ours.close()
        async with asyncio.timeout(30):
            assert await reading == b""
            assert await ours.read() == b""
            with pytest.raises(OSError):  # noqa: PT011 — the number differs by kind
                await ours.write(memoryview(b"x"), 1)
        assert ours.write_now(b"x") == 0


@pytest.mark.parametrize("kind", PAIRS)
async def test_writing_at_once_takes_what_it_says_and_never_waits(kind: str) -> None:
    with connected(kind) as (ours, theirs):
        taken = [ours.write_now(b"x" * 50_000) for _ in range(100)]
        assert taken[-1] == 0
        writing = asyncio.create_task(write_all(ours, b"end"))
        got = b""
        async with asyncio.timeout(30):
            while not got.endswith(b"end"):
                got += await theirs.read()
            await writing
        assert got == b"x" * sum(taken) + b"end"


async def test_a_shared_descriptor_keeps_its_mode() -> None:
    """Another process may share it, and would find its own reads and writes failing."""
    for left, right in (os.pipe(), [end.detach() for end in socket.socketpair()]):
        shared = [os.dup(left), os.dup(right)]
        ours = StdioTransport(left, right)
        await write_all(ours, b"x")
        for fd in shared:
            assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
            os.close(fd)
        ours.close()


async def test_regular_files_serve_as_both_ends(tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"x" * 200_000)
    in_fd = os.open(source, os.O_RDONLY)
    out_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.lseek(in_fd, 100, os.SEEK_SET)
    transport = StdioTransport(in_fd, out_fd)
    data = await read_all(transport)
    assert len(data) == 200_000 - 100
    await write_all(transport, data)
    transport.close()
    assert target.read_bytes() == data
    assert await transport.read() == b""


async def test_the_null_device_is_an_empty_stream() -> None:
    transport = StdioTransport(os.open(os.devnull, os.O_RDONLY), os.open(os.devnull, os.O_WRONLY))
    assert await transport.read() == b""
    await write_all(transport, b"x" * 100_000)
    transport.close()


async def test_a_terminal_works_and_keeps_its_mode() -> None:
    ours, theirs = os.openpty()
    shared = os.dup(theirs)
    transport = StdioTransport(theirs, os.dup(theirs))
    reading = asyncio.create_task(transport.read())
    os.write(ours, b"hello\n")
    async with asyncio.timeout(30):
        assert await reading == b"hello\n"
        await write_all(transport, b"answer\n")
    shown = b""
    while b"answer" not in shown:
        shown += os.read(ours, 100)
    assert not fcntl.fcntl(shared, fcntl.F_GETFL) & os.O_NONBLOCK
    transport.close()
    os.close(shared)
    os.close(ours)
