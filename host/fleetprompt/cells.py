"""Text as a terminal shows it: how many cells it takes, and how to make it fit.

A cell is one column of a terminal. Text is expected to hold no control characters; escape them
first (`fleetprompt_protocol.redaction.escape_controls`).
"""

from __future__ import annotations

import unicodedata

_ZERO_WIDTH = frozenset({"Mn", "Me", "Cf"})


def cell_width(text: str) -> int:
    """How many cells the text takes: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in _ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int, *, ellipsis: str = "…") -> str:
    """The text, or as much of its beginning as fits into `width` cells with an ellipsis."""
    if cell_width(text) <= width:
        return text
    room = width - cell_width(ellipsis)
    if room < 0:
        return ""
    kept: list[str] = []
    for character in text:
        room -= _character_width(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept) + ellipsis


def pad(text: str, width: int, *, align: str = "left") -> str:
    """The text filled with spaces to `width` cells."""
    space = " " * max(0, width - cell_width(text))
    return space + text if align == "right" else text + space


def fold(text: str, width: int) -> list[str]:
    """The text as lines of at most `width` cells, broken at spaces where there are any.

    Line breaks in the text stay; an empty text gives one empty line.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _fold_paragraph(paragraph, max(width, 2))
    return lines


def _fold_paragraph(paragraph: str, width: int) -> list[str]:
    """One pass, so that a text on one long line costs what its length is."""
    lines: list[str] = []
    start = used = 0
    space = -1  # where the present line may be broken; never within its indentation
    is_indent = True
    for i, character in enumerate(paragraph):
        cells = 1 if character.isascii() else _character_width(character)
        if used + cells > width:
            if character == " " and not is_indent:
                space = i
            if space < 0:
                lines.append(paragraph[start:i])
                start, used = i, 0
            else:
                lines.append(paragraph[start:space].rstrip())
                start = space + 1
                used = cell_width(paragraph[start:i])
            space = -1
            is_indent = start == i + 1 or paragraph[start : i + 1].isspace()
            if start == i + 1:
                continue
        if character != " ":
            is_indent = False
        elif not is_indent:
            space = i
        used += cells
    lines.append(paragraph[start:])
    return lines
