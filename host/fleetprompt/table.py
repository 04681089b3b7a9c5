"""Tables that fit the terminal."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fleetprompt.cells import cell_width, clip, pad

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt.style import Style

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    title: str
    least: int = 0
    """How many cells it keeps when the table must shrink; 0: it never shrinks."""
    align: Literal["left", "right"] = "left"
    is_optional: bool = False
    """Whether it is left out where there is no room for all."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One value, and the colour it is shown in."""

    text: str
    colour: str = ""


def table_lines(
    columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], width: int, style: Style
) -> list[str]:
    """The table with its head, each line at most `width` cells where the columns allow it.

    Columns that nothing stands in are left out. Those that may shrink give way by turns, the widest
    first; line breaks in a cell become spaces.
    """
    cells = [[_cell(value) for value in row] for row in rows]
    used = [i for i in range(len(columns)) if any(row[i].text for row in cells)]
    columns, cells = _only(used, columns, cells)
    while columns:
        widths = _fit(columns, cells, width)
        optional = [i for i, column in enumerate(columns) if column.is_optional]
        if sum(widths) + len(_GAP) * (len(widths) - 1) <= width or not optional:
            break
        kept = [i for i in range(len(columns)) if i != optional[-1]]
        columns, cells = _only(kept, columns, cells)
    else:
        return []
    head = [Cell(column.title, "dim") for column in columns]
    return [_line(columns, row, widths, style) for row in [head, *cells]]


def _only(
    kept: list[int], columns: Sequence[Column], rows: list[list[Cell]]
) -> tuple[Sequence[Column], list[list[Cell]]]:
    return [columns[i] for i in kept], [[row[i] for i in kept] for row in rows]


def _cell(value: Cell | str) -> Cell:
    cell = Cell(value) if isinstance(value, str) else value
    return Cell(" ".join(cell.text.split()), cell.colour)


def _fit(columns: Sequence[Column], rows: list[list[Cell]], width: int) -> list[int]:
    widths = [
        min(width, max([cell_width(column.title), *(cell_width(row[i].text) for row in rows)]))
        for i, column in enumerate(columns)
    ]
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    while excess > 0:
        shrinkable = [i for i, column in enumerate(columns) if 0 < column.least < widths[i]]
        if not shrinkable:
            break
        widest = max(shrinkable, key=lambda i: widths[i])
        widths[widest] -= 1
        excess -= 1
    return widths


def _line(columns: Sequence[Column], row: list[Cell], widths: list[int], style: Style) -> str:
    parts: list[str] = []
    for i, (column, cell, width) in enumerate(zip(columns, row, widths, strict=True)):
        text = clip(cell.text, width, ellipsis=style.ellipsis)
        is_last = i == len(columns) - 1
        filled = (
            text if is_last and column.align == "left" else pad(text, width, align=column.align)
        )
        parts.append(filled.replace(text, style.paint(text, cell.colour)) if text else filled)
    return _GAP.join(parts).rstrip()
