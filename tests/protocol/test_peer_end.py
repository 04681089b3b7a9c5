"""The end of a peer: in order, bounded, with every call answered that can be."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt_protocol.memory import memory_pair
from fleetprompt_protocol.peer import Peer

if TYPE_CHECKING:
    from tests.protocol.conftest import Serve, Until

    from fleetprompt_protocol.peer import CallContext


async def echo(_context: CallContext, params: dict[str, Any]) -> Any:
    return params


async def test_what_was_asked_before_the_end_is_answered(serve: Serve) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.write(
            b'{"jsonrpc":"2.0","id":1,"method":"echo"}\n{"jsonrpc":"2.0","id":2,"method":"echo"}'
        )
        wire.transport.end_writing()
        assert [answer["id"] for answer in await wire.receive_all()] == [1, 2]
        assert await wire.ended() == "eof"


@pytest.mark.parametrize(
    "half",
    [
        b'{"jsonrpc":"2.0","id":1,"method":"ec',
        b'Content-Length: 100\r\n\r\n{"jsonrpc":"2.0","id":1,"method":"ec',
        b"Content-Le",
    ],
)
async def test_half_a_message_at_the_end_is_answered(serve: Serve, half: bytes) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.write(half)
        wire.transport.end_writing()
        (answer,) = await wire.receive_all()
        assert answer["error"]["code"] == -32700
        assert await wire.ended() == "eof"


async def test_a_stream_without_any_byte_just_ends(serve: Serve) -> None:
    async with serve({"echo": echo}) as (_, wire):
        wire.transport.end_writing()
        assert await wire.receive_all() == []
        assert await wire.ended() == "eof"


async def test_headers_that_cannot_be_understood_end_the_peer_after_an_answer(
    serve: Serve,
) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.write(b"Content-Length: none\r\n\r\n")
        (answer,) = await wire.receive_all()
        assert answer["error"]["code"] == -32700
        assert await wire.ended() == "error"


async def test_runs_are_told_of_the_end_and_may_still_answer(serve: Serve) -> None:
    stop = asyncio.Event()

    async def run(_context: CallContext, _params: dict[str, Any]) -> Any:
        await stop.wait()
        return "interrupted"

    async with serve({"run": run}, on_eof=stop.set, drain_s=30) as (_, wire):
        await wire.request(1, "run")
        wire.transport.end_writing()
        assert [answer["result"] for answer in await wire.receive_all()] == ["interrupted"]
        assert await wire.ended() == "eof"


async def test_a_handler_that_does_not_end_is_cancelled_and_answered(serve: Serve) -> None:
    async def wait(_context: CallContext, _params: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    async with serve({"wait": wait}, drain_s=0.05, max_in_flight=2) as (_, wire):
        for number in range(4):
            await wire.request(number, "wait")
        wire.transport.end_writing()
        answers = await wire.receive_all()
        assert sorted(answer["id"] for answer in answers) == [0, 1, 2, 3]
        assert {answer["error"]["code"] for answer in answers} == {-32800}


async def test_a_handler_that_will_not_end_cannot_keep_the_peer(serve: Serve) -> None:
    release = asyncio.Event()

    async def stubborn(_context: CallContext, _params: dict[str, Any]) -> Any:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    async with serve({"stubborn": stubborn}, drain_s=0.05) as (_, wire):
        await wire.request(1, "stubborn")
        wire.transport.end_writing()
        assert await wire.receive_all() == []
        assert await wire.ended() == "eof"
        release.set()


async def test_our_requests_fail_at_once_when_the_stream_ends(serve: Serve) -> None:
    """So that a handler that waits for one does not use up the time for ending."""

    async def ask_back(context: CallContext, _params: dict[str, Any]) -> Any:
        return await context.peer.request("question")

    async with serve({"ask_back": ask_back}, drain_s=30) as (_, wire):
        await wire.request(1, "ask_back")
        assert (await wire.receive())["method"] == "question"
        wire.transport.end_writing()
        (answer,) = await wire.receive_all()
        assert answer["error"]["data"]["code"] == "protocol.closed"


async def test_no_request_is_sent_that_could_not_be_answered(serve: Serve) -> None:
    told = asyncio.Event()

    async def ask_late(context: CallContext, _params: dict[str, Any]) -> Any:
        await told.wait()
        return await context.peer.request("question")

    async with serve({"ask_late": ask_late}, on_eof=told.set, drain_s=30) as (_, wire):
        await wire.request(1, "ask_late")
        wire.transport.end_writing()
        (answer,) = await wire.receive_all()
        assert answer["error"]["data"]["code"] == "protocol.closed"


async def test_closing_writes_what_is_queued(serve: Serve) -> None:
    async with serve(capacity_bytes=50, drain_s=30) as (peer, wire):
        for number in range(100):
            peer.notify("note", {"n": number})
        closing = asyncio.create_task(peer.close())
        messages = await wire.receive_all()
        assert [message["params"]["n"] for message in messages] == list(range(100))
        await closing
        assert await wire.ended() == "closed"


async def test_a_handler_may_close_its_peer_and_is_answered(serve: Serve) -> None:
    async def leave(context: CallContext, _params: dict[str, Any]) -> Any:
        await context.peer.close()
        return "bye"

    async with serve({"leave": leave}) as (_, wire):
        await wire.request(1, "leave")
        answers = await wire.receive_all()
        assert len(answers) == 1
        assert answers[0]["id"] == 1
        assert await wire.ended() == "closed"


async def test_closing_before_running_ends_at_once() -> None:
    ours, _theirs = memory_pair()
    peer = Peer(ours, {})
    await peer.close()
    assert peer.is_ended
    async with asyncio.timeout(30):
        assert await peer.run() in {"closed", "eof"}
    await peer.close()


async def test_cancelling_run_stops_handlers_and_closes(until: Until) -> None:
    begun, stopped = [], []

    async def wait(_context: CallContext, _params: dict[str, Any]) -> Any:
        begun.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(1)

    ours, theirs = memory_pair()
    peer = Peer(ours, {"wait": wait})
    run = asyncio.create_task(peer.run())
    await theirs.write(memoryview(b'{"jsonrpc":"2.0","id":1,"method":"wait"}\n'), 1)
    await until(lambda: begun == [1])
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    assert stopped == [1]
    assert await theirs.read() == b""


async def test_bytes_that_were_read_before_come_first(serve: Serve) -> None:
    received = b'\n{"jsonrpc":"2.0","id":1,"method":"echo"}\n{"jsonrpc":"2.0","id":2,"met'
    async with serve({"echo": echo}, received=received) as (_, wire):
        await wire.write(b'hod":"echo"}\n')
        assert [(await wire.receive())["id"] for _ in range(2)] == [1, 2]
