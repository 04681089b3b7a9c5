"""A full-duplex JSON-RPC 2.0 peer over any byte stream; it knows no method by name but cancel.

One reader takes messages in order. Responses, cancels and notifications are handled right there; a
request gets an entry, then a task (`inbound`). One writer sends everything in order (`outbox`).
"""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Literal, TypeAlias

from fleetprompt_protocol.call import CallContext, RequestId
from fleetprompt_protocol.dispatch import Handler
from fleetprompt_protocol.errors import FleetPromptError, ProtocolError
from fleetprompt_protocol.frames import MAX_FRAME_BYTES, FrameDecoder, FrameFault
from fleetprompt_protocol.inbound import CANCEL_METHOD, Inbound, serving
from fleetprompt_protocol.log import get_logger
from fleetprompt_protocol.outbox import Outbox, Sequence
from fleetprompt_protocol.rpc_error import from_rpc_error, new_ref
from fleetprompt_protocol.wire import Json, dumps, is_request_id, loads, peek

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_protocol.frames import FramingChoice
    from fleetprompt_protocol.log import Logger
    from fleetprompt_protocol.transport import Transport

__all__ = ["CallContext", "EndReason", "Handler", "Peer", "RequestId", "Sequence"]

EndReason: TypeAlias = Literal["eof", "closed", "error", "stalled"]
"""Why a peer ended: the other side went away, this side closed it, the stream cannot be understood,
or the other side took no byte for too long."""

MAX_IN_FLIGHT = 256
"""Requests that are worked on at the same time (protocol.md §1)."""

MARK_BYTES = 1024 * 1024
"""Unwritten bytes above which requests are parked and producers pause."""

STALL_S = 30.0
"""Seconds without one byte taken after which the other side counts as gone (protocol.md §1)."""


class Peer:
    """Answers the other side's requests and sends it ours, over one transport.

    Args:
        transport: The byte stream; the peer closes it when it ends.
        methods: Handlers by method name; the mapping may change while the peer runs.
        on_notification: Called in the reader, in order, with every notification that is neither a
            cancel nor inline. Must not block.
        inline: Methods that are answered in the reader, in order, whether they come as request or
            as notification: `(params) -> result`, not a coroutine.
        on_eof: Called once when the other side has ended, before requests in flight get `drain_s`
            to finish: the place to stop what would run longer.
        framing: How messages are told apart; answered in kind.
        max_frame_bytes: The longest message that is taken.
        max_in_flight: Requests that are worked on at the same time.
        mark_bytes: Unwritten bytes above which requests are parked and `writable` waits.
        stall_s: Seconds without one byte taken after which the other side counts as gone.
        drain_s: Seconds for each stage of ending: handlers may finish, are cancelled, the rest is
            written.
        received: Bytes that somebody has read from the transport already.
        logger: Where faults go; by default the logger `fleetprompt.peer`.
    """

    def __init__(
        self,
        transport: Transport,
        methods: Mapping[str, Handler],
        *,
        on_notification: Callable[[str, dict[str, Json]], None] | None = None,
        inline: Mapping[str, Callable[[dict[str, Json]], Json]] | None = None,
        on_eof: Callable[[], None] | None = None,
        framing: FramingChoice = "auto",
        max_frame_bytes: int = MAX_FRAME_BYTES,
        max_in_flight: int = MAX_IN_FLIGHT,
        mark_bytes: int = MARK_BYTES,
        stall_s: float = STALL_S,
        drain_s: float = 1.0,
        received: bytes = b"",
        logger: Logger | None = None,
    ) -> None:
        self._transport = transport
        self._on_eof = on_eof
        self._drain_s = drain_s
        self._received = received
        self._log = logger or get_logger("fleetprompt.peer")
        self._decoder = FrameDecoder(framing, max_frame_bytes)
        self._outbox = Outbox(
            transport, mark_bytes=mark_bytes, limit_bytes=max_frame_bytes, stall_s=stall_s
        )
        self._inbound = Inbound(
            self,
            self._outbox,
            methods,
            inline=inline or {},
            on_notification=on_notification,
            on_response=self._take_response,
            max_in_flight=max_in_flight,
            log=self._log,
        )
        self._outbox.framing = self._decoder.framing or "newline"
        self._outbox.on_progress = self._inbound.on_room
        self._pending: dict[int, asyncio.Future[Json]] = {}
        self._last_id = 0
        self._end_wanted: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._is_closing = False
        self._is_ended = False

    @property
    def in_flight(self) -> int:
        """Inbound requests whose answer is not written yet, waiting ones included."""
        return len(self._inbound.in_flight)

    @property
    def pending(self) -> int:
        """Outgoing requests that have no answer yet."""
        return len(self._pending)

    @property
    def queued_bytes(self) -> int:
        """Bytes that the other side has not taken yet."""
        return self._outbox.queued_bytes

    @property
    def is_ended(self) -> bool:
        """Whether nothing can be sent any more."""
        return self._is_ended

    @property
    def max_send_bytes(self) -> int:
        """The longest message that is sent; to be set to what the other side takes."""
        return self._outbox.limit_bytes

    @max_send_bytes.setter
    def max_send_bytes(self, limit_bytes: int) -> None:
        self._outbox.limit_bytes = limit_bytes

    # --- what this side sends

    async def request(
        self,
        method: str,
        params: dict[str, Json] | None = None,
        *,
        timeout_s: float | None = None,
        send_cancel: bool = True,
    ) -> Json:
        """The result of a request to the other side; waits for room in the outbox first.

        Args:
            method: The method.
            params: Its parameters.
            timeout_s: How long to wait for the answer; None for as long as the peer lives.
            send_cancel: Whether giving up (timeout or cancellation) sends `$/cancelRequest`.

        Raises:
            FleetPromptError: What the other side answered, by its code.
            ProtocolError: `protocol.closed`, `protocol.timeout`, or `protocol.frame_too_large`
                when the request is longer than the other side takes.
        """
        await self._outbox.wait_not_full()
        if self._is_ended or self._is_closing:
            raise _closed()
        self._last_id += 1
        request_id = self._last_id
        text = dumps({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params or {}})
        self._check_size(text)
        answer: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._pending[request_id] = answer
        self._outbox.put(text, is_alone=len(self._pending) == 1)
        try:
            if timeout_s is None:
                return await answer
            async with asyncio.timeout(timeout_s):
                return await answer
        except (TimeoutError, asyncio.CancelledError) as exc:
            if send_cancel and request_id in self._pending:
                self.notify(CANCEL_METHOD, {"id": request_id})
            if isinstance(exc, TimeoutError):
                raise ProtocolError(
                    "protocol.timeout",
                    f"No answer to {method} came within {timeout_s:g} s.",
                    retryable=True,
                ) from None
            raise
        finally:
            self._pending.pop(request_id, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen, even when this task was cancelled in the same moment

    def notify(
        self,
        method: str,
        params: dict[str, Json] | None = None,
        *,
        coalesce_key: str | None = None,
        sequence: Sequence | None = None,
    ) -> bool:
        """Queues a notification; False when the peer has ended or, logged, it cannot be sent.

        Never waits: whoever produces many awaits `writable` between them.

        Args:
            method: The method.
            params: Its parameters.
            coalesce_key: Replaces an unwritten notification with the same key.
            sequence: Adds its next number to the parameters as `seq`, when the message is written.
        """
        if self._is_ended:
            return False
        try:
            if sequence is None:
                before = b""
                text = dumps({"jsonrpc": "2.0", "method": method, "params": params or {}})
            else:
                before = b'{"jsonrpc":"2.0","method":%s,"params":{"seq":' % dumps(method)
                text = b",%s}" % dumps(params)[1:] if params else b"}}"
            self._check_size(before + text)
        except FleetPromptError as exc:
            self._log.error("notification.unsendable", method=method, code=exc.code)
            return False
        if sequence is not None:
            self._outbox.put_numbered(before, text, sequence, coalesce_key)
        elif coalesce_key is not None:
            self._outbox.put_coalesced(text, coalesce_key)
        else:
            self._outbox.put(text)
        return True

    async def writable(self) -> None:
        """Returns when there is room in the outbox; at once when the peer has ended."""
        await self._outbox.wait_not_full()

    def _check_size(self, text: bytes) -> None:
        if len(text) > self.max_send_bytes:
            raise ProtocolError(
                "protocol.frame_too_large",
                f"The message has {len(text)} bytes; the other side takes {self.max_send_bytes}.",
            )

    # --- life and end

    async def run(self) -> EndReason:
        """Serves until the stream ends, breaks, stalls or is closed; gives the reason.

        When it returns, every outgoing request has failed, every handler was cancelled and has had
        `drain_s` to end, and the transport is closed.
        """
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        self._end_wanted = loop.create_future()
        if self._is_closing:
            self._end_wanted.set_result(None)
        reader = asyncio.create_task(self._read())
        writer = asyncio.create_task(self._write())
        stop_s = self._drain_s
        try:
            await asyncio.wait(
                (reader, writer, self._end_wanted), return_when=asyncio.FIRST_COMPLETED
            )
            reason: EndReason = "closed"
            if writer.done():
                reason = writer.result()
                self._is_ended = True
            elif reader.done():
                reason = reader.result()
            self._is_closing = True
            reader.cancel()
            self._fail_pending()
            if reason == "eof" and not writer.done():
                await self._drain(writer, self._end_wanted)
            await self._inbound.stop(self._drain_s)
            stop_s = 0
            self._outbox.end()
            await asyncio.wait((writer,), timeout=self._drain_s)
            return reason
        finally:
            self._is_closing = self._is_ended = True
            self._fail_pending()
            self._outbox.end()
            reader.cancel()
            writer.cancel()
            self._transport.close()
            await self._inbound.stop(stop_s)
            await asyncio.gather(reader, writer, return_exceptions=True)
            self._ended.set_result(None)

    def end(self) -> None:
        """Asks the peer to end; what is queued already still goes out. Returns at once."""
        self._is_closing = True
        if self._end_wanted is not None and not self._end_wanted.done():
            self._end_wanted.set_result(None)

    async def close(self) -> None:
        """Ends the peer and waits until `run` is done; within one of its handlers it only asks."""
        self.end()
        if self._ended is None:
            self._is_ended = True
            self._fail_pending()
            self._outbox.end()
            self._transport.close()
        elif serving.get() is not self:
            await asyncio.shield(self._ended)

    async def _drain(self, writer: asyncio.Task[EndReason], ended: asyncio.Future[None]) -> None:
        """After the end of the stream: handlers may finish, and their answers go out."""
        if self._on_eof is not None:
            try:
                self._on_eof()
            except Exception as exc:  # noqa: BLE001 — a hook's fault does not keep the end away
                self._inbound.log_fault("on_eof", new_ref(), exc)
        await asyncio.wait(
            (self._inbound.idle(), writer, ended),
            timeout=self._drain_s,
            return_when=asyncio.FIRST_COMPLETED,
        )

    def _fail_pending(self) -> None:
        pending, self._pending = self._pending, {}
        for answer in pending.values():
            if not answer.done():
                answer.set_exception(_closed())

    async def _write(self) -> EndReason:
        try:
            await self._outbox.run()
        except TimeoutError:
            self._log.warning("peer.stalled", queued_bytes=self.queued_bytes)
            return "stalled"
        except OSError as exc:
            self._log.info("peer.gone", reason=os.strerror(exc.errno or errno.EPIPE))
            return "eof"
        except Exception as exc:  # noqa: BLE001 — a fault of ours ends the peer in order
            self._inbound.log_fault("the writer", new_ref(), exc)
            return "error"
        return "closed"

    # --- what the other side sends

    async def _read(self) -> EndReason:
        data, self._received = self._received, b""
        try:
            while True:
                for frame in self._decoder.feed(data):
                    if await self._take(frame):
                        return "error"
                try:
                    data = await self._transport.read()
                except OSError:
                    return "eof"
                if not data:
                    break
            for frame in self._decoder.finish():
                await self._take(frame)
        except Exception as exc:  # noqa: BLE001 — a fault of ours ends the peer in order
            self._inbound.log_fault("the reader", new_ref(), exc)
            return "error"
        return "eof"

    async def _take(self, frame: bytes | FrameFault) -> bool:
        """Handles one frame; True when no other can follow."""
        if self._decoder.framing is not None:
            self._outbox.framing = self._decoder.framing
        if isinstance(frame, FrameFault):
            self._take_unreadable(ProtocolError(frame.code, frame.message), frame.head, frame.tail)
            return frame.is_fatal
        try:
            message = loads(frame)
        except ProtocolError as exc:
            if frame[:15].lower() == b"content-length:":
                hint = "A header came where a line of JSON should: --framing tells the framing."
                exc = ProtocolError(exc.code, hint)
            self._take_unreadable(exc, frame, frame)
        else:
            self._inbound.take(message, len(frame))
        await self._inbound.wait_for_room()
        return False

    def _take_unreadable(self, error: ProtocolError, head: bytes, tail: bytes) -> None:
        found = peek(head, tail)
        self._log.warning("frame.unreadable", code=error.code, reason=error.message)
        if not found.is_response:
            # Of an id whose message may be a response nothing is said: it may be an id of ours.
            self._inbound.refuse(found.id if found.is_response is False else None, error)
            return
        answer = self._pending.get(found.id) if isinstance(found.id, int) else None
        if answer is not None and not answer.done():
            text = f"The answer cannot be read. {error.message}"
            answer.set_exception(ProtocolError(error.code, text))

    def _take_response(self, message: dict[str, Json]) -> None:
        response_id = message.get("id")
        answer = None
        if isinstance(response_id, int | float) and is_request_id(response_id):
            answer = self._pending.get(int(response_id))  # some hosts write 1 as 1.0
        error = message.get("error")
        if answer is None or answer.done():
            text = error.get("message") if isinstance(error, dict) else None
            self._log.warning("response.unknown_id", id=response_id, error=text)
        elif error is None and "result" in message:
            answer.set_result(message["result"])
        else:
            answer.set_exception(from_rpc_error(error))


def _closed() -> ProtocolError:
    return ProtocolError("protocol.closed", "The peer is gone; no answer will come.")
