"""Requests and notifications of ours: futures, order, errors that come back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt_protocol.errors import (
    FleetPromptError,
    InternalError,
    JournalError,
    ProtocolError,
    RequestError,
    WorkflowError,
)
from fleetprompt_protocol.memory import memory_pair
from fleetprompt_protocol.peer import Peer, Sequence

if TYPE_CHECKING:
    from tests.protocol.conftest import Serve

    from fleetprompt_protocol.peer import CallContext


async def test_answers_find_their_requests_in_any_order(serve: Serve) -> None:
    async with serve() as (peer, wire):
        calls = [asyncio.create_task(peer.request("ask", {"n": n})) for n in range(3)]
        asked = [await wire.receive() for _ in range(3)]
        assert [message["params"]["n"] for message in asked] == [0, 1, 2]
        for message in reversed(asked):
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": message["params"]["n"] * 10}
            await wire.send(answer)
        assert await asyncio.gather(*calls) == [0, 10, 20]
        assert peer.pending == 0


async def test_both_directions_have_ids_of_their_own(serve: Serve) -> None:
    async def ask_back(context: CallContext, params: dict[str, Any]) -> Any:
        return await context.peer.request("question", params)

    async with serve({"ask_back": ask_back}) as (_, wire):
        await wire.request(1, "ask_back", n=5)
        question = await wire.receive()
        assert question["id"] == 1
        assert question["params"] == {"n": 5}
        await wire.send({"jsonrpc": "2.0", "id": 1, "result": "yes", "error": None})
        assert await wire.receive() == {"jsonrpc": "2.0", "id": 1, "result": "yes"}


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": -32000, "message": "m", "data": {"code": "run.not_found"}}, RequestError, None),
        ({"code": -32000, "message": "m", "data": {"code": "journal.busy"}}, JournalError, None),
        ({"code": 1, "message": "m", "data": {"code": "workflow.invalid"}}, WorkflowError, None),
        ({"code": -32601, "message": "m"}, ProtocolError, "protocol.method_not_found"),
        ({"code": -32800, "message": "m"}, ProtocolError, "protocol.canceled"),
        ({"code": -32603, "message": "m"}, ProtocolError, "protocol.peer_error"),
        (
            {"code": -32603, "message": "m", "data": {"code": "protocol.internal"}},
            InternalError,
            None,
        ),
        ({"code": 5, "message": "m", "data": {"code": "no.such"}}, ProtocolError, None),
        ({"code": True, "message": 5, "data": "x"}, ProtocolError, "protocol.peer_error"),
        ("boom", ProtocolError, "protocol.peer_error"),
        ([], ProtocolError, "protocol.peer_error"),
        (0, ProtocolError, "protocol.peer_error"),
    ],
)
async def test_an_error_comes_back_as_its_exception(
    serve: Serve, error: Any, kind: type[FleetPromptError], code: str | None
) -> None:
    async with serve() as (peer, wire):
        call = asyncio.create_task(peer.request("ask"))
        message = await wire.receive()
        await wire.send({"jsonrpc": "2.0", "id": message["id"], "error": error})
        with pytest.raises(FleetPromptError) as caught:
            await call
    assert type(caught.value) is kind
    if code is not None:
        assert caught.value.code == code


async def test_a_peer_that_answers_twice_is_heard_once(serve: Serve) -> None:
    async with serve() as (peer, wire):
        call = asyncio.create_task(peer.request("ask"))
        message = await wire.receive()
        for result in (1, 2):
            await wire.send({"jsonrpc": "2.0", "id": message["id"], "result": result})
        assert await call == 1


async def test_an_id_may_come_back_as_a_float(serve: Serve) -> None:
    async with serve() as (peer, wire):
        call = asyncio.create_task(peer.request("ask"))
        await wire.receive()
        await wire.write(b'{"jsonrpc":"2.0","id":1.0,"result":"ok"}\n')
        assert await call == "ok"


async def test_no_answer_in_time_is_an_error_and_cancels(serve: Serve) -> None:
    async with serve() as (peer, wire):
        with pytest.raises(ProtocolError) as caught:
            await peer.request("ask", timeout_s=0)
        assert caught.value.code == "protocol.timeout"
        asked, cancel = await wire.receive(), await wire.receive()
        assert cancel["method"] == "$/cancelRequest"
        assert cancel["params"] == {"id": asked["id"]}
        await wire.send({"jsonrpc": "2.0", "id": asked["id"], "result": "late"})
        call = asyncio.create_task(peer.request("again"))
        again = await wire.receive()
        await wire.send({"jsonrpc": "2.0", "id": again["id"], "result": "ok"})
        assert await call == "ok"


async def test_giving_up_cancels_unless_told_not_to(serve: Serve) -> None:
    async with serve() as (peer, wire):
        for send_cancel in (True, False):
            call = asyncio.create_task(peer.request("ask", send_cancel=send_cancel))
            await wire.receive()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert peer.pending == 0
            if send_cancel:
                assert (await wire.receive())["method"] == "$/cancelRequest"
        peer.notify("after")
        assert (await wire.receive())["method"] == "after"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * 2000 + b'"}\n', "protocol.frame_too_large"),
        (b'{"result":"' + b"x" * 20_000 + b'","id":1}\n', "protocol.frame_too_large"),
        (b'{"jsonrpc":"2.0","id":1,"result":NaN}\n', "protocol.parse_error"),
        (b'{"jsonrpc":"2.0","result":"\xff","id":1}\n', "protocol.parse_error"),
        (b'{"id":1,"result":' + b"[" * 80 + b"]" * 80 + b"}\n", "protocol.too_deep"),
    ],
)
async def test_an_answer_that_cannot_be_read_fails_its_request(
    serve: Serve, text: bytes, code: str
) -> None:
    async with serve(max_frame_bytes=1000) as (peer, wire):
        call = asyncio.create_task(peer.request("ask"))
        await wire.receive()
        await wire.write(text)
        with pytest.raises(ProtocolError) as caught:
            await call
        assert caught.value.code == code
        peer.notify("after")
        assert (await wire.receive())["method"] == "after"


async def test_what_cannot_be_sent_fails_here(serve: Serve) -> None:
    async with serve() as (peer, wire):
        peer.max_send_bytes = 300
        with pytest.raises(ProtocolError) as caught:
            await peer.request("ask", {"text": "x" * 400})
        assert caught.value.code == "protocol.frame_too_large"
        with pytest.raises(InternalError):
            await peer.request("ask", {"value": object()})
        assert peer.notify("note", {"text": "x" * 400}) is False
        assert peer.notify("note", {"value": object()}, sequence=Sequence()) is False
        assert peer.pending == 0
        assert peer.notify("after") is True
        assert (await wire.receive())["method"] == "after"


async def test_after_the_end_nothing_is_sent_and_every_request_fails(serve: Serve) -> None:
    async with serve() as (peer, wire):
        call = asyncio.create_task(peer.request("ask"))
        await wire.receive()
        wire.transport.close()
        assert await wire.ended() == "eof"
        for failing in (call, peer.request("ask")):
            with pytest.raises(ProtocolError) as caught:
                await failing
            assert caught.value.code == "protocol.closed"
        assert peer.notify("note") is False
        await peer.writable()


async def test_numbers_have_no_gaps_whatever_is_coalesced(serve: Serve) -> None:
    async with serve(capacity_bytes=100) as (peer, wire):
        sequence = Sequence()
        for number in range(50):
            peer.notify("chunk", {"n": number}, coalesce_key="progress", sequence=sequence)
            if number % 10 == 0:
                peer.notify("chunk", {"step": number}, sequence=sequence)
        peer.notify("chunk", sequence=sequence)
        chunks: list[dict[str, Any]] = []
        while not chunks or set(chunks[-1]) != {"seq"}:
            chunks.append((await wire.receive())["params"])
    assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert [chunk["step"] for chunk in chunks if "step" in chunk] == [0, 10, 20, 30, 40]
    progress = [chunk["n"] for chunk in chunks if "n" in chunk]
    assert progress == sorted(progress)
    assert progress[-1] == 49
    assert len(progress) < 10
    assert "n" in chunks[-2]


async def test_a_call_streams_before_its_result_and_not_after(serve: Serve) -> None:
    contexts: list[CallContext] = []

    async def run(context: CallContext, _params: dict[str, Any]) -> Any:
        contexts.append(context)
        for number in range(5):
            context.notify("chunk", {"n": number}, numbered=True)
        return "done"

    async with serve({"run": run}) as (peer, wire):
        await wire.request(1, "run")
        messages = [await wire.receive() for _ in range(6)]
        assert [m["params"]["seq"] for m in messages[:5]] == [1, 2, 3, 4, 5]
        assert messages[5]["result"] == "done"
        assert contexts[0].is_answered
        assert contexts[0].notify("chunk", {}, numbered=True) is False
        peer.notify("after")
        assert (await wire.receive())["method"] == "after"


async def test_two_peers_that_call_each_other_do_not_stop_each_other() -> None:
    """One side's places are all taken by calls that wait for the other, which sends ever more."""

    async def ask_back(context: CallContext, params: dict[str, Any]) -> Any:
        return await context.peer.request("answer", params)

    async def answer(_context: CallContext, params: dict[str, Any]) -> Any:
        return params

    ours, theirs = memory_pair(4096)
    agent = Peer(ours, {"ask_back": ask_back}, max_in_flight=4, mark_bytes=4096)
    host = Peer(theirs, {"answer": answer}, max_in_flight=4, mark_bytes=4096)
    runs = [asyncio.create_task(peer.run()) for peer in (agent, host)]
    async with asyncio.timeout(30):
        calls = [host.request("ask_back", {"n": n, "text": "x" * 2000}) for n in range(100)]
        results = await asyncio.gather(*calls)
        assert [result["n"] for result in results] == list(range(100))
        await host.close()
        assert await asyncio.gather(*runs) == ["eof", "closed"]
