"""A raw other side to talk to a peer with, over memory."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeAlias

import pytest

from fleetprompt_protocol.frames import FrameDecoder, Framing, encode_frame
from fleetprompt_protocol.memory import MemoryTransport, memory_pair
from fleetprompt_protocol.peer import Peer

BOUND_S = 30.0


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs coroutine tests in a loop of their own, in which nothing may fail unseen."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    unseen: list[dict[str, Any]] = []

    async def watched() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: unseen.append(context))
        await pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names})

    asyncio.run(watched())
    assert not unseen
    return True


class Wire:
    """The other side of a peer: writes any bytes, reads messages, never waits beyond a bound."""

    def __init__(self, transport: MemoryTransport) -> None:
        self.transport = transport
        self.decoder = FrameDecoder()
        self.messages: list[Any] = []
        self.run: asyncio.Task[str] | None = None

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self.transport.write(view, BOUND_S) :]

    async def send(self, *messages: Any, framing: Framing = "newline") -> None:
        for message in messages:
            text = json.dumps(message).encode()
            await self.write(encode_frame(text, framing))

    async def request(self, request_id: Any, method: str, **params: Any) -> None:
        await self.send({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})

    async def receive(self) -> Any:
        """The next message; raises EOFError at the end of the stream."""
        async with asyncio.timeout(BOUND_S):
            while not self.messages:
                data = await self.transport.read()
                if not data:
                    raise EOFError
                for frame in self.decoder.feed(data):
                    assert isinstance(frame, bytes), frame
                    self.messages.append(json.loads(frame, parse_constant=_no_constant))
        return self.messages.pop(0)

    async def receive_all(self) -> list[Any]:
        """Every message until the end of the stream."""
        found = []
        try:
            while True:
                found.append(await self.receive())
        except EOFError:
            return found

    async def ended(self) -> str:
        """Why the peer ended."""
        assert self.run is not None
        async with asyncio.timeout(BOUND_S):
            return await asyncio.shield(self.run)


def _no_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


Serve: TypeAlias = Callable[..., AbstractAsyncContextManager[tuple[Peer, Wire]]]


@asynccontextmanager
async def serving(
    methods: dict[str, Any] | None = None, *, capacity_bytes: int = 1 << 20, **options: Any
) -> AsyncIterator[tuple[Peer, Wire]]:
    """A running peer and the other side of it."""
    options.setdefault("drain_s", 0.1)
    ours, theirs = memory_pair(capacity_bytes)
    peer = Peer(ours, {} if methods is None else methods, **options)
    wire = Wire(theirs)
    wire.run = asyncio.create_task(peer.run())
    try:
        yield peer, wire
    finally:
        theirs.close()
        await wire.ended()


@pytest.fixture
def serve() -> Serve:
    """Starts a peer for the time of an `async with`, which gives the peer and its other side."""
    return serving


Until: TypeAlias = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def until() -> Until:
    """Lets other tasks run until a condition holds; fails when they have had very many turns."""

    async def wait(condition: Callable[[], bool]) -> None:
        for _ in range(1_000_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it did not come about")

    return wait
