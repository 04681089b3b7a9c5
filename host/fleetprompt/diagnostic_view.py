"""How diagnostics and errors read: what, where with the source line and a caret, hint, code."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from fleetprompt.cells import cell_width, clip, fold
from fleetprompt.escaping import escape_line, shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetprompt.results import Diagnostic
    from fleetprompt.style import Style
    from fleetprompt_protocol.errors import FleetPromptError

_COLOURS = {"error": "red", "warning": "yellow"}

_TAB = " "
"""A tab is shown as one cell, so that columns of the file stay columns of the screen."""


def diagnostic_lines(
    diagnostic: Diagnostic, source: Sequence[str], width: int, style: Style
) -> list[str]:
    """One finding, with its line of the source when `source` (the file's lines) holds it."""
    place = _place(diagnostic.file, diagnostic.line, diagnostic.column)
    severity = style.paint(diagnostic.severity, _COLOURS.get(diagnostic.severity, ""))
    lines = [f"{style.paint(place, 'bold')}: {severity}"] if place else [severity]
    lines += [f"  {line}" for line in fold(diagnostic.message, width - 2)]
    if diagnostic.line is not None and 1 <= diagnostic.line <= len(source):
        one_line = diagnostic.end_line in (None, diagnostic.line)
        end = diagnostic.end_column if one_line else None
        text = source[diagnostic.line - 1]
        column = diagnostic.column or 1
        lines += excerpt_lines(text, diagnostic.line, column, end, width, style)
    if diagnostic.hint:
        lines += [f"  {line}" for line in fold(f"hint: {diagnostic.hint}", width - 2)]
    lines.append(style.paint(f"  code: {diagnostic.code}", "dim"))
    return lines


def finding_lines(
    diagnostics: Sequence[Diagnostic],
    sources: Mapping[str, Sequence[str]],
    width: int,
    style: Style,
) -> list[str]:
    """Several findings, an empty line after each; `sources` holds files' lines by their names."""
    from fleetprompt.results import Diagnostic

    lines: list[str] = []
    for diagnostic in diagnostics:
        safe = Diagnostic.model_validate(shown(diagnostic.to_json()))
        lines += diagnostic_lines(safe, sources.get(diagnostic.file, ()), width, style)
        lines.append("")
    return lines


def excerpt_lines(
    text: str, number: int, column: int, end_column: int | None, width: int, style: Style
) -> list[str]:
    """A line of source with carets under the columns from `column` to before `end_column`.

    Columns count characters from 1. A line that is too long is cut so that the carets stay in view.
    """
    margin = f"  {number} {style.bar} "
    room = max(width - cell_width(margin), 8)
    characters = [_shown(character) for character in text.rstrip("\r\n")]
    first = min(max(column, 1) - 1, len(characters))
    last = min(max(end_column or column + 1, column + 1) - 1, len(characters))
    widths = [cell_width(character) for character in characters]
    start, span = 0, sum(widths[:last])
    while start < first and span > room - 2 - (start > 0) * cell_width(style.ellipsis):
        span -= widths[start]
        start += 1
    lead = style.ellipsis if start else ""
    shown = clip(lead + "".join(characters[start:]), room, ellipsis=style.ellipsis)
    before = cell_width(lead) + sum(widths[start:first])
    length = max(1, min(sum(widths[first:last]), room - before))
    blank = " " * (cell_width(margin) - 2)
    carets = " " * before + style.paint("^" * length, "red")
    return [f"{margin}{shown}", f"{blank}{style.bar} {carets}"]


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return _TAB if character == "\t" else escape_line(character)


def error_lines(
    error: FleetPromptError, sources: Mapping[str, Sequence[str]], width: int, style: Style
) -> list[str]:
    """An error that ended a command; `sources` holds the lines of files that it names."""
    # What is wrong ended the command; what is only doubtful is for `validate`.
    findings = [one for one in diagnostics_of(error) if one.severity == "error"]
    message = _counted(findings) if findings else escape_line(error.message)
    first, *rest = fold(message, width - 7)
    lines = [f"{style.paint('error', 'red')}: {first}", *(f"  {line}" for line in rest)]
    if findings:
        lines += ["", *finding_lines(findings, sources, width, style)]
    if error.where and not findings:
        lines += _where_lines(error.where, sources, width, style)
    lines.append(style.paint(f"  code: {error.code}", "dim"))
    return lines


def _counted(findings: Sequence[Diagnostic]) -> str:
    return f"The workflow has {len(findings)} error{'' if len(findings) == 1 else 's'}."


def diagnostics_of(error: FleetPromptError) -> list[Diagnostic]:
    """The diagnostics that an error carries; what is not shaped like one is left out."""
    found = (error.details or {}).get("diagnostics")
    if not isinstance(found, list):
        return []
    from pydantic import ValidationError

    from fleetprompt.results import Diagnostic

    known: list[Diagnostic] = []
    for item in found:
        with contextlib.suppress(ValidationError):
            known.append(Diagnostic.model_validate(item))
    return known


def files_named(error: FleetPromptError) -> set[str]:
    """The files whose source lines an error can be shown with, as it names them."""
    files = {finding.file for finding in diagnostics_of(error)}
    where = (error.where or {}).get("file")
    return files | {where} if isinstance(where, str) else files


def _where_lines(
    where: Mapping[str, Any], sources: Mapping[str, Sequence[str]], width: int, style: Style
) -> list[str]:
    file, line, column = where.get("file"), where.get("line"), where.get("column")
    if not isinstance(file, str):
        return []
    number = line if isinstance(line, int) else None
    place = column if isinstance(column, int) else None
    lines = [f"  at {_place(escape_line(file), number, place)}"]
    source = sources.get(file, ())
    if number is not None and 1 <= number <= len(source):
        lines += excerpt_lines(source[number - 1], number, place or 1, None, width, style)
    return lines


def _place(file: str, line: int | None, column: int | None) -> str:
    parts = [file, *(str(number) for number in (line, column) if number is not None)]
    return ":".join(part for part in parts if part)
