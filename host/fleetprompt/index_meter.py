"""How far an index run is, as one line that is redrawn on a terminal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from fleetprompt.cells import cell_width, clip
from fleetprompt.output import width_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt.style import Style
    from fleetprompt_indexer.index import Progress

_QUIET_S = 0.3
"""A run that is over by then shows nothing."""

_REDRAW_S = 0.1

_MOST_BAR = 30
"""Cells of the bar; what is left of the line is for the numbers."""

_LEAST_BAR = 6


def progress_line(progress: Progress, width: int, style: Style) -> str:
    """The run as text of at most `width` cells: a bar as soon as the number of roots is known."""
    if progress.total is None:
        said = f"{progress.folders:,} folders, {progress.roots:,} repositories  {progress.path}"
        return clip(said, width, ellipsis=style.ellipsis)
    workflows = f", {progress.found:,} workflows"
    said = f"{progress.roots:,} of {progress.total:,} repositories"
    for text in (said + workflows, said):
        cells = min(_MOST_BAR, width - cell_width(text) - 1)
        if cells >= _LEAST_BAR:
            done = cells * min(progress.roots, progress.total) // max(progress.total, 1)
            full, empty = ("━", "─") if style.unicode else ("#", "-")
            return f"{full * done}{empty * (cells - done)} {text}"
    return clip(said, width, ellipsis=style.ellipsis)


class IndexMeter:
    """Draws the progress of an index run in place.

    Args:
        stream: A terminal.
        style: What it can show.
        clock: Gives seconds.
    """

    def __init__(
        self, stream: TextIO, style: Style, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._style = style
        self._clock = clock
        self._next_at = clock() + _QUIET_S
        self._is_drawn = False

    def update(self, progress: Progress) -> None:
        """Draw the progress, unless that was done a moment ago."""
        now = self._clock()
        if now < self._next_at:
            return
        self._next_at = now + _REDRAW_S
        # One column is left free: a full line makes some terminals wrap.
        line = progress_line(progress, width_of(self._stream) - 1, self._style)
        self._is_drawn = True  # before it is: Ctrl-C may come in between
        self._stream.write(f"\r\x1b[J{line}")
        self._stream.flush()

    def clear(self) -> None:
        """Take the line off the screen."""
        if self._is_drawn:
            self._stream.write("\r\x1b[J")
            self._stream.flush()
            self._is_drawn = False
