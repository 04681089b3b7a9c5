"""What the first request of a stream says about its dialect (protocol.md §4, Who speaks first).

Looking at it consumes nothing: the bytes that were read are handed on to whoever serves the stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fleetprompt_protocol.errors import ProtocolError
from fleetprompt_protocol.frames import FrameDecoder, FrameFault
from fleetprompt_protocol.wire import loads

if TYPE_CHECKING:
    from fleetprompt_protocol.frames import FramingChoice
    from fleetprompt_protocol.transport import Transport

VERSION_KEY = "io.modelcontextprotocol/protocolVersion"
"""In `_meta` of every request of MCP's stateless era (2026-07-28)."""

MAX_OPENING_BYTES = 1024 * 1024
"""Notifications decide nothing; a stream that sends so much of them and no request is not MCP."""

_MCP_METHODS = ("server/discover", "ping")
_MCP_FAMILIES = (
    "tools", "prompts", "resources", "completion", "logging", "subscriptions", "tasks",
)  # fmt: skip


class Opening(NamedTuple):
    """How a stream began."""

    dialect: Literal["mcp", "other"]
    received: bytes
    """Everything that was read to find out."""


async def read_opening(transport: Transport, framing: FramingChoice) -> Opening:
    """The dialect of the first request; `other` too when the stream ends or cannot be read."""
    decoder = FrameDecoder(framing)
    received = bytearray()
    while len(received) <= MAX_OPENING_BYTES:
        try:
            data = await transport.read()
        except OSError:
            data = b""
        received += data
        frames = decoder.feed(data) if data else decoder.finish()
        for frame in frames:
            dialect = _dialect_of(frame)
            if dialect is not None:
                return Opening(dialect, bytes(received))
        if not data:
            break
    return Opening("other", bytes(received))


def _dialect_of(frame: bytes | FrameFault) -> Literal["mcp", "other"] | None:
    """What a frame decides; None for one that decides nothing."""
    if isinstance(frame, FrameFault):
        return "other"
    try:
        message = loads(frame)
    except ProtocolError:
        return "other"
    if not isinstance(message, dict):
        return "other"
    method = message.get("method")
    if not isinstance(method, str) or "id" not in message:
        return None
    return "mcp" if is_mcp(method, message.get("params")) else "other"


def is_mcp(method: str, params: Any) -> bool:
    """Whether a request can only be one of the Model Context Protocol."""
    if method in _MCP_METHODS or method.partition("/")[0] in _MCP_FAMILIES:
        return True
    if not isinstance(params, dict):
        return False
    if method == "initialize":
        return isinstance(params.get("protocolVersion"), str)
    meta = params.get("_meta")
    return isinstance(meta, dict) and VERSION_KEY in meta
