"""Batches: every member is answered on its own."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.protocol.conftest import Serve

    from fleetprompt_protocol.peer import CallContext


async def echo(_context: CallContext, params: dict[str, Any]) -> Any:
    return params


def call(request_id: Any, method: str = "echo", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}


async def test_one_bad_member_fails_alone(serve: Serve) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.send(
            [
                call(1, n=1),
                5,
                {"jsonrpc": "2.0", "method": "note"},
                call(2, "no.such"),
                {"jsonrpc": "2.0", "id": 99, "result": 1},
                {"id": 3, "method": "echo"},
                call(True),
                call(1, n=2),
                call("x", n=3),
            ]
        )
        answers = await wire.receive()
    found = [(str(a["id"]), a.get("result") or a["error"]["code"]) for a in answers]
    assert sorted(item[0] for item in found) == ["1", "1", "2", "3", "None", "None", "x"]
    assert ("1", {"n": 1}) in found
    assert ("1", -32600) in found
    assert ("2", -32601) in found
    assert ("3", -32600) in found
    assert ("x", {"n": 3}) in found


@pytest.mark.parametrize("members", [0, 257])
async def test_an_empty_or_immense_batch_gets_one_error(serve: Serve, members: int) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.send([call(number) for number in range(members)])
        answer = await wire.receive()
        assert (answer["id"], answer["error"]["code"]) == (None, -32600)


async def test_a_batch_without_requests_is_not_answered(serve: Serve) -> None:
    async with serve({"echo": echo}) as (_, wire):
        await wire.send(
            [{"jsonrpc": "2.0", "method": "x"}, {"jsonrpc": "2.0", "id": 1, "result": 1}]
        )
        await wire.request("next", "echo")
        assert (await wire.receive())["id"] == "next"


async def test_a_batch_larger_than_what_may_be_in_flight_is_answered(serve: Serve) -> None:
    """Also while other calls that never end take places."""
    forever = asyncio.Event()

    async def wait(_context: CallContext, _params: dict[str, Any]) -> None:
        await forever.wait()

    async with serve({"echo": echo, "wait": wait}, max_in_flight=4) as (peer, wire):
        for number in range(3):
            await wire.request(f"wait{number}", "wait")
        await wire.send([call(number) for number in range(100)])
        answers = await wire.receive()
        assert sorted(answer["id"] for answer in answers) == list(range(100))
        assert peer.in_flight == 3


async def test_a_member_can_be_cancelled(serve: Serve) -> None:
    async def wait(_context: CallContext, _params: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    async with serve({"echo": echo, "wait": wait}) as (_, wire):
        await wire.send([call(1, "wait"), call(2)])
        await wire.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 1}})
        answers = {answer["id"]: answer for answer in await wire.receive()}
        assert answers[1]["error"]["code"] == -32800
        assert answers[2]["result"] == {}


async def test_answers_that_are_too_long_together_come_in_several_lists(serve: Serve) -> None:
    async with serve({"echo": echo}) as (peer, wire):
        peer.max_send_bytes = 1000
        await wire.send([call(number, text="x" * 300) for number in range(10)])
        seen: list[int] = []
        while len(seen) < 10:
            answers = await wire.receive()
            assert len(json.dumps(answers, separators=(",", ":"))) <= 1000
            assert all("result" in answer for answer in answers)
            seen += [answer["id"] for answer in answers]
        assert sorted(seen) == list(range(10))
        assert peer.in_flight == 0
