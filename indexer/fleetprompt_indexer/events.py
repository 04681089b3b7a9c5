"""The stream of parse events of a text, and what a parser's complaint means in plain words.

YAML is read by libyaml through PyYAML, event by event: nothing is composed or constructed, no tag
is looked up and no alias followed. Where PyYAML was built without libyaml its own parser gives the
same events, some twenty times slower.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal, Protocol

from yaml.error import MarkedYAMLError
from yaml.events import (
    AliasEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
    StreamEndEvent,
)
from yaml.reader import ReaderError

from fleetprompt_indexer.display import display
from fleetprompt_indexer.lines import Lines
from fleetprompt_indexer.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from yaml import YAMLError

Format = Literal["yaml", "json"]

BOM = "\ufeff"


class EventParser(Protocol):
    """Gives one event after the other, the last one of type `stream_end`."""

    scalar: Any
    """The types of its events; one of another type is an end."""
    map_start: Any
    list_start: Any
    alias: Any
    stream_end: Any

    @property
    def get_event(self) -> Callable[[], Any]:
        """Give the next event."""

    def position(self, mark: Any) -> tuple[int, int]:
        """Line and column of an event's mark, both from 0."""


class YamlParser:
    """PyYAML's parser and its types of events."""

    scalar: Any = ScalarEvent
    map_start: Any = MappingStartEvent
    list_start: Any = SequenceStartEvent
    alias: Any = AliasEvent
    stream_end: Any = StreamEndEvent

    def __init__(self, parser: Any) -> None:
        self.get_event: Callable[[], Any] = parser.get_event

    def position(self, mark: Any) -> tuple[int, int]:
        """Line and column of an event's mark, both from 0."""
        return mark.line, mark.column


def open_parser(text: str, *, format: Format) -> EventParser:  # noqa: A002  # the word users know
    """A parser at the start of the text.

    Raises:
        yaml.YAMLError: The first characters cannot be read; `syntax_problem` explains it.
    """
    if format == "json":
        from fleetprompt_indexer.json_events import JsonParser

        return JsonParser(text)
    return YamlParser(_yaml_parser(text))


def decode(data: bytes) -> tuple[str, list[Problem]]:
    """The text of the bytes and what is to be said about it; empty text when it is not UTF-8."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        line, column = Lines(before).position(len(before))
        found = "It looks like UTF-16." if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        message = f"The byte 0x{data[error.start]:02x} is not UTF-8. {found}".rstrip()
        hint = "save the file as UTF-8"
        return "", [
            Problem("document.encoding", message, line=line + 1, column=column + 1, hint=hint)
        ]
    if text.startswith(BOM):
        problem = Problem(
            "document.bom",
            "The file begins with a byte order mark, which is skipped.",
            severity="warning",
            line=1,
            column=1,
            hint="save the file as UTF-8 without a byte order mark",
        )
        return text[1:], [problem]
    return text, []


def _yaml_parser(text: str) -> Any:
    try:
        from yaml._yaml import CParser
    except ImportError:
        return pure_yaml_parser(text)
    return CParser(text)


def pure_yaml_parser(text: str) -> Any:
    """PyYAML's own parser, for installations without libyaml."""
    from yaml.parser import Parser
    from yaml.reader import Reader
    from yaml.scanner import Scanner

    class PureParser(Reader, Scanner, Parser):
        """Reader, scanner and parser in one, as PyYAML's loaders combine them."""

        def __init__(self) -> None:
            Reader.__init__(self, text)
            Scanner.__init__(self)
            Parser.__init__(self)

    return PureParser()


# Parts of libyaml's (and the pure parser's) messages, and the sentence for each. First match wins.
_SENTENCES: tuple[tuple[str, str, str | None], ...] = (
    (
        "mapping values are not allowed",
        "A `:` stands where no key can be.",
        'quote the text when the colon belongs to it: "like: this"',
    ),
    (
        "block sequence entries are not allowed",
        "A list item `-` cannot stand here.",
        "begin it on a line of its own, or quote the text",
    ),
    (
        "sequence entries are not allowed",
        "A list item `-` cannot stand here.",
        "begin it on a line of its own, or quote the text",
    ),
    ("unknown escape character", "Unknown escape after a backslash.", "use single quotes"),
    ("Unicode character escape", "The escape names no character.", None),
    ("hexdecimal number", "The escape has too few hexadecimal digits.", "use single quotes"),
    ("hexadecimal", "The escape has too few hexadecimal digits.", "use single quotes"),
    ("unexpected end of stream", "The text in quotes is not closed.", None),
    ("unexpected document separator", "A document ends inside text in quotes.", None),
    ("unexpected document indicator", "A document ends inside text in quotes.", None),
    ("',' or ']'", "The list in `[…]` is not closed, or a comma is missing.", None),
    ("',' or '}'", "The map in `{…}` is not closed, or a comma is missing.", None),
    ("expected ':'", "A key has no `:` after it.", "keep the indentation of the lines above"),
    (
        "expected key",
        "The line belongs to no map: its indentation does not fit the lines above.",
        "indent with the same number of spaces",
    ),
    (
        "'-' indicator",
        "The line belongs to no list: its indentation does not fit the lines above.",
        "indent with the same number of spaces",
    ),
    (
        "<block end>",
        "The line's indentation does not fit the lines above, or a quote or bracket is missing.",
        "indent with the same number of spaces",
    ),
    ("<document start>", "Text follows the end of the document.", "look for a stray bracket"),
    ("expected node content", "A value is missing.", None),
    ("expected the node content", "A value is missing.", None),
    ("incompatible YAML", "The file asks for a version of YAML that is not 1.x.", None),
    ("directive", "The `%` line at the start is not one that YAML has.", "remove it"),
    ("control characters", "The text holds a control character.", "remove it"),
    ("special characters", "The text holds a control character.", "remove it"),
    ("indentation", "The indentation of the block of text does not fit.", None),
)
_UNPRINTABLE = r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
"""Compiled when it is needed: that takes 10 ms, a tenth of what starting Python takes."""


def syntax_problem(error: YAMLError, text: str) -> Problem:
    """A parser's complaint about the text as a finding with its place."""
    if isinstance(error, ReaderError) or not isinstance(error, MarkedYAMLError):
        return _unprintable(text)
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    words = f"{error.problem or ''} {error.context or ''}"
    lines = text.splitlines() or [""]
    here = lines[line] if line < len(lines) else ""
    message, hint = _explain(words, here, column)
    start = error.context_mark
    if start is not None and start.line != line:
        message = f"{message[:-1]}; what it belongs to begins in line {start.line + 1}."
    return Problem(
        "document.syntax", display(message, 400), line=line + 1, column=column + 1, hint=hint
    )


def _explain(words: str, here: str, column: int) -> tuple[str, str | None]:
    sign = here[column : column + 1]
    if "anchor" in words or "alias" in words:
        return (
            "`*` and `&` at the start of a value have a meaning of their own in YAML.",
            "quote the value",
        )
    if "cannot start any token" in words or "\\t" in words:
        if sign == "\t" or "\\t" in words:
            return "A tab stands where YAML wants spaces.", "indent with spaces"
        return f"A value cannot begin with {sign} unless it is quoted.", "quote the value"
    if "tab character" in words:
        return "A tab stands where YAML wants spaces.", "indent with spaces"
    if sign in ("]", "}") and ("expected key" in words or "<block end>" in words):
        return "The closing bracket has no opening one.", "remove it, or quote the value"
    if here[:column].strip() and ("expected key" in words or "<block end>" in words):
        return "Text follows a value that has ended.", "quote the whole value"
    if "${{" in here and ("','" in words or "expected key" in words or "node content" in words):
        return (
            "`${{ … }}` inside `{…}` or `[…]` is read as a map.",
            'quote the expression: "${{ … }}"',
        )
    for part, message, hint in _SENTENCES:
        if part in words:
            return message, hint
    return (
        f"This is not well-formed YAML ({words.strip()}).",
        "look for a missing quote or an indentation that does not fit",
    )


def _unprintable(text: str) -> Problem:
    match = re.search(_UNPRINTABLE, text)
    index = match.start() if match else 0
    line, column = Lines(text).position(index)
    sign = f"U+{ord(text[index]):04X}" if match else "a character"
    message = f"{sign} is a control character, which YAML text cannot hold."
    escaped = f"\\x{ord(text[index]):02x}" if match and ord(text[index]) < 256 else "\\x1b"
    hint = f'remove it, or write it as "{escaped}" in double quotes'
    return Problem("document.syntax", message, line=line + 1, column=column + 1, hint=hint)
