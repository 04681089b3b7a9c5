"""Cancelling: handled in order in the reader, and the cancelled request is answered once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.protocol.conftest import Serve

    from fleetprompt_protocol.peer import CallContext


async def echo(_context: CallContext, params: dict[str, Any]) -> Any:
    return params


async def wait(_context: CallContext, _params: dict[str, Any]) -> None:
    await asyncio.Event().wait()


def cancel(request_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": request_id}}


async def test_a_cancelled_request_is_answered_as_cancelled(serve: Serve) -> None:
    async with serve({"wait": wait}) as (peer, wire):
        await wire.request(0, "wait")
        await wire.send(cancel(0))
        answer = await wire.receive()
        assert (answer["id"], answer["error"]["code"]) == (0, -32800)
        assert answer["error"]["data"]["code"] == "protocol.canceled"
        assert peer.in_flight == 0


async def test_a_cancel_that_comes_with_its_request_finds_it(serve: Serve) -> None:
    """Also before its task has begun: both stand in one chunk of bytes."""
    begun = []

    async def begin(_context: CallContext, _params: dict[str, Any]) -> None:
        begun.append(1)

    async with serve({"begin": begin, "echo": echo}) as (_, wire):
        await wire.write(
            b'{"jsonrpc":"2.0","id":1,"method":"begin"}\n'
            b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":1}}\n'
            b'{"jsonrpc":"2.0","id":2,"method":"echo"}\n'
        )
        answers = [await wire.receive(), await wire.receive()]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[0]["error"]["code"] == -32800
    assert begun == []


async def test_a_cancel_may_be_a_request(serve: Serve) -> None:
    async with serve({"wait": wait}) as (_, wire):
        await wire.request(1, "wait")
        await wire.request(2, "$/cancelRequest", id=1)
        answers = {answer["id"]: answer for answer in [await wire.receive(), await wire.receive()]}
        assert answers[1]["error"]["code"] == -32800
        assert answers[2]["result"] is None


@pytest.mark.parametrize("request_id", [1, "x", None, True, [], {}, 1.5, 2**70])
async def test_a_cancel_of_nothing_is_ignored_and_not_remembered(
    serve: Serve, request_id: Any
) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.send(cancel(request_id), {"jsonrpc": "2.0", "method": "$/cancelRequest"})
        await wire.request(1, "echo")
        assert (await wire.receive())["result"] == {}


async def test_a_handler_may_turn_the_cancel_into_its_result(serve: Serve) -> None:
    async def run(context: CallContext, _params: dict[str, Any]) -> Any:
        asked = asyncio.Event()
        context.on_cancel(asked.set)
        await asked.wait()
        await asyncio.sleep(0)
        return {"status": "canceled", "cancelled": context.cancelled}

    async with serve({"run": run, "echo": echo}) as (_, wire):
        await wire.request(1, "run")
        await wire.request(2, "echo")
        await wire.receive()  # the run has begun
        await wire.send(cancel(1), cancel(1), cancel(1))
        answer = await wire.receive()
        assert answer == {
            "jsonrpc": "2.0",
            "id": 1,
            "result": {"status": "canceled", "cancelled": True},
        }
        await wire.request(3, "echo")
        assert (await wire.receive())["id"] == 3


async def test_cleaning_up_happens_before_the_answer(serve: Serve) -> None:
    order = []

    async def tidy(_context: CallContext, _params: dict[str, Any]) -> None:
        try:
            order.append("begun")
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            order.append("tidied")

    async with serve({"tidy": tidy, "echo": echo}) as (_, wire):
        await wire.request(1, "tidy")
        await wire.request(2, "echo")
        await wire.receive()
        await wire.send(cancel(1))
        assert (await wire.receive())["error"]["code"] == -32800
        order.append("answered")
    assert order == ["begun", "tidied", "answered"]


async def test_a_cancel_after_the_answer_is_too_late(serve: Serve) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.request(1, "echo")
        assert "result" in await wire.receive()
        await wire.send(cancel(1))
        await wire.request(1, "echo")
        assert "result" in await wire.receive()


async def test_a_call_tells_whether_it_took_the_cancel(serve: Serve) -> None:
    contexts: list[CallContext] = []

    async def keep(context: CallContext, params: dict[str, Any]) -> Any:
        contexts.append(context)
        if params.get("wait"):
            await asyncio.Event().wait()

    async with serve({"keep": keep}) as (_, wire):
        await wire.request(1, "keep", wait=True)
        await wire.request(2, "keep")
        assert (await wire.receive())["id"] == 2
        assert [context.cancel() for context in contexts] == [True, False]
        assert contexts[0].cancel() is False
        assert (await wire.receive())["error"]["code"] == -32800


async def test_a_handler_that_cancels_itself_is_answered(serve: Serve) -> None:
    async def give_up(_context: CallContext, _params: dict[str, Any]) -> None:
        raise asyncio.CancelledError

    async with serve({"give_up": give_up, "echo": echo}) as (_, wire):
        await wire.request(1, "give_up")
        assert (await wire.receive())["error"]["code"] == -32800
        await wire.request(2, "echo")
        assert (await wire.receive())["id"] == 2


async def test_a_callback_that_comes_after_the_cancel_is_called_at_once(serve: Serve) -> None:
    called = []

    async def late(context: CallContext, _params: dict[str, Any]) -> Any:
        first = asyncio.Event()
        context.on_cancel(first.set)
        await first.wait()
        context.on_cancel(lambda: called.append("late"))
        return "canceled"

    async with serve({"late": late, "echo": echo}) as (_, wire):
        await wire.request(1, "late")
        await wire.request(2, "echo")
        await wire.receive()
        await wire.send(cancel(1))
        assert (await wire.receive())["result"] == "canceled"
    assert called == ["late"]
