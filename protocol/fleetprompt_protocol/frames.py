"""Bytes in, messages out: the two framings of a byte stream, without any descriptor in sight.

Newline framing: one JSON text a line. Content-Length framing: headers, a blank line, a body.
A message over the limit is dropped while it streams: of it only its two ends are kept.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from fleetprompt_protocol.wire import PEEK_BYTES

Framing: TypeAlias = Literal["newline", "content-length"]
"""How messages are told apart in the stream."""

FramingChoice: TypeAlias = Literal["auto", "newline", "content-length"]
"""A framing, or `auto`: the first byte that the peer sends decides."""

Frame: TypeAlias = bytes
"""One message's JSON text, unparsed."""

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""The longest message that is held (protocol.md §1)."""

MAX_HEADER_BYTES = 8 * 1024
"""The longest block of headers."""

MAX_DECLARED_BYTES = 64 * 1024 * 1024
"""A declared length above this is not even skipped: the stream is given up."""

_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"


class FrameFault(NamedTuple):
    """A stretch of the stream that is not a message within the limits."""

    code: Literal["protocol.frame_too_large", "protocol.parse_error"]
    """The error that the peer is told."""
    message: str
    """What was wrong, for the peer."""
    head: bytes = b""
    """The first bytes of the message, in which its id may stand."""
    tail: bytes = b""
    """The last bytes of the message, when it is longer than `head`."""
    is_fatal: bool = False
    """Whether the next message cannot be found any more, so that the stream must end."""


class _Oversize:
    """What is kept of a message that is too long to hold: its ends and its length."""

    __slots__ = ("head", "size", "tail")

    def __init__(self) -> None:
        self.head = b""
        self.tail = b""
        self.size = 0

    def add(self, data: bytes | bytearray) -> None:
        self.size += len(data)
        if len(self.head) < PEEK_BYTES:
            taken = bytes(data[: PEEK_BYTES - len(self.head)])
            self.head += taken
            data = data[len(taken) :]
        self.tail = (self.tail + bytes(data[-PEEK_BYTES:]))[-PEEK_BYTES:]

    def fault(self, limit: int) -> FrameFault:
        return FrameFault(
            "protocol.frame_too_large",
            f"The message has {self.size} bytes; the limit is {limit}.",
            self.head,
            self.tail,
        )


class FrameDecoder:
    """Turns a stream, in chunks of any size, into the same messages.

    Args:
        framing: `auto` skips a byte order mark and white space, then takes a `C` for a header and
            anything else for newline framing.
        max_frame_bytes: The longest message; memory stays below it plus one chunk.
    """

    def __init__(
        self, framing: FramingChoice = "auto", max_frame_bytes: int = MAX_FRAME_BYTES
    ) -> None:
        self.framing: Framing | None = None if framing == "auto" else framing
        """The framing in use; None as long as `auto` has seen nothing that decides."""
        self.max_frame_bytes = max_frame_bytes
        """The longest message that is given out."""
        self._at_start = True
        self._held = bytearray()
        self._oversize: _Oversize | None = None
        self._body_bytes: int | None = None
        self._is_broken = False

    @property
    def held_bytes(self) -> int:
        """Bytes of unfinished messages that are kept."""
        return len(self._held)

    def feed(self, data: bytes) -> list[Frame | FrameFault]:
        """The messages and faults that these bytes complete, in order."""
        if self._is_broken or not data:
            return []
        if self._at_start:
            data = self._skip_start(data)
            if self._at_start:
                return []
        if self.framing == "newline":
            return self._feed_lines(data)
        return self._feed_headed(data)

    def finish(self) -> list[Frame | FrameFault]:
        """What the end of the stream leaves: a last line without its newline, or a fault."""
        if self._is_broken:
            return []
        self._is_broken = True
        held = bytes(self._held)
        self._held.clear()
        if self._oversize is not None:
            return [self._oversize.fault(self.max_frame_bytes)]
        if self.framing == "content-length":
            if self._body_bytes is None and not held.strip(_BLANK):
                return []
            part, head = ("headers", b"") if self._body_bytes is None else ("body", held)
            return [
                FrameFault(
                    "protocol.parse_error",
                    f"The stream ended within the {part} of a message.",
                    head[:PEEK_BYTES],
                    is_fatal=True,
                )
            ]
        line = held.strip(_BLANK)
        return [line] if line else []

    def _skip_start(self, data: bytes) -> bytes:
        """The bytes from the first that counts; empty as long as none has come."""
        data = bytes(self._held) + data
        self._held.clear()
        while data[:1] and (data[:1] in _BLANK or data.startswith(_BOM)):
            data = data.removeprefix(_BOM).lstrip(_BLANK)
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._held += data
            return b""
        self._at_start = False
        if self.framing is None:
            self.framing = "content-length" if data[:1] in (b"C", b"c") else "newline"
        return data

    def _feed_lines(self, data: bytes) -> list[Frame | FrameFault]:
        found: list[Frame | FrameFault] = []
        lines = data.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if self._held or self._oversize is not None:
                self._hold(line)
                if self._oversize is not None:
                    found.append(self._oversize.fault(self.max_frame_bytes))
                    self._oversize = None
                    continue
                line = bytes(self._held)
                self._held.clear()
            elif len(line) > self.max_frame_bytes:
                oversize = _Oversize()
                oversize.add(line)
                found.append(oversize.fault(self.max_frame_bytes))
                continue
            line = line.strip(_BLANK)
            if line:
                found.append(line)
        if rest:
            self._hold(rest)
        return found

    def _hold(self, data: bytes) -> None:
        if self._oversize is None:
            if len(self._held) + len(data) <= self.max_frame_bytes:
                self._held += data
                return
            self._oversize = _Oversize()
            self._oversize.add(self._held)
            self._held.clear()
        self._oversize.add(data)

    def _feed_headed(self, data: bytes) -> list[Frame | FrameFault]:
        found: list[Frame | FrameFault] = []
        while data and not self._is_broken:
            if self._body_bytes is None:
                data = self._feed_header(data, found)
            else:
                data = self._feed_body(data, found)
        return found

    def _feed_header(self, data: bytes, found: list[Frame | FrameFault]) -> bytes:
        """Consumes headers; the rest of the data belongs to the body."""
        if not self._held:
            data = data.lstrip(_BLANK)
        start = len(self._held)
        # The longest headers and the longest blank line after them: enough to tell.
        self._held += data[: MAX_HEADER_BYTES + 4 - start]
        end, skip = _end_of_headers(self._held)
        if end > MAX_HEADER_BYTES or (end < 0 and len(self._held) == MAX_HEADER_BYTES + 4):
            self._break(found, f"The headers are longer than {MAX_HEADER_BYTES} bytes.")
            return b""
        if end < 0:
            return b""
        length = _content_length(bytes(self._held[:end]))
        self._held.clear()
        if length is None:
            self._break(found, "The headers hold no single valid Content-Length.")
        elif length > MAX_DECLARED_BYTES:
            self._break(
                found,
                f"A message of {length} bytes was announced; the limit is {self.max_frame_bytes}.",
                code="protocol.frame_too_large",
            )
        elif length == 0:
            found.append(b"")
        else:
            self._body_bytes = length
            if length > self.max_frame_bytes:
                self._oversize = _Oversize()
        return data[end + skip - start :]

    def _feed_body(self, data: bytes, found: list[Frame | FrameFault]) -> bytes:
        """Consumes the body; the rest of the data belongs to the next message."""
        length = self._body_bytes or 0
        if self._oversize is not None:
            taken = data[: length - self._oversize.size]
            self._oversize.add(taken)
            if self._oversize.size == length:
                found.append(self._oversize.fault(self.max_frame_bytes))
                self._oversize = None
                self._body_bytes = None
            return data[len(taken) :]
        taken = data[: length - len(self._held)]
        if not self._held and len(taken) == length:
            found.append(taken)
            self._body_bytes = None
            return data[length:]
        self._held += taken
        if len(self._held) == length:
            found.append(bytes(self._held))
            self._held.clear()
            self._body_bytes = None
        return data[len(taken) :]

    def _break(
        self,
        found: list[Frame | FrameFault],
        message: str,
        code: Literal["protocol.frame_too_large", "protocol.parse_error"] = "protocol.parse_error",
    ) -> None:
        self._is_broken = True
        self._held.clear()
        found.append(FrameFault(code, message, is_fatal=True))


def _end_of_headers(held: bytearray) -> tuple[int, int]:
    """Where the headers end and how long the blank line after them is; -1 when it has not come."""
    ends = [(held.find(blank), len(blank)) for blank in (b"\r\n\r\n", b"\n\n")]
    return min((end for end in ends if end[0] >= 0), default=(-1, 0))


def _content_length(headers: bytes) -> int | None:
    lengths = set()
    for line in headers.splitlines():
        name, colon, value = line.partition(b":")
        if not colon:
            return None
        if name.strip().lower() == b"content-length":
            value = value.strip()
            if not value.isdigit() or len(value) > 18:
                return None
            lengths.add(int(value))
    return lengths.pop() if len(lengths) == 1 else None


def encode_frame(text: bytes, framing: Framing) -> bytes:
    """The bytes that carry one JSON text; it must hold no newline, as `wire.dumps` makes it."""
    if framing == "newline":
        return text + b"\n"
    return b"Content-Length: %d\r\n\r\n%s" % (len(text), text)
