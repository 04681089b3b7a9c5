"""Logs: JSON lines on standard error, one event each, with the ids of the call that they belong to.

Importing this costs nothing; structlog is imported when the first line is logged. A line is never
worth a wait or an error: if standard error is full or gone, it is dropped and counted.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetprompt_protocol.ids import Correlation

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""What `--log-level` takes, from the most to the least."""

MAX_VALUE_CHARS = 2000
"""Longer texts are cut."""

MAX_TRACEBACK_CHARS = 8000
"""Of a longer traceback the end is kept, where the cause is."""

_bound: ContextVar[dict[str, str]] = ContextVar("fleetprompt_log_ids")
_threshold = LEVELS["info"]
_lock = threading.Lock()
_structlog: Any = None


def configure(level: str = "info") -> None:
    """Sets the lowest level that is written.

    Raises:
        ValueError: There is no such level.
    """
    global _threshold
    if level not in LEVELS:
        raise ValueError(f"the log level must be one of {', '.join(LEVELS)}")
    _threshold = LEVELS[level]


@contextmanager
def bound(correlation: Correlation) -> Iterator[None]:
    """Every line that is logged within, in this task and those it starts, carries the three ids."""
    ids = {
        "request_id": correlation.request_id,
        "correlation_id": correlation.correlation_id,
    }
    if correlation.causation_id is not None:
        ids["causation_id"] = correlation.causation_id
    token = _bound.set(ids)
    try:
        yield
    finally:
        _bound.reset(token)


class Logger:
    """Writes events by a stable name with their values: `log.info("run.started", run_id=…)`.

    Args:
        name: Which part of the product speaks, dotted.
    """

    __slots__ = ("_wrapped", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        """Which part of the product speaks."""
        self._wrapped: Any = None

    def debug(self, event: str, **values: object) -> None:
        """What only a developer wants to know."""
        if _threshold <= 10:
            self._write("debug", event, values)

    def info(self, event: str, **values: object) -> None:
        """What an operator may want to know."""
        if _threshold <= 20:
            self._write("info", event, values)

    def warning(self, event: str, **values: object) -> None:
        """What is wrong, but not with us, or was mended."""
        if _threshold <= 30:
            self._write("warning", event, values)

    def error(self, event: str, **values: object) -> None:
        """A fault of ours; `exc_info` takes the exception."""
        if _threshold <= 40:
            self._write("error", event, values)

    def _write(self, level: str, event: str, values: dict[str, object]) -> None:
        try:
            if self._wrapped is None:
                from fleetprompt_protocol.log_lines import wrap

                self._wrapped = wrap(self.name)
            ids = _bound.get(None)
            self._wrapped.log(level, event, {**ids, **values} if ids else values)
        except Exception:  # noqa: BLE001, S110 — a line is never worth an error in its caller
            pass


def get_logger(name: str) -> Logger:
    """A logger of that name."""
    return Logger(name)
