"""JSON text as the events that libyaml gives for YAML, with a position for each.

The standard library's reader gives no positions, lets the last of two equal keys win, and accepts
`NaN`. With the same events, one walker and one composer serve both formats.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # typeshed leaves it out
from typing import TYPE_CHECKING, Any

from yaml.events import (
    DocumentEndEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
    StreamStartEvent,
)

from fleetprompt_indexer.display import display
from fleetprompt_indexer.problem import Problem, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator

_TOKEN = re.compile(
    r"[ \t\n\r]*(?:"
    r"(?P<sign>[{}\[\],:])"
    r'|(?P<quote>")'
    r"|(?P<plain>-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null)"
    r")"
)
_SPACE = re.compile(r"[ \t\n\r]*")
_LINE_END = re.compile(r"\r\n|\r|\n")
_SURROGATE = re.compile(r"[\ud800-\udfff]")

_PLAIN = (True, False)
_QUOTED = (False, True)

_EXPECTED = {
    "value": "a value",
    "value or end": "a value or `]`",
    "key": "a key in double quotes",
    "key or end": "a key in double quotes or `}`",
    "colon": "`:`",
    "comma": "`,` or the closing bracket",
    "nothing": "the end of the file",
}


class Lines:
    """Where each line of a text begins."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *(match.end() for match in _LINE_END.finditer(text))]

    def position(self, index: int) -> tuple[int, int]:
        """Line and column of the character, both from 0."""
        line = bisect_right(self._starts, index) - 1
        return line, index - self._starts[line]


class _Mark:
    """A position that is computed when it is asked for; stands in for libyaml's mark."""

    __slots__ = ("_lines", "index")

    def __init__(self, lines: Lines, index: int) -> None:
        self._lines = lines
        self.index = index

    @property
    def line(self) -> int:
        return self._lines.position(self.index)[0]

    @property
    def column(self) -> int:
        return self._lines.position(self.index)[1]


class JsonParser:
    """Gives the events of one JSON text, one at a time, as `yaml.CParser` does."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = Lines(text)
        self.get_event = self._events().__next__

    def _events(self) -> Iterator[Event]:
        text, mark = self._text, self._mark
        open_signs: list[str] = []
        start = mark(0)
        yield StreamStartEvent(start, start)
        index = 0
        if _SPACE.fullmatch(text):
            end = mark(len(text))
            yield StreamEndEvent(end, end)
            return
        yield DocumentStartEvent(start, start)
        state = "value"
        while state != "nothing":
            token = _TOKEN.match(text, index)
            if token is None:
                raise self._unexpected(state, index)
            kind = token.lastgroup
            begin = token.start(kind or 0)
            index = token.end()
            if kind == "sign":
                sign = token["sign"]
                if sign in "{[" and state.startswith("value"):
                    open_signs.append(sign)
                    is_map = sign == "{"
                    event = MappingStartEvent if is_map else SequenceStartEvent
                    yield event(None, None, True, mark(begin), mark(index), True)
                    state = "key or end" if is_map else "value or end"
                    continue
                if sign == "," and state == "comma":
                    state = "key" if open_signs[-1] == "{" else "value"
                    continue
                if sign == ":" and state == "colon":
                    state = "value"
                    continue
                closes = open_signs and sign == ("}" if open_signs[-1] == "{" else "]")
                if not closes or state not in ("comma", "key or end", "value or end"):
                    raise self._unexpected(state, begin)
                ended = MappingEndEvent if open_signs.pop() == "{" else SequenceEndEvent
                yield ended(mark(begin), mark(index))
            elif kind == "quote":
                if state in ("comma", "colon"):
                    raise self._unexpected(state, begin)
                value, index = self._string(begin)
                yield ScalarEvent(None, None, _QUOTED, value, mark(begin), mark(index), '"')
                if state.startswith("key"):
                    state = "colon"
                    continue
            else:
                if not state.startswith("value"):
                    raise self._unexpected(state, begin)
                yield ScalarEvent(None, None, _PLAIN, token["plain"], mark(begin), mark(index), "")
            state = "comma" if open_signs else "nothing"
        end_of_space = _SPACE.match(text, index)
        if end_of_space is not None and end_of_space.end() != len(text):
            raise self._unexpected(state, index)
        end = mark(len(text))
        yield DocumentEndEvent(end, end)
        yield StreamEndEvent(end, end)

    def _string(self, begin: int) -> tuple[str, int]:
        value: str
        end: int
        try:
            value, end = scanstring(self._text, begin + 1, True)
        except JSONDecodeError as error:
            raise self._refused(f"{_plain_words(error.msg)}.", error.pos) from None
        if not value.isascii() and _SURROGATE.search(value):
            raise self._refused("Half of a surrogate pair is not a character.", begin)
        return value, end

    def _mark(self, index: int) -> Any:  # the events want PyYAML's own class
        return _Mark(self._lines, index)

    def _unexpected(self, state: str, index: int) -> Refused:
        space = _SPACE.match(self._text, index)
        index = space.end() if space else index
        found = f"`{self._text[index]}`" if index < len(self._text) else "the end of the file"
        return self._refused(f"Expected {_EXPECTED[state]}, found {found}.", index)

    def _refused(self, message: str, index: int) -> Refused:
        line, column = self._lines.position(min(index, len(self._text)))
        message = display(message, 400)
        return Refused(Problem("document.syntax", message, line=line + 1, column=column + 1))


def _plain_words(message: str) -> str:
    """The standard library's message, as a sentence of this file's kind."""
    if message.startswith("Unterminated string"):
        return "The text in double quotes is not closed"
    if message.startswith("Invalid control character"):
        return "A line break or control character stands in double quotes; write it as `\\n`"
    if "escape" in message:
        return "Unknown escape after a backslash; write `\\\\` for a backslash"
    return message
