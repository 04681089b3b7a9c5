"""Shows a run while it runs: redrawn in place on a terminal, as plain lines elsewhere."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, TextIO

from fleetprompt.cells import cell_width, fold
from fleetprompt.progress import Board, board_lines, status_line

if TYPE_CHECKING:
    from fleetprompt.results import StepStatus
    from fleetprompt.style import Style

_REDRAW_S = 0.05
"""Twenty frames a second are more than anybody reads; more would only cost."""

_TICK_S = 0.5
"""How often the time of a running step is drawn anew."""


class Display(Protocol):
    """Where a run's progress goes. Texts are escaped before they come here."""

    def update(self, status: StepStatus) -> None:
        """Take in one status chunk."""

    def note(self, text: str) -> None:
        """Say one sentence that stays."""

    def clear(self) -> None:
        """Make room for a question or the end; a later update may draw again."""


class SilentDisplay:
    """Shows nothing, for programs that read the result alone."""

    def update(self, status: StepStatus) -> None:
        """Drop the chunk."""

    def note(self, text: str) -> None:
        """Drop the sentence."""

    def clear(self) -> None:
        """Nothing is there to clear."""


class LineDisplay:
    """One line for each thing that happens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._last_of_run = ""

    def update(self, status: StepStatus) -> None:
        """Write what happened, with the time of day; of the run itself only what is new."""
        if status.step_path is None:
            if status.text == self._last_of_run:
                return
            self._last_of_run = status.text
        self.note(status_line(status, datetime.now(UTC)))

    def note(self, text: str) -> None:
        """Write the sentence as a line."""
        self._stream.write(f"{text}\n")
        self._stream.flush()

    def clear(self) -> None:
        """Lines stay."""


class LiveDisplay:
    """One line for each step, redrawn in place; needs a running event loop.

    Args:
        stream: A terminal.
        style: What it can show.
    """

    def __init__(self, stream: TextIO, style: Style) -> None:
        self._stream = stream
        self._style = style
        self._board = Board()
        self._drawn: list[int] = []
        self._timer: asyncio.TimerHandle | None = None
        self._is_due = False

    def update(self, status: StepStatus) -> None:
        """Take in one status chunk and draw soon."""
        self._board.apply(status, time.monotonic())
        if not self._is_due:
            self._is_due = True
            self._schedule(_REDRAW_S)

    def note(self, text: str) -> None:
        """Write the sentence above the steps."""
        self._erase()
        self._stream.write("".join(f"{line}\n" for line in fold(text, self._size()[0])))
        self._draw()

    def clear(self) -> None:
        """Take the steps off the screen; what was heard of them is kept."""
        self._stop_timer()
        self._erase()
        self._stream.flush()

    def _schedule(self, delay_s: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._redraw)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _redraw(self) -> None:
        self._erase()
        self._draw()

    def _draw(self) -> None:
        columns, rows = self._size()
        # One column is left free: a full line makes some terminals wrap before the line break.
        lines = board_lines(
            self._board, time.monotonic(), columns - 1, max(1, rows - 2), self._style
        )
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()
        self._drawn = [_drawn_width(line) for line in lines]
        self._is_due = False
        self._stop_timer()
        if self._board.is_active:
            self._schedule(_TICK_S)

    def _erase(self) -> None:
        """Go up over what was drawn; a terminal that became narrower has wrapped some of it."""
        if not self._drawn:
            return
        columns, rows = self._size()
        up = sum(max(1, -(-width // columns)) for width in self._drawn)
        self._stream.write(f"\x1b[{min(up, rows)}A\r\x1b[J")
        self._drawn = []

    def _size(self) -> tuple[int, int]:
        try:
            size = os.get_terminal_size(self._stream.fileno())
        except OSError:
            return 80, 24
        return max(size.columns, 20) if size.columns else 80, size.lines or 24


def _drawn_width(line: str) -> int:
    """The cells of a line that may hold colours; escape sequences take none."""
    width = 0
    for i, part in enumerate(line.split("\x1b[")):
        width += cell_width(part if i == 0 else part.partition("m")[2])
    return width
