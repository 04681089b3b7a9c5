"""A full-duplex JSON-RPC 2.0 peer over any byte stream; it knows no method by name but cancel.

One reader takes messages in order. Responses, cancels and notifications are handled right there;
a request gets an entry in the table of those in flight, then a task. It stays in flight until its
answer is written. One writer sends everything in order (`outbox`).

Invariants:

* An entry is made before its task, so a cancel that comes next finds it.
* `_answer` is the only way to the answer of an entry, and answers it once.
* Requests beyond `max_in_flight`, or while the outbox is full, are parked, and reading goes on, so
  that responses and cancels still arrive: two peers that wait for each other's answers go on.
  Only when as many are parked again, or far too much is unwritten, does reading stop.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from fleetprompt_protocol.call import Batch, CallContext, RequestId
from fleetprompt_protocol.dispatch import Dispatcher, Handler, fault_answer
from fleetprompt_protocol.errors import FleetPromptError, ProtocolError
from fleetprompt_protocol.frames import MAX_FRAME_BYTES, FrameDecoder, FrameFault
from fleetprompt_protocol.log import get_logger
from fleetprompt_protocol.outbox import Outbox, Sequence
from fleetprompt_protocol.rpc_error import from_rpc_error, new_ref, to_rpc_error
from fleetprompt_protocol.wire import Json, dumps, is_request_id, loads, peek

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_protocol.frames import FramingChoice
    from fleetprompt_protocol.log import Logger
    from fleetprompt_protocol.transport import Transport

__all__ = ["CallContext", "EndReason", "Handler", "Peer", "RequestId"]

EndReason: TypeAlias = Literal["eof", "closed", "error", "stalled"]
"""Why a peer ended: the other side went away, this side closed it, the stream cannot be understood,
or the other side took no byte for too long."""

MAX_IN_FLIGHT = 256
"""Requests that are worked on at the same time (protocol.md §1)."""

MAX_BATCH = 256
"""Members of a batch: no more than could be in flight."""

MARK_BYTES = 1024 * 1024
"""Unwritten bytes above which requests are parked and producers pause; at eight times that, reading
stops."""

STALL_S = 30.0
"""Seconds without one byte taken after which the other side counts as gone (protocol.md §1)."""

CANCEL_METHOD = "$/cancelRequest"
"""The one method that the peer itself understands: `{id}`."""

_serving: ContextVar[Peer | None] = ContextVar("fleetprompt_serving", default=None)


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
        self.max_send_bytes = max_frame_bytes
        """The longest message that is sent; set it to what the other side takes."""
        self._transport = transport
        self._on_notification = on_notification
        self._inline: dict[str, Callable[[dict[str, Json]], Json]] = dict(inline or {})
        self._inline[CANCEL_METHOD] = self._cancel_request
        self._on_eof = on_eof
        self._max_in_flight = max_in_flight
        self._mark_bytes = mark_bytes
        self._drain_s = drain_s
        self._received = received
        self._log = logger or get_logger("fleetprompt.peer")
        self._decoder = FrameDecoder(framing, max_frame_bytes)
        self._outbox = Outbox(
            transport, mark_bytes=mark_bytes, stall_s=stall_s, on_progress=self._on_room
        )
        self._outbox.framing = self._decoder.framing or "newline"
        self._dispatcher = Dispatcher(methods, self._log_fault)
        self._in_flight: dict[RequestId, CallContext] = {}
        self._parked: dict[RequestId, CallContext] = {}
        self._busy = 0
        self._pending: dict[int, asyncio.Future[Json]] = {}
        self._last_id = 0
        self._room: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None
        self._end_wanted: asyncio.Future[None] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._is_closing = False
        self._is_ended = False

    @property
    def in_flight(self) -> int:
        """Inbound requests whose answer is not written yet, parked ones included."""
        return len(self._in_flight)

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
        self._outbox.put(text)
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
                text = dumps(params)[1:] + b"}" if params else b"}}"
                text = b"," + text if params else text
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
            self._fail_pending()
            reader.cancel()
            if reason == "eof" and not writer.done():
                await self._drain(writer, self._end_wanted)
            await self._stop_handlers()
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
            await self._stop_handlers()
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
        elif _serving.get() is not self:
            await asyncio.shield(self._ended)

    async def _drain(self, writer: asyncio.Task[EndReason], ended: asyncio.Future[None]) -> None:
        """After the end of the stream: handlers may finish, and their answers go out."""
        if self._on_eof is not None:
            try:
                self._on_eof()
            except Exception as exc:  # noqa: BLE001 — a hook's fault does not keep the end away
                self._log_fault("on_eof", new_ref(), exc)
        if self._in_flight:
            self._idle = asyncio.get_running_loop().create_future()
            await asyncio.wait(
                (self._idle, writer, ended),
                timeout=self._drain_s,
                return_when=asyncio.FIRST_COMPLETED,
            )

    async def _stop_handlers(self) -> None:
        for context in list(self._in_flight.values()):
            if not context.is_answered:
                context.cancelled = True
                self._cancel(context)
        tasks = [context.task for context in self._in_flight.values() if context.task is not None]
        running = [task for task in tasks if not task.done()]
        if running:
            await asyncio.wait(running, timeout=self._drain_s)

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
        except OSError:
            return "eof"
        return "closed"

    def _on_room(self) -> None:
        """Starts parked requests and lets the reader go on, as far as there is room."""
        while self._parked and not self._must_park():
            context = self._parked.pop(next(iter(self._parked)))
            if not context.is_answered:
                self._start(context)
        if self._room is not None and not self._must_stop_reading():
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
        if self._idle is not None and not self._in_flight and not self._idle.done():
            self._idle.set_result(None)

    def _must_park(self) -> bool:
        return self._busy >= self._max_in_flight or self._outbox.is_full

    def _must_stop_reading(self) -> bool:
        return (
            len(self._parked) >= self._max_in_flight
            or self._outbox.queued_bytes > 8 * self._mark_bytes
        )

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
            self._log_fault("the reader", new_ref(), exc)
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
            self._take_unreadable(exc, frame, frame)
        else:
            if isinstance(message, list):
                self._take_batch(message)
            else:
                self._take_message(message, None)
        while self._must_stop_reading():
            self._room = asyncio.get_running_loop().create_future()
            await self._room
        return False

    def _take_unreadable(self, error: ProtocolError, head: bytes, tail: bytes) -> None:
        found = peek(head, tail)
        self._log.warning("frame.unreadable", code=error.code, reason=error.message)
        if not found.is_response:
            # Of an id whose message may be a response nothing is said: it may be an id of ours.
            self._refuse(found.id if found.is_response is False else None, error, None)
            return
        answer = self._pending.get(found.id) if isinstance(found.id, int) else None
        if answer is not None and not answer.done():
            text = f"The answer cannot be read. {error.message}"
            answer.set_exception(ProtocolError(error.code, text))

    def _take_batch(self, messages: list[Json]) -> None:
        if not 0 < len(messages) <= MAX_BATCH:
            what = f"has {len(messages)} members" if messages else "is empty"
            reason = f"The batch {what}; it must have 1 to {MAX_BATCH}."
            self._refuse(None, _invalid_request(reason), None)
            return
        batch = Batch()
        batch.missing = 1  # this loop: no answer before every member was taken
        for message in messages:
            self._take_message(message, batch)
        batch.missing -= 1
        self._send_batch(batch)

    def _take_message(self, message: Json, batch: Batch | None) -> None:
        if not isinstance(message, dict):
            self._refuse(None, _invalid_request("A message must be an object."), batch)
            return
        if "method" not in message and ("result" in message or "error" in message):
            self._take_response(message)
            return
        has_id = "id" in message
        request_id = message.get("id")
        method = message.get("method")
        params = message.get("params")
        problem = None
        if has_id and not is_request_id(request_id):
            request_id = None
            problem = "The id must be a string of at most 512 characters or a whole number."
        elif message.get("jsonrpc") != "2.0":
            problem = 'The member "jsonrpc" must be "2.0".'
        elif not isinstance(method, str):
            problem = 'The member "method" must be a string.'
        elif params is not None and not isinstance(params, dict | list):
            problem = 'The member "params" must be an object.'
        if problem is not None or not isinstance(method, str):
            self._refuse(request_id, _invalid_request(problem or ""), batch)
        elif isinstance(params, list) and params:
            reason = "The parameters must be an object; they cannot be given by position."
            error = ProtocolError("protocol.invalid_params", reason)
            if has_id:
                self._refuse(request_id, error, batch)
            else:
                self._log.warning("notification.invalid", method=method, reason=reason)
        elif request_id is not None:
            self._take_request(request_id, method, params or {}, batch)
        else:
            self._take_notification(method, params or {})

    def _take_notification(self, method: str, params: dict[str, Json]) -> None:
        try:
            if method in self._inline:
                self._inline[method](params)
            elif self._on_notification is not None:
                self._on_notification(method, params)
        except FleetPromptError as exc:
            self._log.warning("notification.refused", method=method, code=exc.code)
        except Exception as exc:  # noqa: BLE001 — a hook's fault does not stop the reader
            self._log_fault(method, new_ref(), exc)

    def _take_request(
        self, request_id: RequestId, method: str, params: dict[str, Json], batch: Batch | None
    ) -> None:
        if request_id in self._in_flight:
            error = ProtocolError(
                "protocol.duplicate_id", "A request with this id is in flight; use another id."
            )
            self._refuse(request_id, error, batch)
            return
        if method in self._inline:
            self._send(self._answer_text(request_id, self._inline_answer(method, params)), batch)
            return
        context = CallContext(self, request_id, method, params, batch, self._cancel)
        self._in_flight[request_id] = context
        if batch is not None:
            batch.missing += 1
        if self._parked or self._must_park():
            self._parked[request_id] = context
        else:
            self._start(context)

    def _inline_answer(self, method: str, params: dict[str, Json]) -> dict[str, Json]:
        try:
            return {"result": self._inline[method](params)}
        except FleetPromptError as exc:
            return {"error": to_rpc_error(exc)}
        except Exception as exc:  # noqa: BLE001 — whatever an inline method does, it is answered
            return {"error": fault_answer(method, exc, self._log_fault)}

    def _take_response(self, message: dict[str, Json]) -> None:
        response_id = message.get("id")
        known = isinstance(response_id, int | float) and not isinstance(response_id, bool)
        answer = self._pending.get(response_id) if known else None  # type: ignore[arg-type]  # 1.0 == 1
        error = message.get("error")
        if answer is None or answer.done():
            text = error.get("message") if isinstance(error, dict) else None
            self._log.warning("response.unknown_id", id=response_id, error=text)
        elif error is None and "result" in message:
            answer.set_result(message["result"])
        else:
            answer.set_exception(from_rpc_error(error))

    # --- from a request to its one answer

    def _start(self, context: CallContext) -> None:
        self._busy += 1
        context.task = asyncio.create_task(self._serve(context))

    async def _serve(self, context: CallContext) -> None:
        if context.is_answered:
            return
        context.is_started = True
        _serving.set(self)
        try:
            answer = await self._dispatcher.answer(context, context.params)
        except asyncio.CancelledError:
            # The end of the task, by its canceller's wish: what is left is to say so.
            answer = {"error": to_rpc_error(_canceled())}
        self._answer(context, answer)

    def _cancel(self, context: CallContext) -> None:
        """Cancels the handler; a task that has not begun would end without an answer."""
        if context.is_started and context.task is not None:
            context.task.cancel()
        else:
            self._answer(context, {"error": to_rpc_error(_canceled())})

    def _cancel_request(self, params: dict[str, Json]) -> None:
        request_id = params.get("id")
        if is_request_id(request_id) and (context := self._in_flight.get(request_id)):  # type: ignore[arg-type]  # is_request_id has checked
            context.cancel()

    def _answer(self, context: CallContext, answer: dict[str, Json]) -> None:
        if context.is_answered:
            return
        context.is_answered = True
        if self._is_ended:
            self._release(context)
            return
        text = self._answer_text(context.request_id, answer)
        batch = context.batch
        if batch is None:
            self._outbox.put(text, partial(self._release, context))
            return
        # A member's place is free now: the whole batch is written only when all are answered.
        if context.task is not None:
            self._busy -= 1
        batch.answers.append((text, context))
        batch.missing -= 1
        self._send_batch(batch)
        self._on_room()

    def _answer_text(self, request_id: RequestId | None, answer: dict[str, Json]) -> bytes:
        try:
            text = dumps({"jsonrpc": "2.0", "id": request_id, **answer})
        except FleetPromptError as exc:
            error = fault_answer("the result", exc.__cause__ or exc, self._log_fault)
            return dumps({"jsonrpc": "2.0", "id": request_id, "error": error})
        if len(text) <= self.max_send_bytes:
            return text
        excess = ProtocolError(
            "limit.output_bytes",
            f"The answer has {len(text)} bytes; the limit is {self.max_send_bytes}. Ask for less.",
            details={"bytes": len(text), "limit_bytes": self.max_send_bytes},
        )
        return dumps({"jsonrpc": "2.0", "id": request_id, "error": to_rpc_error(excess)})

    def _refuse(
        self, request_id: RequestId | None, error: ProtocolError, batch: Batch | None
    ) -> None:
        self._send(self._answer_text(request_id, {"error": to_rpc_error(error)}), batch)

    def _send(self, text: bytes, batch: Batch | None) -> None:
        if batch is None:
            self._outbox.put(text)
        else:
            batch.answers.append((text, None))

    def _send_batch(self, batch: Batch) -> None:
        """Sends the answers when all are there; in several lists if one would be too long."""
        if batch.missing:
            return
        answers, batch.answers = batch.answers, []
        while answers:
            size = count = 0
            while count < len(answers) and (
                not count or size + len(answers[count][0]) + 2 <= self.max_send_bytes
            ):
                size += len(answers[count][0]) + 1
                count += 1
            part, answers = answers[:count], answers[count:]
            contexts = [context for _, context in part if context is not None]
            self._outbox.put(
                b"[%s]" % b",".join(text for text, _ in part),
                partial(self._release_all, contexts),
            )

    def _release_all(self, contexts: list[CallContext]) -> None:
        for context in contexts:
            self._release(context)

    def _release(self, context: CallContext) -> None:
        """The answer is written, or nobody wants it: the id may be used again."""
        if context.batch is None and context.task is not None:
            self._busy -= 1
        self._in_flight.pop(context.request_id, None)
        self._parked.pop(context.request_id, None)

    def _log_fault(self, what: str, ref: str, exc: BaseException) -> None:
        self._log.error("fault", ref=ref, method=what, exc_info=exc)


def _closed() -> ProtocolError:
    return ProtocolError("protocol.closed", "The peer is gone; no answer will come.")


def _canceled() -> ProtocolError:
    return ProtocolError("protocol.canceled", "The request was cancelled by its caller.")


def _invalid_request(reason: str) -> ProtocolError:
    return ProtocolError("protocol.invalid_request", f"The message is not a request: {reason}")
