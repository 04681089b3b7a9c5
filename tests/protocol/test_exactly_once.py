"""Whatever is sent, in whatever order and pieces: each request is answered exactly once."""

from __future__ import annotations

import asyncio
import json
import math
from collections import Counter
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.frames import FrameDecoder
from fleetprompt_protocol.memory import memory_pair
from fleetprompt_protocol.peer import Peer

if TYPE_CHECKING:
    from fleetprompt_protocol.peer import CallContext

JUNK = [b"junk\n", b"[]\n", b"5\n", b'{"id":5}{\n', b'"\xff"\n', b'{"jsonrpc":"2.0","id":true}\n']
PIECES = [b"\n", b'{"jsonrpc":"2.0","id":', b'"method":', b"}", b"0", b","]
KINDS = ["echo", "wait", "crash", "refuse", "nan", "long", "stubborn", "polite", "stream", "none"]

request_ids = st.sampled_from([0, 1, 2, "a", "b", 3.0])
calls = st.tuples(st.just("call"), request_ids, st.sampled_from(KINDS))
actions = st.one_of(
    calls,
    calls,
    st.tuples(st.just("cancel"), request_ids),
    st.tuples(st.just("batch"), st.lists(calls, min_size=1, max_size=4)),
    st.tuples(st.just("junk"), st.sampled_from(JUNK)),
    st.tuples(st.just("release")),
    st.tuples(st.just("turns"), st.integers(1, 20)),
)


class Scene:
    """A peer with handlers of every temper, and what was asked of it."""

    def __init__(self, capacity_bytes: int, max_in_flight: int) -> None:
        ours, self.theirs = memory_pair(capacity_bytes)
        handlers = {kind: getattr(self, f"on_{kind}") for kind in KINDS if kind != "none"}
        self.peer = Peer(ours, handlers, max_in_flight=max_in_flight, mark_bytes=500, drain_s=30)
        self.peer.max_send_bytes = 2000
        self.release = asyncio.Event()
        self.asked: Counter[Any] = Counter()
        self.unnamed = 0
        self.streams = 0

    async def on_echo(self, _context: CallContext, params: dict[str, Any]) -> Any:
        return params

    async def on_wait(self, _context: CallContext, _params: dict[str, Any]) -> Any:
        await self.release.wait()

    async def on_crash(self, _context: CallContext, _params: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        raise RecursionError

    async def on_refuse(self, _context: CallContext, _params: dict[str, Any]) -> Any:
        raise RequestError("tool.denied", "No.")

    async def on_nan(self, _context: CallContext, _params: dict[str, Any]) -> Any:
        return math.nan

    async def on_long(self, _context: CallContext, _params: dict[str, Any]) -> Any:
        return "x" * 3000

    async def on_stubborn(self, _context: CallContext, _params: dict[str, Any]) -> Any:
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            return "all the same"

    async def on_polite(self, context: CallContext, _params: dict[str, Any]) -> Any:
        asked = asyncio.Event()
        context.on_cancel(asked.set)
        waits = [asyncio.create_task(event.wait()) for event in (asked, self.release)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        return "canceled" if context.cancelled else "done"

    async def on_stream(self, context: CallContext, _params: dict[str, Any]) -> Any:
        self.streams += 1
        stream = self.streams
        for number in range(5):
            key = f"{context.request_id}" if number % 2 else None
            chunk = {"call": stream, "n": number}
            context.notify("chunk", chunk, coalesce_key=key, numbered=True)
            await asyncio.sleep(0)
        return {"call": stream}

    def message(self, call: tuple[Any, ...]) -> dict[str, Any]:
        _, request_id, method = call
        self.asked[request_id] += 1
        return {"jsonrpc": "2.0", "id": request_id, "method": method, "params": {"x": 1}}

    def text(self, action: tuple[Any, ...]) -> bytes:
        """What an action sends."""
        match action:
            case ("call", *_):
                value: Any = self.message(action)
            case ("cancel", request_id):
                value = {
                    "jsonrpc": "2.0",
                    "method": "$/cancelRequest",
                    "params": {"id": request_id},
                }
            case ("batch", members):
                value = [self.message(member) for member in members]
            case ("junk", data):
                self.unnamed += 1
                return bytes(data)
            case _:
                return b""
        return json.dumps(value).encode() + b"\n"


async def play(script: list[tuple[Any, ...]], sizes: list[int], capacity: int, limit: int) -> None:
    scene = Scene(capacity, limit)
    unseen: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
    run = asyncio.create_task(scene.peer.run())
    answers: list[Any] = []
    chunks: list[Any] = []

    async def listen() -> None:
        decoder = FrameDecoder()
        while data := await scene.theirs.read():
            for frame in decoder.feed(data):
                assert isinstance(frame, bytes)
                message = json.loads(frame)
                for one in message if isinstance(message, list) else [message]:
                    if "method" in one:
                        chunks.append(one["params"])
                    else:
                        answers.append(one)
                        if isinstance(one.get("result"), dict) and "call" in one["result"]:
                            chunks.append({"end_of": one["result"]["call"]})

    listening = asyncio.create_task(listen())
    for action in script:
        if action[0] == "release":
            scene.release.set()
        for _ in range(action[1] if action[0] == "turns" else 0):
            await asyncio.sleep(0)
        view = memoryview(scene.text(action))
        while view:
            piece = view[: sizes[len(view) % len(sizes)]]
            view = view[await scene.theirs.write(piece, 30) :]
    scene.release.set()
    scene.theirs.end_writing()
    async with asyncio.timeout(30):
        assert await run == "eof"
        await listening
    assert Counter(answer["id"] for answer in answers) == scene.asked + Counter(
        {None: scene.unnamed}
    )
    assert all(("result" in answer) != ("error" in answer) for answer in answers)
    for answer in answers:
        if "error" in answer:
            assert answer["error"]["data"]["code"]
            assert answer["error"]["message"] == answer["error"]["data"]["message"]
    for call in {chunk["call"] for chunk in chunks if "call" in chunk}:
        own = [chunk for chunk in chunks if call in (chunk.get("call"), chunk.get("end_of"))]
        numbers = [chunk["seq"] for chunk in own if "seq" in chunk]
        assert numbers == list(range(1, len(numbers) + 1))
        assert all("end_of" not in chunk for chunk in own[:-1])
    assert (scene.peer.in_flight, scene.peer.pending, scene.peer.queued_bytes) == (0, 0, 0)
    assert not unseen


@settings(max_examples=150)
@given(
    st.lists(actions, max_size=25),
    st.lists(st.integers(1, 200), min_size=1, max_size=4),
    st.sampled_from([50, 1000, 100_000]),
    st.sampled_from([1, 2, 100]),
)
def test_every_request_is_answered_exactly_once(
    script: list[tuple[Any, ...]], sizes: list[int], capacity: int, limit: int
) -> None:
    asyncio.run(play(script, sizes, capacity, limit))


async def feed(data: bytes, sizes: list[int]) -> None:
    scene = Scene(100_000, 4)
    run = asyncio.create_task(scene.peer.run())
    scene.release.set()
    view = memoryview(data)
    try:
        while view:
            piece = view[: sizes[len(view) % len(sizes)]]
            view = view[await scene.theirs.write(piece, 30) :]
    except BrokenPipeError:
        pass
    scene.theirs.end_writing()
    decoder = FrameDecoder()
    async with asyncio.timeout(30):
        while reply := await scene.theirs.read():
            for frame in decoder.feed(reply):
                assert isinstance(frame, bytes)
                json.loads(frame)
        assert await run in {"eof", "error"}


@settings(max_examples=150)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.lists(
            st.sampled_from([*JUNK, b"\n", b'{"jsonrpc":"2.0","id":', b'"method":', b"}"])
        ).map(b"".join),
        st.binary(max_size=50).map(lambda data: b"Content-Length: 20\r\n\r\n" + data),
    ),
    st.lists(st.integers(1, 50), min_size=1, max_size=3),
)
def test_any_bytes_end_in_order(data: bytes, sizes: list[int]) -> None:
    asyncio.run(feed(data, sizes))
