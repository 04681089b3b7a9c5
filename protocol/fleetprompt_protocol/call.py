"""One inbound request while it is in flight, as its handler and the peer see it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

from fleetprompt_protocol.outbox import Sequence

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fleetprompt_protocol.peer import Peer
    from fleetprompt_protocol.wire import Json

RequestId: TypeAlias = str | int | float
"""A JSON-RPC id; a float is a whole number that was written with a point."""


class Canceller(Protocol):
    """Answers a call as cancelled, when its handler does not do so."""

    def __call__(self, context: CallContext) -> None:
        """Cancels the handler's task, or answers at once when it has not begun."""


class CallContext:
    """One inbound request, for its handler."""

    __slots__ = (
        "_callbacks",
        "_canceller",
        "_sequence",
        "batch",
        "cancelled",
        "is_answered",
        "is_started",
        "method",
        "params",
        "peer",
        "request_id",
        "size_bytes",
        "task",
    )

    def __init__(
        self,
        peer: Peer,
        request_id: RequestId,
        method: str,
        params: dict[str, Json],
        size_bytes: int,
        batch: Batch | None,
        canceller: Canceller,
    ) -> None:
        self.peer = peer
        """The peer that it came from."""
        self.request_id = request_id
        """Its JSON-RPC id."""
        self.method = method
        """Its method."""
        self.params = params
        """Its parameters; the handler gets the same object."""
        self.size_bytes = size_bytes
        """How long its JSON text was."""
        self.cancelled = False
        """Whether the caller has asked to cancel it."""
        self.is_answered = False
        """Whether its answer is queued: nothing that belongs to the call may follow it."""
        self.is_started = False
        """Whether its handler has begun; the peer's to set."""
        self.task: asyncio.Task[None] | None = None
        """What the handler runs in; the peer's to set."""
        self.batch = batch
        """The batch that it came in."""
        self._canceller = canceller
        self._callbacks: list[Callable[[], None]] = []
        self._sequence: Sequence | None = None

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Has a cancel call this instead of cancelling the task: the handler answers by itself.

        The callback runs in the reader and must not block. It runs at once when the cancel has
        come already.
        """
        self._callbacks.append(callback)
        if self.cancelled:
            callback()

    def cancel(self) -> bool:
        """Cancels the call, once; False when it was cancelled or answered before."""
        if self.cancelled or self.is_answered:
            return False
        self.cancelled = True
        if self._callbacks:
            for callback in self._callbacks:
                callback()
        else:
            self._canceller(self)
        return True

    def notify(
        self,
        method: str,
        params: dict[str, Json],
        *,
        coalesce_key: str | None = None,
        numbered: bool = False,
    ) -> bool:
        """Queues a notification that belongs to this call; False when it was not sent.

        Nothing is sent once the call is answered.

        Args:
            method: The notification's method.
            params: Its parameters.
            coalesce_key: See `Peer.notify`; one name space for all calls of a peer.
            numbered: Whether `params` get the call's next `seq`: from 1, without gaps.
        """
        if self.is_answered:
            return False
        if numbered and self._sequence is None:
            self._sequence = Sequence()
        return self.peer.notify(
            method,
            params,
            coalesce_key=coalesce_key,
            sequence=self._sequence if numbered else None,
        )


class Batch:
    """The answers to one batch, until all are there."""

    __slots__ = ("answers", "missing")

    def __init__(self) -> None:
        self.missing = 0
        """Members that are not answered yet."""
        self.answers: list[tuple[bytes, CallContext | None]] = []
        """JSON texts, each with the call that it answers, if it was one."""
