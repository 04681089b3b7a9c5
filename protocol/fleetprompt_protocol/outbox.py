"""What waits to be written: one queue, in order, with a mark above which producers should pause.

Nothing is dropped but by the rule of coalescing: of the messages that carry the same key, only the
newest waits. It takes the newest one's place in the order, so that no message is ever overtaken by
one that was made later.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt_protocol.frames import encode_frame

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_protocol.frames import Framing
    from fleetprompt_protocol.transport import Transport

_BURST_BYTES = 64 * 1024
"""Small messages are joined up to this size: the capacity of a pipe on Linux."""


class Sequence:
    """Numbers the messages of one stream from 1, without gaps, in the order they are written.

    The number is given when a message leaves the queue, so that coalescing leaves no gap.
    """

    __slots__ = ("last",)

    def __init__(self) -> None:
        self.last = 0
        """The number that was given last."""


class _Item(NamedTuple):
    text: bytes
    """The JSON text; when numbered, everything after the number."""
    before_number: bytes
    sequence: Sequence | None
    on_written: Callable[[], None] | None


class Outbox:
    """Writes messages to a transport, in order.

    Args:
        transport: Where they go.
        mark_bytes: The size from which `is_full` is true.
        limit_bytes: The longest message that the other side takes; whoever puts one has to look.
        stall_s: Seconds without one byte taken after which the peer counts as gone.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        mark_bytes: int,
        limit_bytes: int,
        stall_s: float,
    ) -> None:
        self.framing: Framing = "newline"
        """How messages are told apart; may change before the first is written."""
        self.mark_bytes = mark_bytes
        """The size from which producers should pause."""
        self.limit_bytes = limit_bytes
        """The longest message that the other side takes."""
        self.on_progress: Callable[[], None] = _nothing
        """Called after every write."""
        self.queued_bytes = 0
        """JSON text that waits or is being written."""
        self._transport = transport
        self._stall_s = stall_s
        self._items: OrderedDict[object, _Item] = OrderedDict()
        self._serial = 0
        self._unfinished: tuple[bytes, Callable[[], None] | None] | None = None
        self._waker: asyncio.Future[None] | None = None
        self._drained: list[asyncio.Future[None]] = []
        self._is_ending = False

    @property
    def is_full(self) -> bool:
        """Whether producers should pause."""
        return self.queued_bytes > self.mark_bytes

    def put(
        self,
        text: bytes,
        on_written: Callable[[], None] | None = None,
        *,
        is_alone: bool = False,
    ) -> None:
        """Queues a message.

        Args:
            text: Its JSON text.
            on_written: Called when the transport has taken all of it.
            is_alone: Whether no other message is about to follow, so that it need not wait to be
                joined with that one: when nothing is queued, it is written at once.
        """
        if is_alone and self._waker is not None and not self._items and not self._unfinished:
            data = encode_frame(text, self.framing)
            rest = data[self._transport.write_now(data) :]
            if not rest:
                self._settle(0, [on_written] if on_written is not None else [])
                return
            self._unfinished = (rest, on_written)
            self.queued_bytes += len(rest)
            self._wake_writer()
            return
        self._serial += 1
        self._put(self._serial, _Item(text, b"", None, on_written))

    def put_coalesced(self, text: bytes, key: str) -> None:
        """Queues a message in place of an unwritten one with the same key."""
        self._put(self._replacing(key), _Item(text, b"", None, None))

    def put_numbered(
        self, before_number: bytes, text: bytes, sequence: Sequence, key: str | None = None
    ) -> None:
        """Queues a message whose number stands between two parts of its JSON text."""
        if key is None:
            self._serial += 1
        item = _Item(text, before_number, sequence, None)
        self._put(self._serial if key is None else self._replacing(key), item)

    async def wait_not_full(self) -> None:
        """Returns when `is_full` is false, at once if it is; also when the outbox has ended."""
        while self.is_full and not self._is_ending:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drained.append(waiter)
            await waiter

    def end(self) -> None:
        """Takes nothing more; `run` returns when the queue is empty."""
        self._is_ending = True
        self._wake_writer()
        self._wake_producers()

    async def run(self) -> None:
        """Writes until `end` was called and nothing is left.

        Raises:
            TimeoutError: The peer took no byte for `stall_s`.
            OSError: Nobody reads any more.
        """
        while self._items or self._unfinished or not self._is_ending:
            if self._unfinished is not None:
                rest, on_written = self._unfinished
                await self._write(rest)
                self._unfinished = None
                self._settle(len(rest), [on_written] if on_written is not None else [])
                continue
            if not self._items:
                self._waker = asyncio.get_running_loop().create_future()
                await self._waker
                self._waker = None
                continue
            parts: list[bytes] = []
            burst_bytes = 0
            written: list[Callable[[], None]] = []
            while self._items and burst_bytes < _BURST_BYTES:
                _, item = self._items.popitem(last=False)
                text = item.text
                if item.sequence is not None:
                    item.sequence.last += 1
                    text = b"%s%d%s" % (item.before_number, item.sequence.last, text)
                parts.append(encode_frame(text, self.framing))
                burst_bytes += len(item.before_number) + len(item.text)
                if item.on_written is not None:
                    written.append(item.on_written)
            await self._write(b"".join(parts))
            self._settle(burst_bytes, written)

    def _settle(self, size_bytes: int, written: list[Callable[[], None]]) -> None:
        """Says that so much was written."""
        self.queued_bytes -= size_bytes
        for on_written in written:
            on_written()
        if self._drained and not self.is_full:
            self._wake_producers()
        self.on_progress()

    async def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self._transport.write(view, self._stall_s) :]

    def _replacing(self, key: str) -> str:
        replaced = self._items.pop(key, None)
        if replaced is not None:
            self.queued_bytes -= len(replaced.before_number) + len(replaced.text)
        return key

    def _put(self, key: object, item: _Item) -> None:
        self._items[key] = item
        self.queued_bytes += len(item.before_number) + len(item.text)
        self._wake_writer()

    def _wake_writer(self) -> None:
        if self._waker is not None and not self._waker.done():
            self._waker.set_result(None)

    def _wake_producers(self) -> None:
        drained, self._drained = self._drained, []
        for waiter in drained:
            if not waiter.done():
                waiter.set_result(None)


def _nothing() -> None:
    pass
