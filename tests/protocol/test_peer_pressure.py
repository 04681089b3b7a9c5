"""Pressure: nothing grows without bound, nothing is refused or lost, order is kept."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt_protocol.inbound import MAX_PARKED
from fleetprompt_protocol.memory import memory_pair
from fleetprompt_protocol.peer import Peer

if TYPE_CHECKING:
    from tests.protocol.conftest import Serve, Until

    from fleetprompt_protocol.peer import CallContext


async def echo(_context: CallContext, params: dict[str, Any]) -> Any:
    return params


async def settle(rounds: int = 200) -> None:
    """Lets everything run that can run without an event from outside."""
    for _ in range(rounds):
        await asyncio.sleep(0)


async def test_requests_beyond_the_limit_wait_their_turn_in_order(serve: Serve) -> None:
    begun: list[int] = []
    release = asyncio.Semaphore(0)

    async def wait(_context: CallContext, params: dict[str, Any]) -> Any:
        begun.append(params["n"])
        await release.acquire()
        return params["n"]

    async with serve({"wait": wait}, max_in_flight=4, inline={"ping": lambda _: "pong"}) as (
        peer,
        wire,
    ):
        for number in range(10):
            await wire.request(number, "wait", n=number)
        await wire.request("ping", "ping")
        assert (await wire.receive())["result"] == "pong"
        await settle()
        assert begun == [0, 1, 2, 3]
        assert peer.in_flight == 10
        await wire.send({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": 5}})
        answer = await wire.receive()
        assert (answer["id"], answer["error"]["code"]) == (5, -32800)
        for _ in range(10):
            release.release()
        answers = [await wire.receive() for _ in range(9)]
        assert [answer["result"] for answer in answers] == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert begun == [0, 1, 2, 3, 4, 6, 7, 8, 9]
        assert peer.in_flight == 0


async def test_reading_stops_when_too_many_wait_and_goes_on_afterwards(
    serve: Serve, until: Until
) -> None:
    release = asyncio.Event()

    async def wait(_context: CallContext, _params: dict[str, Any]) -> Any:
        await release.wait()

    count = MAX_PARKED * 2
    async with serve({"wait": wait}, max_in_flight=4, capacity_bytes=4096) as (peer, wire):

        async def flood() -> None:
            for number in range(count):
                await wire.request(number, "wait")

        flooding = asyncio.create_task(flood())
        await until(lambda: peer.in_flight >= MAX_PARKED)
        await settle()
        assert peer.in_flight <= MAX_PARKED + 4
        assert not flooding.done()
        release.set()
        answered = {(await wire.receive())["id"] for _ in range(count)}
        assert answered == set(range(count))
        await flooding


async def test_long_requests_stop_reading_by_their_bytes(serve: Serve, until: Until) -> None:
    release = asyncio.Event()

    async def wait(_context: CallContext, _params: dict[str, Any]) -> Any:
        await release.wait()

    async with serve({"wait": wait}, max_in_flight=1) as (peer, wire):

        async def flood() -> None:
            for number in range(20):
                await wire.request(number, "wait", text="x" * 1_000_000)

        flooding = asyncio.create_task(flood())
        await until(lambda: peer.in_flight >= 6)
        await settle()
        assert peer.in_flight <= 7
        release.set()
        assert {(await wire.receive())["id"] for _ in range(20)} == set(range(20))
        await flooding


async def test_a_side_that_does_not_read_does_not_grow_our_memory(serve: Serve) -> None:
    """It sends requests, quick and inline, and reads no answer."""

    async def much(_context: CallContext, _params: dict[str, Any]) -> Any:
        return "x" * 10_000

    inline = {"ping": lambda _params: "y" * 10_000}
    options = {"inline": inline, "mark_bytes": 100_000, "max_in_flight": 8}
    async with serve({"much": much}, capacity_bytes=10_000, **options) as (peer, wire):

        async def flood() -> None:
            for number in range(2000):
                await wire.request(number, "ping" if number % 2 else "much")

        flooding = asyncio.create_task(flood())
        tracemalloc.start()
        try:
            await settle(5000)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert not flooding.done()
        assert peer.queued_bytes <= 8 * 100_000 + 10 * 10_100
        assert peak < 8_000_000
        answered = {(await wire.receive())["id"] for _ in range(2000)}
        assert answered == set(range(2000))
        await flooding


async def test_a_producer_that_waits_for_room_keeps_the_queue_short(serve: Serve) -> None:
    most = 0

    async def run(context: CallContext, params: dict[str, Any]) -> Any:
        nonlocal most
        for number in range(params["chunks"]):
            await context.peer.writable()
            context.notify("chunk", {"n": number, "text": "x" * 1000}, numbered=True)
            most = max(most, context.peer.queued_bytes)
        return "done"

    async with serve({"run": run}, mark_bytes=10_000, capacity_bytes=2000) as (_, wire):
        for call in range(3):
            await wire.request(call, "run", chunks=100)
        results = 0
        while results < 3:
            results += "result" in await wire.receive()
    assert most <= 12_000


async def test_progress_is_coalesced_and_transitions_are_kept(serve: Serve) -> None:
    async def run(context: CallContext, _params: dict[str, Any]) -> Any:
        for number in range(1000):
            context.notify("progress", {"n": number}, coalesce_key="1/step", numbered=True)
            if number % 100 == 0:
                context.notify("transition", {"n": number}, numbered=True)
        return "done"

    async with serve({"run": run}, capacity_bytes=500) as (_, wire):
        await wire.request(1, "run")
        messages: list[dict[str, Any]] = []
        while not messages or "result" not in messages[-1]:
            messages.append(await wire.receive())
    transitions = [m["params"]["n"] for m in messages[:-1] if m["method"] == "transition"]
    assert transitions == list(range(0, 1000, 100))
    assert [m["params"]["seq"] for m in messages[:-1]] == list(range(1, len(messages)))
    assert len(messages) < 40
    assert messages[-2]["params"]["n"] == 999


async def test_a_side_that_takes_no_byte_is_gone(until: Until) -> None:
    ours, theirs = memory_pair(1000)
    stopped = []

    async def wait(_context: CallContext, _params: dict[str, Any]) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(1)

    peer = Peer(ours, {"wait": wait}, stall_s=0.05)
    run = asyncio.create_task(peer.run())
    await theirs.write(memoryview(b'{"jsonrpc":"2.0","id":1,"method":"wait"}\n'), 1)
    await until(lambda: peer.in_flight == 1)
    await settle()
    peer.notify("note", {"text": "x" * 5000})
    async with asyncio.timeout(30):
        assert await run == "stalled"
    assert stopped == [1]
    assert peer.is_ended


async def test_a_slow_reader_is_not_gone() -> None:
    """It takes a little now and then: as long as bytes are taken, nothing is given up."""
    ours, theirs = memory_pair(10)
    peer = Peer(ours, {}, stall_s=0.5)
    run = asyncio.create_task(peer.run())
    peer.notify("note", {"text": "x" * 3000})
    got = b""
    async with asyncio.timeout(30):
        while not got.endswith(b"\n"):
            got += await theirs.read()
        assert len(got) > 3000
        await peer.close()
        assert await run == "closed"


async def test_a_thousand_slow_calls_do_not_hold_back_a_quick_one(serve: Serve) -> None:
    release = asyncio.Event()

    async def wait(_context: CallContext, _params: dict[str, Any]) -> Any:
        await release.wait()

    async with serve({"wait": wait, "echo": echo}, max_in_flight=2000) as (_, wire):
        for number in range(1000):
            await wire.request(number, "wait")
        await wire.request("quick", "echo")
        assert (await wire.receive())["id"] == "quick"
        release.set()
        assert len({(await wire.receive())["id"] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("framing", ["newline", "content-length"])
async def test_every_answer_to_a_pipelined_flood_arrives(serve: Serve, framing: Any) -> None:
    async with serve({"echo": echo}, capacity_bytes=3000) as (peer, wire):

        async def flood() -> None:
            for number in range(1500):
                await wire.send(
                    {"jsonrpc": "2.0", "id": number, "method": "echo", "params": {"n": number}},
                    framing=framing,
                )

        flooding = asyncio.create_task(flood())
        answers = [await wire.receive() for _ in range(1500)]
        await flooding
        assert {answer["id"]: answer["result"]["n"] for answer in answers} == {
            number: number for number in range(1500)
        }
        assert peer.in_flight == 0
        assert peer.queued_bytes == 0
