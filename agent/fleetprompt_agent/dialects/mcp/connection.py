"""The stream of one MCP client: frames and limits on our side, messages on the SDK's.

Theory of operation. The reader takes frames, refuses what is no message, and hands the rest to the
SDK's server; the writer is the same outbox that the other dialects use. The SDK knows JSON-RPC and
MCP, this file knows bytes: the limit of what is in flight, ids that are used twice, results that
are too long, a client that does not read, and in which order things end. At the end of the stream
runs are interrupted first, so that the calls that wait for them still answer; only then does the
SDK hear of the end.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.errors import FleetPromptError, ProtocolError
from fleetprompt_protocol.frames import MAX_FRAME_BYTES, FrameDecoder, FrameFault
from fleetprompt_protocol.log import get_logger
from fleetprompt_protocol.outbox import Outbox
from fleetprompt_protocol.peer import MARK_BYTES, MAX_IN_FLIGHT, STALL_S
from fleetprompt_protocol.rpc_error import to_rpc_error
from fleetprompt_protocol.wire import dumps, is_request_id, loads, peek

if TYPE_CHECKING:
    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.dialects.options import Options
    from fleetprompt_protocol.frames import FramingChoice
    from fleetprompt_protocol.transport import Transport
    from fleetprompt_protocol.wire import Json

log = get_logger("mcp")

DRAIN_S = 1.0
"""At the end: for calls to answer, and for what is queued to be taken."""

CANCEL_METHOD = "notifications/cancelled"


class McpConnection:
    """Serves one MCP client; see `dialects.session.Serving`.

    Args:
        agent: What the tools act on.
        transport: The stream; closed at the end.
        options: What the client is shown.
        framing: How messages are told apart.
        received: Bytes that somebody has read from the transport already.
    """

    def __init__(
        self,
        agent: Agent,
        transport: Transport,
        options: Options,
        *,
        framing: FramingChoice = "auto",
        received: bytes = b"",
    ) -> None:
        self._agent = agent
        self._transport = transport
        self._options = options
        self._received = received
        self._decoder = FrameDecoder(framing)
        self._outbox = Outbox(
            transport, mark_bytes=MARK_BYTES, limit_bytes=MAX_FRAME_BYTES, stall_s=STALL_S
        )
        self._outbox.framing = self._decoder.framing or "newline"
        self._in_flight: set[Json] = set()
        """Ids of requests that have no answer yet."""
        self._changed = asyncio.Event()
        """Set when something has left `_in_flight`."""
        self._end_wanted = asyncio.Event()
        self._is_ending = False

    @property
    def queued_bytes(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._outbox.queued_bytes

    async def writable(self) -> None:
        """Returns when the client keeps up again."""
        await self._outbox.wait_not_full()

    def end(self) -> None:
        """Asks for the end; what is queued still goes out."""
        self._is_ending = True
        self._end_wanted.set()

    # Life

    async def run(self) -> str:
        """Serves until the end; `eof`, `closed`, `error` or `stalled`."""
        from fleetprompt_agent.dialects.mcp.sdk import McpServer
        from fleetprompt_agent.dialects.mcp.surface import Surface

        surface = Surface(self._agent, self._options, lambda: self._is_ending)
        server = McpServer(self._agent, self._options, surface)
        writer = asyncio.create_task(self._write())
        serving = asyncio.create_task(server.serve(self))
        reader = asyncio.create_task(self._read(server))
        wanted = asyncio.create_task(self._end_wanted.wait())
        try:
            await asyncio.wait(
                (writer, serving, reader, wanted), return_when=asyncio.FIRST_COMPLETED
            )
            reason = "closed"
            if writer.done():
                reason = writer.result()
            elif reader.done():
                reason = reader.result()
            elif serving.done():
                reason = "error"
                log.error("mcp.ended", exc_info=serving.exception())
            self._is_ending = True
            await self._agent.interrupt()
            if not writer.done():
                await self._drain(serving)
            await server.close()
            await asyncio.wait((serving,), timeout=DRAIN_S)
            self._outbox.end()
            await asyncio.wait((writer,), timeout=DRAIN_S)
            return reason
        finally:
            self._is_ending = True
            tasks = (writer, serving, reader, wanted)
            for task in tasks:
                task.cancel()
            self._transport.close()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _drain(self, serving: asyncio.Task[None]) -> None:
        """Calls whose runs were just interrupted may still answer."""
        try:
            async with asyncio.timeout(DRAIN_S):
                while self._in_flight and not serving.done():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    # What goes out

    async def send(self, message: dict[str, Json]) -> None:
        """Queues a message of the SDK's; waits while the client does not keep up."""
        try:
            text = dumps(message)
            if len(text) > self._outbox.limit_bytes:
                raise ProtocolError(
                    "limit.output_bytes",
                    f"The answer has {len(text)} bytes; at most {self._outbox.limit_bytes} are "
                    "sent. Ask for less, for example with `limit`.",
                )
        except FleetPromptError as error:
            log.error("mcp.unsendable", code=error.code, message=error.message)
            if "method" in message:
                return
            text = dumps(_error(message.get("id"), -32603, error))
        await self._outbox.wait_not_full()
        self._outbox.put(text)
        if "method" not in message:
            self._forget(message.get("id"))

    def _forget(self, request_id: Json) -> None:
        self._in_flight.discard(_key(request_id))
        self._changed.set()

    def _refuse(self, request_id: Json, number: int, error: FleetPromptError) -> None:
        log.warning("mcp.refused", code=error.code, message=error.message)
        self._outbox.put(dumps(_error(request_id, number, error)))

    async def _write(self) -> str:
        try:
            await self._outbox.run()
        except TimeoutError:
            log.warning("mcp.stalled", queued_bytes=self.queued_bytes)
            return "stalled"
        except OSError as error:
            log.info("mcp.gone", reason=os.strerror(error.errno or 32))
            return "eof"
        return "closed"

    # What comes in

    async def _read(self, server: Any) -> str:
        data, self._received = self._received, b""
        while True:
            for frame in self._decoder.feed(data):
                if self._decoder.framing is not None:
                    self._outbox.framing = self._decoder.framing
                if await self._take(frame, server):
                    return "error"
            try:
                data = await self._transport.read()
            except OSError:
                return "eof"
            if not data:
                break
        for frame in self._decoder.finish():
            await self._take(frame, server)
        return "eof"

    async def _take(self, frame: bytes | FrameFault, server: Any) -> bool:
        """Handles one frame; True when no other can follow."""
        if isinstance(frame, FrameFault):
            self._take_unreadable(ProtocolError(frame.code, frame.message), frame.head, frame.tail)
            return frame.is_fatal
        try:
            message = loads(frame)
        except ProtocolError as error:
            self._take_unreadable(error, frame, frame)
            return False
        refusal = self._refusal(message)
        if refusal is not None:
            self._refuse(_id_of(message), -32600, refusal)
            return False
        is_request = "method" in message and "id" in message
        if is_request:
            self._in_flight.add(_key(message["id"]))
        elif message.get("method") == CANCEL_METHOD and isinstance(message.get("params"), dict):
            cancelled = message["params"].get("requestId")
            if is_request_id(cancelled):
                self._forget(cancelled)  # it gets no answer any more
        try:
            await server.take(message)
        except FleetPromptError as error:
            if is_request:
                self._forget(message["id"])
                self._refuse(message["id"], to_rpc_error(error)["code"], error)
        await self._outbox.wait_not_full()
        while len(self._in_flight) >= MAX_IN_FLIGHT:
            self._changed.clear()
            await self._changed.wait()
        return False

    def _refusal(self, message: Json) -> ProtocolError | None:
        """Why a message is not for the SDK; None when it is."""
        if not isinstance(message, dict):
            return _not_a_request("Send one message at a time, not a list.")
        if "method" not in message or "id" not in message:
            return None
        if not is_request_id(message["id"]):
            return _not_a_request("The id must be a text or a whole number.")
        if _key(message["id"]) in self._in_flight:
            return ProtocolError(
                "protocol.duplicate_id", "A request with this id is in flight. Use another one."
            )
        return None

    def _take_unreadable(self, error: ProtocolError, head: bytes, tail: bytes) -> None:
        found = peek(head, tail)
        if found.is_response:
            log.warning("mcp.unreadable_response", code=error.code)
            return
        number = -32700 if error.code == "protocol.parse_error" else -32600
        self._refuse(found.id if found.is_response is False else None, number, error)


def _key(request_id: Json) -> Json:
    """The SDK takes "7", 7 and 7.0 for the same id."""
    return str(int(request_id) if isinstance(request_id, float) else request_id)


def _id_of(message: Json) -> Json:
    found = message.get("id") if isinstance(message, dict) else None
    return found if is_request_id(found) else None


def _error(request_id: Json, number: int, error: FleetPromptError) -> dict[str, Json]:
    return {
        "jsonrpc": "2.0",
        "id": request_id,
        "error": {"code": number, "message": error.message, "data": error.to_data()},
    }


def _not_a_request(hint: str) -> ProtocolError:
    return ProtocolError("protocol.invalid_request", f"This is not a request of MCP. {hint}")
