"""How a log line is made and written; imported when the first one is logged, with structlog."""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
import traceback
from typing import TYPE_CHECKING, Any

import structlog

from fleetprompt_protocol.descriptors import open_private
from fleetprompt_protocol.log import MAX_TRACEBACK_CHARS, MAX_VALUE_CHARS
from fleetprompt_protocol.redaction import escape_controls, redact_text
from fleetprompt_protocol.wire import dumps

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_ATOMIC_BYTES = select.PIPE_BUF
"""What a pipe takes whole or not at all, and has room for when it polls as writable."""

_PATIENCE_MS = 50
"""How long one line may wait for a full standard error; after that lines are dropped at once."""

_MAX_ENTRIES = 50
_MAX_LEVELS = 5


class StderrLines:
    """Writes lines to standard error without ever waiting long, changing its mode, or raising."""

    def __init__(self, fd: int = 2) -> None:
        self._lock = threading.Lock()
        self._fd = fd
        self._is_full = False
        self._is_torn = False
        self.dropped = 0
        """Lines that were dropped since the last one that was written."""
        try:
            mode = os.fstat(fd).st_mode
            own = open_private(fd, os.O_WRONLY) if stat.S_ISFIFO(mode) else None
        except OSError:
            own = None
        if own is not None:
            self._fd = own

    def msg(self, line: bytes) -> None:
        """Writes one line, or drops it."""
        with self._lock:
            note = b""
            if self.dropped:
                note = b'{"level":"warning","event":"log.dropped","lines":%d}\n' % self.dropped
            if self._write((b"\n" if self._is_torn else b"") + note + line + b"\n"):
                self.dropped = 0
            else:
                self.dropped += 1

    debug = info = warning = error = msg  # structlog calls the method that is named as the level

    def _write(self, data: bytes) -> bool:
        start = 0
        while start < len(data):
            try:
                start += self._write_piece(data[start : start + _ATOMIC_BYTES])
            except OSError:
                self._is_torn = self._is_torn or start > 0
                return False
        self._is_torn = False
        return True

    def _write_piece(self, piece: bytes) -> int:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        ready = poll.poll(0 if self._is_full else _PATIENCE_MS)
        self._is_full = not ready
        if not ready:
            raise OSError(errno.EAGAIN, "full")
        return os.write(self._fd, piece)


def _stamp(logger: StderrLines, method: str, event: MutableMapping[str, Any]) -> Any:  # noqa: ARG001 — structlog's signature
    """Puts what every line has first, and makes each value safe to show."""
    exc = event.pop("exc_info", None)
    line: dict[str, Any] = {
        "ts": event.pop("timestamp"),
        "level": event.pop("level"),
        "event": event.pop("event"),
        "logger": event.pop("logger"),
    }
    line.update({key: shown(value) for key, value in event.items()})
    if isinstance(exc, BaseException):
        text = "".join(traceback.format_exception(exc, limit=-20))[-MAX_TRACEBACK_CHARS:]
        line["traceback"] = escape_controls(redact_text(text))
    return line


def shown(value: object, level: int = 0) -> Any:
    """A copy of the value for a log: bounded, without controls and what looks like a secret."""
    if value is None or isinstance(value, bool | float):
        return value if value == value else "NaN"
    if isinstance(value, int):
        return value if abs(value) < 2**63 else "a large number"
    if isinstance(value, bytes):
        value = value[: MAX_VALUE_CHARS * 4].decode(errors="backslashreplace")
    if isinstance(value, dict) and level < _MAX_LEVELS:
        items = list(value.items())[:_MAX_ENTRIES]
        return {shown(str(key)): shown(item, level + 1) for key, item in items}
    if isinstance(value, list | tuple | set | frozenset) and level < _MAX_LEVELS:
        return [shown(item, level + 1) for item in list(value)[:_MAX_ENTRIES]]
    text = value if isinstance(value, str) else f"<{type(value).__name__}>"
    if isinstance(value, os.PathLike):
        text = os.fsdecode(value)
    cut = text[:MAX_VALUE_CHARS]
    return escape_controls(redact_text(cut)) + ("…" if len(text) > MAX_VALUE_CHARS else "")


def _render(logger: StderrLines, method: str, line: MutableMapping[str, Any]) -> bytes:  # noqa: ARG001 — structlog's signature
    return dumps(line)


_lines: StderrLines | None = None


class Wrapped:
    """A structlog logger behind the one call that `log.Logger` makes."""

    __slots__ = ("_logger", "_name")

    def __init__(self, name: str, lines: StderrLines) -> None:
        self._logger: Any = structlog.wrap_logger(
            lines,
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                _stamp,
                _render,
            ],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )
        self._name = name

    def log(self, level: str, event: str, values: dict[str, object]) -> None:
        """Writes one line."""
        getattr(self._logger, level)(event, **values, logger=self._name)


def wrap(name: str) -> Wrapped:
    """A logger of that name that writes to standard error."""
    global _lines
    if _lines is None:
        _lines = StderrLines()
    return Wrapped(name, _lines)
