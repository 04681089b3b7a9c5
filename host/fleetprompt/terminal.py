"""The terminal that this process belongs to, whatever its standard streams are tied to.

A decision is read here and nowhere else: standard input may be a pipe that a program fills.
"""

from __future__ import annotations

import asyncio
import os
import select
import sys
import termios
import threading
from typing import TYPE_CHECKING, Self

from fleetprompt.style import Style

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from types import TracebackType

_MAX_ANSWER_BYTES = 65_536
"""A line editor gives 4,096; more is no answer that a person typed."""


class ControllingTerminal:
    """An open controlling terminal; ends with `close` or as a context manager.

    Args:
        fd: A descriptor of the terminal, open for reading and writing; owned from now on.
        style: What the terminal can show.
    """

    def __init__(self, fd: int, style: Style) -> None:
        self._fd = fd
        self._pending = b""
        self.style = style

    @property
    def width(self) -> int:
        """How many cells a line has now; 80 when the terminal does not say."""
        try:
            return os.get_terminal_size(self._fd).columns or 80
        except OSError:
            return 80

    def write_lines(self, lines: Iterable[str]) -> None:
        """Show these lines."""
        self._write("".join(f"{line}\n" for line in lines))

    async def ask(self, question: str) -> str | None:
        """The line that the person types in answer, without its end; None at end of input.

        What was typed before the question could be read is thrown away: an answer cannot have been
        meant for a question that was not there.
        """
        termios.tcflush(self._fd, termios.TCIFLUSH)
        self._pending = b""
        self._write(question)
        while b"\n" not in self._pending:
            await self._readable()
            try:
                data = os.read(self._fd, 4096)
            except OSError:
                data = b""
            if not data or len(self._pending) > _MAX_ANSWER_BYTES:
                self._write("\n")
                return None
            self._pending += data
        line, _, self._pending = self._pending.partition(b"\n")
        return line.decode("utf-8", "replace").strip()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        try:
            loop.add_reader(self._fd, _settle, readable)
        except OSError:
            # The event loop of macOS cannot watch a controlling terminal; `select` can.
            await self._select()
            return
        try:
            await readable
        finally:
            loop.remove_reader(self._fd)

    async def _select(self) -> None:
        """Wait in a thread that looks now and then whether anybody still waits for it."""
        is_over = threading.Event()

        def wait() -> None:
            while not is_over.is_set() and not select.select([self._fd], [], [], 0.1)[0]:
                pass

        try:
            await asyncio.to_thread(wait)
        finally:
            is_over.set()

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(self._fd, data) :]

    def close(self) -> None:
        """Give the descriptor back."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def open_terminal() -> ControllingTerminal | None:
    """The controlling terminal, or None when this process has none."""
    try:
        fd = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return ControllingTerminal(fd, Style(colour=colour))


def terminal_at_hand(options: argparse.Namespace) -> ControllingTerminal | None:
    """The terminal to ask at, when a person is at both ends of this command; None otherwise."""
    if options.json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        return None
    return open_terminal()


def terminal_for_decision(what: str) -> ControllingTerminal:
    """The terminal that a decision must be read from.

    Raises:
        PolicyError: there is none.
    """
    from fleetprompt_protocol.errors import PolicyError

    terminal = open_terminal()
    if terminal is None:
        raise PolicyError(
            "decision.no_terminal",
            f"{what} is decided by a person at a terminal, and this process has none. "
            "Run the command in a terminal of your own.",
        )
    return terminal
