"""Plain YAML, line by line: what most workflow files are written in, for half the price.

libyaml's events cost what their Python objects cost, some 230 of them for a file of 3 KB. A file
of one-line values in the block style needs none: each line is a key, a list item, a comment, or
part of a block of text. Whatever else stands in a file, and whatever is wrong with it, makes this
reader give up, and the walk over the events says what it is. So there are no findings here, and
what is given is what the walk gives; tests hold the two against each other.

Not read here: anchors, aliases, tags, directives, quoted keys, escapes, values over several lines
(but blocks of text), a second document, tabs and carriage returns, long or deep files.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from fleetprompt_indexer.scalars import NULLS, NumberError, read_plain

MAX_LENGTH = 16_000
"""Characters. A part takes at least one, so a shorter file cannot have more than are allowed."""

MAX_LEVELS = 24
"""Levels of maps and lists: well below what is allowed."""

_LINES = re.compile(
    r"""
    (\ *+)                                          # indentation
    ((?:-\ )*+)                                     # dashes of list items
    (?:([A-Za-z0-9_][A-Za-z0-9_./-]{0,99}+):(?:\ ++|(?=\n)))?  # a key
    (?:
        ((?:[\w./$(~]|-(?=[\w.]))(?:[^:\#\n]*+(?=\n)   # a whole plain value, most often this one,
         | (?:[^:\ \n]++|:(?=[^\ \n])|\ ++(?=[^\ \#\n]))*+))
        \ *+(?:\#.*+)?\n                            # and a comment behind it
    |
        (.*+)\n                                     # anything else
    )""",
    re.VERBOSE,
)
"""Every line: indentation, dashes, key, plain value, and the rest of any other line."""

_PRINTABLE = bytes(range(0x20, 0x7F)) + b"\n"

_QUOTED = re.compile(r"(\"[^\"\\]*\"|'[^']*')(?: *| +#.*)")
"""A whole value in quotes, without escapes."""

_BLOCK = re.compile(r"([|>])(-?)(?: *| +#.*)")
"""How a block of text begins."""

_IN_BRACKETS = re.compile(
    r" *(?:([\[\]{},])|(?:(\"[^\"\\]*\"|'[^']*')|(-?[\w./$(~][\w./$()~ +*<>=&|;@!^%-]*))(: +)?) *"
)
"""The next part of a value in brackets: a sign, or a quoted or plain text that may be a key."""

_PART = r"(?:\"[^\"\\]*\"|-?[\w./$(~][\w./$()~+*<>=&|;@!^%-]*+(?: [\w./$()~+*<>=&|;@!^%-]++)*+)"
_FLAT = re.compile(
    rf"\[{_PART}(?:, {_PART})*\] *"
    rf"|\{{(\w+): {_PART}(?:, (?!\1:)(\w+): {_PART}(?:, (?!\1:|\2:)\w+: {_PART})?)?\}} *"
)
"""A list, or a map of up to three different keys, with nothing in brackets in it."""
_FLAT_MAP = re.compile(rf"\{{\w+: {_PART}(?:, \w+: {_PART})*\}} *")
_FLAT_PAIR = re.compile(rf"(\w+): ({_PART})")
"""A map of any number of keys, and one of them with its value."""

_Frame: TypeAlias = "tuple[int, set[str] | None, Any, frozenset[str] | None]"


class _NotPlain(Exception):  # noqa: N818  # not an error: the file is read in another way
    """The text has something that is not read here."""


def read_plain_lines(
    text: str,
    *,
    wanted: frozenset[str],
    step_lists: frozenset[str],
    wanted_of_step: frozenset[str],
) -> dict[str, Any] | None:
    """The wanted top-level values of a sound document; None when it is to be walked.

    Args:
        text: The file's.
        wanted: Top-level keys whose values are built, their scalars as text.
        step_lists: Those of them that hold lists of steps.
        wanted_of_step: Keys of a step whose values are built, as text.
    """
    if len(text) > MAX_LENGTH or not _is_printable(text):
        return None
    if text.startswith("---\n"):
        text = text[3:]
    values: dict[str, Any] = {}
    try:
        _read_lines(text, values, wanted, step_lists, wanted_of_step)
    except _NotPlain:
        return None
    return values


def _is_printable(text: str) -> bool:
    if text.isascii():
        return not text.encode().translate(None, _PRINTABLE)  # in a fifth of the time
    return text.replace("\n", "").isprintable()


def _read_lines(
    text: str,
    values: dict[str, Any],
    wanted: frozenset[str],
    step_lists: frozenset[str],
    wanted_of_step: frozenset[str],
) -> None:
    # Invariants. `keys` holds the keys of the innermost map, None inside a list; `indent` is its
    # column, or that of the list's dashes. `key` is a key whose value stands on the lines to come.
    # `sink` and `only` are those of the walk: what is built, and which keys of it. `stack` holds
    # these of the containers around. `block` is the block of text that the lines are part of.
    # Flat, with its state in local variables, like the walk and for the same reason.
    stack: list[_Frame] = []
    indent = 0
    top: set[str] = set()
    keys: set[str] | None = top
    key: str | None = None
    sink: Any = values
    only: frozenset[str] | None = wanted
    block: _Block | None = None
    places: list[tuple[int, bool]] = []
    lines = text if text.endswith("\n") else f"{text}\n"
    for number, (spaces, dashes, found, plain, rest) in enumerate(_LINES.findall(lines)):
        column = len(spaces)
        if block is not None:
            if block.takes(column, is_blank=not (dashes or found or plain or rest)):
                continue
            block = None
        if dashes:
            if key is not None and column >= indent:
                places.append((column, False))
            elif indent != column or keys is not None:
                if key is not None and sink is not None and (only is None or key in only):
                    sink[key] = None
                key = None
                while indent > column or (indent == column and keys is not None):
                    if not stack:
                        raise _NotPlain
                    indent, keys, sink, only = stack.pop()
                if indent != column or keys is not None:
                    raise _NotPlain
            for _ in range(len(dashes) // 2 - 1):
                column += 2
                places.append((column, False))
            if found:
                places.append((column + 2, True))
        elif not found:
            if plain or (rest and rest[0] != "#"):
                raise _NotPlain
            continue
        elif key is not None and column > indent:
            places.append((column, True))
        else:
            if key is not None and sink is not None and (only is None or key in only):
                sink[key] = None
            key = None
            while indent > column or (indent == column and keys is None):
                if not stack:
                    raise _NotPlain
                indent, keys, sink, only = stack.pop()
            if indent != column or keys is None:
                raise _NotPlain
        if places:
            for place, is_map in places:
                stack.append((indent, keys, sink, only))
                inner: Any = None
                if keys is None:
                    if sink is not None:
                        inner = {} if is_map else []
                        sink.append(inner)
                else:
                    if sink is not None and (only is None or key in only):
                        inner = {} if is_map else []
                        sink[key] = inner
                    is_steps = only is wanted and not is_map and key in step_lists
                    only = wanted_of_step if is_steps else None
                    key = None
                indent, keys, sink = place, set() if is_map else None, inner
            places.clear()
            if len(stack) > MAX_LEVELS:
                raise _NotPlain
        if keys is not None:
            if found in keys:
                raise _NotPlain
            keys.add(found)
            is_wanted = sink is not None and (only is None or found in only)
        else:
            is_wanted = sink is not None
        if plain:
            if not is_wanted:
                continue
            value = _value(plain.rstrip(" "), only)
        elif not rest or rest[0] == "#":
            if not found:
                raise _NotPlain
            key = found
            continue
        elif rest[0] in "[{":
            if not is_wanted and _FLAT.fullmatch(rest):
                continue
            inner_only = only if keys is None else None
            if only is wanted and found in step_lists:
                raise _NotPlain
            value = _in_brackets(rest, inner_only, is_wanted=is_wanted)
        elif match := _QUOTED.fullmatch(rest):
            value = match[1][1:-1]
        elif match := _BLOCK.fullmatch(rest):
            block = _Block(indent)
            if not is_wanted:
                continue
            value = _text_of_block(text, number + 1, indent, match)
        else:
            raise _NotPlain
        if is_wanted:
            if keys is None:
                sink.append(value)
            else:
                sink[found] = value
    if not top or (block is not None and not block.column):
        raise _NotPlain
    if key is not None and sink is not None and (only is None or key in only):
        sink[key] = None


class _Block:
    """A block of text under way.

    Args:
        above: The column of the map or list that it is a value of.
    """

    def __init__(self, above: int) -> None:
        self.column = 0
        """Of its first line that is not blank; 0 before."""
        self._above = above

    def takes(self, column: int, *, is_blank: bool) -> bool:
        """Whether the line belongs to it."""
        if is_blank:
            if column and not self.column:
                raise _NotPlain
            return True
        if not self.column:
            if column <= self._above:
                raise _NotPlain
            self.column = column
        if column >= self.column:
            return True
        if column > self._above:
            raise _NotPlain
        return False


def _text_of_block(text: str, first: int, above: int, begin: re.Match[str]) -> str:
    """The text of a block that is wanted."""
    if begin[1] == ">" or not text.endswith("\n"):
        raise _NotPlain  # rare enough to be left to the walk
    kept: list[str] = []
    column = 0
    for line in text.split("\n")[first:]:
        found = len(line) - len(line.lstrip(" "))
        if found == len(line):
            if line:
                raise _NotPlain
        elif not column:
            column = found
        elif found <= above:
            break
        kept.append(line[column:])
    joined = "\n".join(kept).rstrip("\n")
    return joined if begin[2] else f"{joined}\n"


def _in_brackets(rest: str, only: frozenset[str] | None, *, is_wanted: bool) -> Any:
    """The value in brackets that a line ends with; None when it is not wanted.

    Raises:
        _NotPlain: It does not end there, or has something that is not read here.
    """
    if _FLAT_MAP.fullmatch(rest):
        pairs = dict(found := _FLAT_PAIR.findall(rest))
        if len(pairs) != len(found):
            raise _NotPlain
        if not is_wanted:
            return None
        return {
            name: text[1:-1] if text[0] == '"' else _value(text, only)
            for name, text in pairs.items()
            if only is None or name in only
        }
    match = _IN_BRACKETS.match
    top: list[Any] = []
    stack: list[tuple[set[str] | None, str | None, Any, frozenset[str] | None]] = []
    keys: set[str] | None = None
    key: str | None = None
    sink: Any = top if is_wanted else None
    at, end = 0, len(rest)
    is_open = False  # a bracket has just been opened
    is_ended = False  # a value has just ended: a comma or a bracket must follow
    while at < end:
        part = match(rest, at)
        if part is None:
            raise _NotPlain
        at = part.end()
        sign, quoted, plain, colon = part.groups()
        if sign is None:
            if is_ended:
                raise _NotPlain
            text = quoted[1:-1] if quoted else plain.rstrip(" ")
            is_open = False
            if colon:
                if keys is None or key is not None or not text or text in keys:
                    raise _NotPlain
                keys.add(text)
                key = text
                continue
            if keys is not None and key is None:
                raise _NotPlain
            if sink is not None and (keys is None or only is None or key in only):
                value = text if quoted else _value(text, only)
                if keys is None:
                    sink.append(value)
                else:
                    sink[key] = value
            key = None
            is_ended = True
        elif sign == ",":
            if not is_ended:
                raise _NotPlain
            is_ended = False
        elif sign in "[{":
            if is_ended or (keys is not None and key is None) or len(stack) >= MAX_LEVELS:
                raise _NotPlain
            stack.append((keys, key, sink, only))
            inner: Any = None
            if sink is not None and (keys is None or only is None or key in only):
                inner = {} if sign == "{" else []
                if keys is None:
                    sink.append(inner)
                else:
                    sink[key] = inner
            if keys is not None:
                only = None
            keys, key, sink = set() if sign == "{" else None, None, inner
            is_open = True
        else:
            if not (is_ended or is_open) or (keys is None) != (sign == "]"):
                raise _NotPlain
            keys, key, sink, only = stack.pop()
            key = None
            is_open, is_ended = False, True
            if not stack:
                break
    if at < end or stack:
        raise _NotPlain
    return top[0] if is_wanted else None


def _value(text: str, only: frozenset[str] | None) -> Any:
    """What the walk builds of a plain scalar."""
    if only is not None:
        return None if text in NULLS else text
    try:
        return read_plain(text)
    except NumberError:
        return text
