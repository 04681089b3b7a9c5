"""Two transports that are connected to each other in memory, for tests and for agents in-process.

They behave as pipes do: bounded, in order, any chunking, broken when the other side has closed.
"""

from __future__ import annotations

import asyncio


def memory_pair(capacity_bytes: int = 64 * 1024) -> tuple[MemoryTransport, MemoryTransport]:
    """Both ends of a connection; what is written to one is read from the other.

    Args:
        capacity_bytes: How much each direction holds before a write waits.
    """
    there, back = _Pipe(capacity_bytes), _Pipe(capacity_bytes)
    return MemoryTransport(back, there), MemoryTransport(there, back)


class _Pipe:
    """One direction: bytes that were written and not read."""

    def __init__(self, capacity_bytes: int) -> None:
        self.capacity_bytes = capacity_bytes
        self.held = bytearray()
        self.has_writer = True
        self.has_reader = True
        self._changed: list[asyncio.Future[None]] = []

    async def change(self) -> None:
        """Returns after the next change of any kind."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._changed.append(waiter)
        await waiter

    def tell(self) -> None:
        """Wakes whoever waits for a change."""
        changed, self._changed = self._changed, []
        for waiter in changed:
            if not waiter.done():
                waiter.set_result(None)


class MemoryTransport:
    """One end of a `memory_pair`; a `Transport`."""

    def __init__(self, incoming: _Pipe, outgoing: _Pipe) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def read(self) -> bytes:
        """The next bytes as soon as there are any; empty at the end of the stream."""
        pipe = self._incoming
        await asyncio.sleep(0)
        while not pipe.held and pipe.has_writer and pipe.has_reader:
            await pipe.change()
        if not pipe.has_reader:
            return b""
        data = bytes(pipe.held)
        pipe.held.clear()
        pipe.tell()
        return data

    async def write(self, data: memoryview, timeout_s: float) -> int:
        """See `Transport.write`."""
        pipe = self._outgoing
        async with asyncio.timeout(timeout_s):
            while len(pipe.held) >= pipe.capacity_bytes and pipe.has_reader and pipe.has_writer:
                await pipe.change()
        if not pipe.has_reader or not pipe.has_writer:
            raise BrokenPipeError
        taken = data[: pipe.capacity_bytes - len(pipe.held)]
        pipe.held += taken
        pipe.tell()
        return len(taken)

    def write_now(self, data: bytes) -> int:
        """See `Transport.write_now`."""
        pipe = self._outgoing
        if not pipe.has_reader or not pipe.has_writer:
            return 0
        taken = data[: max(0, pipe.capacity_bytes - len(pipe.held))]
        pipe.held += taken
        pipe.tell()
        return len(taken)

    def end_writing(self) -> None:
        """Ends our direction only: the other side reads what is there, then the end."""
        self._outgoing.has_writer = False
        self._outgoing.tell()

    def close(self) -> None:
        """Ends both directions; what the other side has not read yet it still can."""
        self._incoming.has_reader = False
        self._incoming.tell()
        self.end_writing()
