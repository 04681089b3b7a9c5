"""JSON text as a stream of events, as libyaml gives them for YAML, with a position for each.

The standard library's reader gives no positions, lets the last of two equal keys win, and accepts
`NaN`. With the same stream, one walker and one composer serve both formats.
"""

from __future__ import annotations

import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import TYPE_CHECKING, Any, NamedTuple

from fleetprompt_indexer.display import display
from fleetprompt_indexer.lines import Lines
from fleetprompt_indexer.problem import Problem, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

_SPACES = " \t\n\r"
_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_IS_PLAIN = (True, False)
_IS_QUOTED = (False, True)


class JsonScalar(NamedTuple):
    """A text, number or word; the marks are places in the text, and the fields those of PyYAML."""

    value: str
    implicit: tuple[bool, bool]
    style: str
    start_mark: int
    end_mark: int

    @property
    def anchor(self) -> None:
        """JSON has none."""

    @property
    def tag(self) -> None:
        """JSON has none."""


class JsonMapStart(NamedTuple):
    """A `{`."""

    start_mark: int
    end_mark: int
    anchor: None = None
    tag: None = None
    flow_style: bool = True


class JsonListStart(NamedTuple):
    """A `[`."""

    start_mark: int
    end_mark: int
    anchor: None = None
    tag: None = None
    flow_style: bool = True


class JsonEnd(NamedTuple):
    """The end of a map, a list or the document."""

    start_mark: int
    end_mark: int


class JsonStreamEnd(NamedTuple):
    """The end of the text."""

    start_mark: int
    end_mark: int


JsonEvent = JsonScalar | JsonMapStart | JsonListStart | JsonEnd | JsonStreamEnd


class JsonParser:
    """Gives the events of one JSON text, one at a time."""

    scalar: Any = JsonScalar
    map_start: Any = JsonMapStart
    list_start: Any = JsonListStart
    alias: Any = None  # there are none
    stream_end: Any = JsonStreamEnd

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines: Lines | None = None
        self.get_event = self._events().__next__

    def position(self, mark: int) -> tuple[int, int]:
        """Line and column of an event's mark, both from 0."""
        if self._lines is None:
            self._lines = Lines(self._text)
        return self._lines.position(min(mark, len(self._text)))

    def _events(self) -> Iterator[JsonEvent]:
        text, size = self._text, len(self._text)
        yield JsonEnd(0, 0)  # the start of the stream, which nobody looks at
        index = _behind_space(text, 0)
        if index == size:
            yield JsonStreamEnd(size, size)
            return
        yield JsonEnd(0, 0)  # the start of the document
        plain = _PLAIN.match
        closers: list[str] = []
        closer = ""  # of the innermost map or list; empty outside
        expected = "a value"
        while True:
            # Here stands a value, or the closing bracket of an empty map or list.
            sign = text[index : index + 1]
            if sign == '"':
                value, end = self._string(index)
                yield _new(JsonScalar, (value, _IS_QUOTED, sign, index, end))
                index = end
            elif match := plain(text, index):
                end = match.end()
                yield _new(JsonScalar, (match.group(), _IS_PLAIN, "", index, end))
                index = end
            elif sign == "[":
                index += 1
                yield _new(JsonListStart, (index - 1, index, None, None, True))
                closers.append(closer)
                closer = "]"
                index = _behind_space(text, index)
                expected = "a value or `]`"
                continue
            elif sign == "{":
                index += 1
                yield _new(JsonMapStart, (index - 1, index, None, None, True))
                closers.append(closer)
                closer = "}"
                index = _behind_space(text, index)
                if text[index : index + 1] != "}":
                    key, index = self._key(index, "a key in double quotes or `}`")
                    yield key
                    expected = "a value"
                    continue
                yield JsonEnd(index, index + 1)
                index += 1
                closer = closers.pop()
            elif sign == closer and expected == "a value or `]`":
                yield JsonEnd(index, index + 1)
                index += 1
                closer = closers.pop()
            else:
                raise self._unexpected(expected, index)
            # Here a value has ended: close what ends with it, then go on behind a comma.
            sign = text[index : index + 1]
            while sign != ",":
                if sign in _SPACES:
                    index = _behind_space(text, index)
                    sign = text[index : index + 1]
                if not closer or sign == ",":
                    break
                if sign != closer:
                    raise self._unexpected(f"`,` or `{closer}`", index)
                index += 1
                yield _new(JsonEnd, (index - 1, index))
                closer = closers.pop()
                sign = text[index : index + 1]
            if not closer:
                break
            index += 1
            if text[index : index + 1] in _SPACES:
                index = _behind_space(text, index)
            expected = "a value"
            if closer == "}":
                key, index = self._key(index, "a key in double quotes")
                yield key
        if index != size:
            raise self._unexpected("the end of the file", index)
        yield JsonEnd(size, size)
        yield JsonStreamEnd(size, size)

    def _key(self, index: int, expected: str) -> tuple[JsonScalar, int]:
        """The key that stands here, and where its value begins."""
        text = self._text
        if text[index : index + 1] != '"':
            raise self._unexpected(expected, index)
        value, end = self._string(index)
        after = end if text[end : end + 1] == ":" else _behind_space(text, end)
        if text[after : after + 1] != ":":
            raise self._unexpected("`:`", after)
        key = _new(JsonScalar, (value, _IS_QUOTED, '"', index, end))
        begin = after + 1
        return key, _behind_space(text, begin) if text[begin : begin + 1] in _SPACES else begin

    def _string(self, begin: int) -> tuple[str, int]:
        value: str
        end: int
        try:
            value, end = scanstring(self._text, begin + 1, True)  # strict
        except JSONDecodeError as error:
            raise self._refused(f"{_plain_words(error.msg)}.", error.pos) from None
        if not value.isascii() and _SURROGATE.search(value):
            raise self._refused("Half of a surrogate pair is not a character.", begin)
        return value, end

    def _unexpected(self, expected: str, index: int) -> Refused:
        found = f"`{self._text[index]}`" if index < len(self._text) else "the end of the file"
        return self._refused(f"Expected {expected}, found {found}.", index)

    def _refused(self, message: str, index: int) -> Refused:
        line, column = self.position(index)
        message = display(message, 400)
        return Refused(Problem("document.syntax", message, line=line + 1, column=column + 1))


_new = tuple.__new__
"""Makes a named tuple without its Python-level constructor, which takes half of a parse."""


def _behind_space(text: str, index: int) -> int:
    """The index of the first character from here on that is not white space."""
    match = _SPACE.match(text, index)
    return match.end() if match else index


def _plain_words(message: str) -> str:
    """The standard library's message, as a sentence of this file's kind."""
    if message.startswith("Unterminated string"):
        return "The text in double quotes is not closed"
    if message.startswith("Invalid control character"):
        return "A line break or control character stands in double quotes; write it as `\\n`"
    if "escape" in message:
        return "Unknown escape after a backslash; write `\\\\` for a backslash"
    return message
