"""Colours and signs, as far as the stream that shows them can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

_SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "blue": "34"}

_SIGNS = {
    "pending": ("·", "."),
    "started": ("▸", ">"),
    "running": ("▸", ">"),
    "retrying": ("↻", "~"),
    "waiting": ("⏸", "?"),
    "completed": ("✓", "+"),
    "succeeded": ("✓", "+"),
    "failed": ("✗", "x"),
    "skipped": ("–", "-"),
    "canceled": ("⊘", "/"),
    "unknown": ("!", "!"),
    "interrupted": ("!", "!"),
}

_COLOURS = {
    "started": "blue",
    "running": "blue",
    "retrying": "yellow",
    "waiting": "yellow",
    "completed": "green",
    "succeeded": "green",
    "failed": "red",
    "skipped": "dim",
    "canceled": "yellow",
    "unknown": "red",
    "interrupted": "yellow",
    "pending": "dim",
}


@dataclass(frozen=True, slots=True)
class Style:
    """What one stream can show."""

    colour: bool = False
    unicode: bool = True

    def paint(self, text: str, name: str) -> str:
        """The text in a colour (`bold dim red green yellow blue`, or empty for none)."""
        if not (self.colour and name and text):
            return text
        return f"\x1b[{_SGR[name]}m{text}\x1b[0m"

    def sign(self, state: str) -> str:
        """One cell that stands for a state of a step or a run, without colour."""
        return _SIGNS.get(state, (" ", " "))[0 if self.unicode else 1]

    def colour_of(self, state: str) -> str:
        """The name of the colour for a state; empty when it has none."""
        return _COLOURS.get(state, "")

    @property
    def ellipsis(self) -> str:
        """What stands for text that was cut."""
        return "…" if self.unicode else "..."

    @property
    def rule(self) -> str:
        """One cell of a horizontal line."""
        return "─" if self.unicode else "-"

    @property
    def bar(self) -> str:
        """One cell of a vertical line."""
        return "│" if self.unicode else "|"


def style_of(stream: TextIO, environ: Mapping[str, str]) -> Style:
    """The style for a stream: colour only on a terminal that has it and without `NO_COLOR`."""
    colour = (
        stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"
    )
    encoding = (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "")
    return Style(colour=colour, unicode=encoding.startswith("utf"))
