"""The other side's messages, from their parsed form to the one answer of each request.

Invariants:

* An entry is made in the reader, before its task, so that a cancel that comes next finds it.
* `_answer` is the only way to the answer of an entry, and answers it once.
* An id is in flight until its answer is written.
* Requests beyond `max_in_flight`, or while the outbox is full, are parked, and reading goes on, so
  that responses and cancels still arrive: two peers that wait for each other's answers go on.
  Only when very much is parked or unwritten does reading stop.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING

from fleetprompt_protocol.call import Batch, CallContext, RequestId
from fleetprompt_protocol.dispatch import Dispatcher, Handler, fault_answer
from fleetprompt_protocol.errors import FleetPromptError, ProtocolError
from fleetprompt_protocol.rpc_error import new_ref, to_rpc_error
from fleetprompt_protocol.wire import Json, dumps, is_request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_protocol.log import Logger
    from fleetprompt_protocol.outbox import Outbox
    from fleetprompt_protocol.peer import Peer

MAX_BATCH = 256
"""Members of a batch: no more than could be in flight."""

MAX_PARKED = 4096
"""Requests that may wait for a place among those in flight; at more, reading stops."""

MAX_PARKED_BYTES = 4 * 1024 * 1024
"""JSON text of the requests that wait; at more, reading stops."""

READ_STOP_FACTOR = 8
"""How many times over the outbox's mark makes reading stop; below that, requests are parked."""

CANCEL_METHOD = "$/cancelRequest"
"""The one method that the peer itself understands: `{id}`."""

serving: ContextVar[Peer | None] = ContextVar("fleetprompt_serving", default=None)
"""The peer whose request the current task answers."""


class Inbound:
    """The requests of the other side that are in flight, and its notifications.

    Args:
        peer: Whose requests they are; handlers see it.
        outbox: Where answers go.
        methods: Handlers by method name.
        inline: Methods that are answered in the reader.
        on_notification: Called with the notifications that are not inline.
        on_response: Called with messages that answer requests of ours.
        max_in_flight: Requests that are worked on at the same time.
        log: Where faults go.
    """

    def __init__(
        self,
        peer: Peer,
        outbox: Outbox,
        methods: Mapping[str, Handler],
        *,
        inline: Mapping[str, Callable[[dict[str, Json]], Json]],
        on_notification: Callable[[str, dict[str, Json]], None] | None,
        on_response: Callable[[dict[str, Json]], None],
        max_in_flight: int,
        log: Logger,
    ) -> None:
        self.in_flight: dict[RequestId, CallContext] = {}
        """Every request whose answer is not written yet."""
        self._peer = peer
        self._outbox = outbox
        self._dispatcher = Dispatcher(methods, self.log_fault)
        self._inline = {**inline, CANCEL_METHOD: self._cancel_request}
        self._on_notification = on_notification
        self._on_response = on_response
        self._max_in_flight = max_in_flight
        self._log = log
        self._parked: dict[RequestId, CallContext] = {}
        self._parked_bytes = 0
        self._busy = 0
        self._room: asyncio.Future[None] | None = None
        self._idle: asyncio.Future[None] | None = None

    # --- room

    def on_room(self) -> None:
        """To be called when something was written: starts what is parked, lets the reader go on."""
        while self._parked and not self._must_park():
            context = next(iter(self._parked.values()))
            self._unpark(context)
            if not context.is_answered:
                self._start(context)
        if self._room is not None and not self._must_stop_reading():
            if not self._room.done():
                self._room.set_result(None)
            self._room = None
        if self._idle is not None and not self.in_flight and not self._idle.done():
            self._idle.set_result(None)

    async def wait_for_room(self) -> None:
        """Returns when more may be read; at once when it may."""
        while self._must_stop_reading():
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def idle(self) -> asyncio.Future[None]:
        """Done when nothing is in flight any more."""
        self._idle = asyncio.get_running_loop().create_future()
        if not self.in_flight:
            self._idle.set_result(None)
        return self._idle

    def _must_park(self) -> bool:
        return self._busy >= self._max_in_flight or self._outbox.is_full

    def _must_stop_reading(self) -> bool:
        return (
            len(self._parked) >= MAX_PARKED
            or self._parked_bytes >= MAX_PARKED_BYTES
            or self._outbox.queued_bytes > READ_STOP_FACTOR * self._outbox.mark_bytes
        )

    def _unpark(self, context: CallContext) -> None:
        if self._parked.pop(context.request_id, None) is not None:
            self._parked_bytes -= context.size_bytes

    # --- messages

    def take(self, message: Json, size_bytes: int) -> None:
        """Handles one parsed message: a request, a notification, a response, or a batch."""
        if isinstance(message, list):
            self._take_batch(message, size_bytes)
        else:
            self._take_one(message, size_bytes, None)

    def refuse(
        self, request_id: RequestId | None, error: ProtocolError, batch: Batch | None = None
    ) -> None:
        """Answers a message that is not a request in flight."""
        self._send(self._answer_text(request_id, {"error": to_rpc_error(error)}), batch)

    def _take_batch(self, messages: list[Json], size_bytes: int) -> None:
        if not 0 < len(messages) <= MAX_BATCH:
            what = f"has {len(messages)} members" if messages else "is empty"
            reason = f"The batch {what}; it must have 1 to {MAX_BATCH}."
            self.refuse(None, _invalid_request(reason))
            return
        batch = Batch()
        batch.missing = 1  # this loop: no answer before every member was taken
        for message in messages:
            self._take_one(message, size_bytes // len(messages), batch)
        batch.missing -= 1
        self._send_batch(batch)

    def _take_one(self, message: Json, size_bytes: int, batch: Batch | None) -> None:
        if not isinstance(message, dict):
            self.refuse(None, _invalid_request("A message must be an object."), batch)
            return
        if "method" not in message and ("result" in message or "error" in message):
            self._on_response(message)
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
            self.refuse(request_id, _invalid_request(problem or ""), batch)
        elif isinstance(params, list) and params:
            reason = "The parameters must be an object; they cannot be given by position."
            if has_id:
                self.refuse(request_id, ProtocolError("protocol.invalid_params", reason), batch)
            else:
                self._log.warning("notification.invalid", method=method, reason=reason)
        elif request_id is not None:
            context = CallContext(
                self._peer, request_id, method, params or {}, size_bytes, batch, self._cancel
            )
            self._take_request(context)
        else:
            self._take_notification(method, params or {})

    def _take_notification(self, method: str, params: dict[str, Json]) -> None:
        try:
            if method in self._inline:
                self._inline[method](params)
            elif self._on_notification is not None:
                self._on_notification(method, params)
            else:
                self._log.debug("notification.ignored", method=method)
        except FleetPromptError as exc:
            self._log.warning("notification.refused", method=method, code=exc.code)
        except Exception as exc:  # noqa: BLE001 — a hook's fault does not stop the reader
            self.log_fault(method, new_ref(), exc)

    def _take_request(self, context: CallContext) -> None:
        request_id, batch = context.request_id, context.batch
        if request_id in self.in_flight:
            reason = "A request with this id is in flight; use another id."
            self.refuse(request_id, ProtocolError("protocol.duplicate_id", reason), batch)
            return
        if context.method in self._inline:
            answer = self._inline_answer(context.method, context.params)
            self._send(self._answer_text(request_id, answer), batch)
            return
        self.in_flight[request_id] = context
        if batch is not None:
            batch.missing += 1
        if self._parked or self._must_park():
            self._parked[request_id] = context
            self._parked_bytes += context.size_bytes
        else:
            self._start(context)

    def _inline_answer(self, method: str, params: dict[str, Json]) -> dict[str, Json]:
        try:
            return {"result": self._inline[method](params)}
        except FleetPromptError as exc:
            return {"error": to_rpc_error(exc)}
        except Exception as exc:  # noqa: BLE001 — whatever an inline method does, it is answered
            return {"error": fault_answer(method, exc, self.log_fault)}

    # --- from a request to its one answer

    def _start(self, context: CallContext) -> None:
        self._busy += 1
        context.task = asyncio.create_task(self._serve(context))

    async def _serve(self, context: CallContext) -> None:
        if context.is_answered:
            return
        context.is_started = True
        serving.set(self._peer)
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
        if isinstance(request_id, str | int | float) and is_request_id(request_id):
            context = self.in_flight.get(request_id)
            if context is not None:
                context.cancel()

    async def stop(self, timeout_s: float) -> None:
        """Cancels every handler and waits until they have ended, but not for longer than that."""
        for context in list(self.in_flight.values()):
            if not context.is_answered:
                context.cancelled = True
                self._cancel(context)
        tasks = [context.task for context in self.in_flight.values() if context.task is not None]
        running = [task for task in tasks if not task.done()]
        if running:
            await asyncio.wait(running, timeout=timeout_s)

    def _answer(self, context: CallContext, answer: dict[str, Json]) -> None:
        if context.is_answered:
            return
        context.is_answered = True
        if self._peer.is_ended:
            self._release((context,))
            return
        text = self._answer_text(context.request_id, answer)
        batch = context.batch
        if batch is None:
            self._outbox.put(
                text, partial(self._release, (context,)), is_alone=len(self.in_flight) == 1
            )
            return
        # A member's place is free now: the whole batch is written only when all are answered.
        if context.task is not None:
            self._busy -= 1
        batch.answers.append((text, context))
        batch.missing -= 1
        self._send_batch(batch)
        self.on_room()

    def _answer_text(self, request_id: RequestId | None, answer: dict[str, Json]) -> bytes:
        try:
            text = dumps({"jsonrpc": "2.0", "id": request_id, **answer})
        except FleetPromptError as exc:
            error = fault_answer("the result", exc.__cause__ or exc, self.log_fault)
            return dumps({"jsonrpc": "2.0", "id": request_id, "error": error})
        limit = self._outbox.limit_bytes
        if len(text) <= limit:
            return text
        if "error" in answer:
            shorter = dict(answer["error"]["data"], message=answer["error"]["message"][:2000])
            shorter.pop("details", None)
            error = {**answer["error"], "message": shorter["message"], "data": shorter}
        else:
            excess = ProtocolError(
                "limit.output_bytes",
                f"The answer has {len(text)} bytes; the limit is {limit}. Ask for less.",
                details={"bytes": len(text), "limit_bytes": limit},
            )
            error = to_rpc_error(excess)
        return dumps({"jsonrpc": "2.0", "id": request_id, "error": error})

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
                not count or size + len(answers[count][0]) + 2 <= self._outbox.limit_bytes
            ):
                size += len(answers[count][0]) + 1
                count += 1
            part, answers = answers[:count], answers[count:]
            contexts = [context for _, context in part if context is not None]
            self._outbox.put(
                b"[%s]" % b",".join(text for text, _ in part), partial(self._release, contexts)
            )

    def _release(self, contexts: list[CallContext] | tuple[CallContext]) -> None:
        """The answers are written, or nobody wants them: the ids may be used again."""
        for context in contexts:
            if context.batch is None and context.task is not None:
                self._busy -= 1
            self.in_flight.pop(context.request_id, None)
            self._unpark(context)

    def log_fault(self, what: str, ref: str, exc: BaseException) -> None:
        """The line in the log that a reference in an error leads to."""
        self._log.error("fault", ref=ref, method=what, exc_info=exc)


def _canceled() -> ProtocolError:
    return ProtocolError("protocol.canceled", "The request was cancelled by its caller.")


def _invalid_request(reason: str) -> ProtocolError:
    return ProtocolError("protocol.invalid_request", f"The message is not a request: {reason}")
