"""The text of `command:` to words.

`${{ … }}` and the JSON after `:=` are taken out first; then quotes split as in a POSIX shell, and
nothing is expanded: no variable, no glob, no tilde. Signs that only a shell understands are errors
unless they are quoted, so that nobody believes that they do something.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from fleetprompt_agent.language.expressions import ExpressionError
from fleetprompt_agent.language.templates import (
    CLOSING,
    OPENING,
    Embedded,
    closing_at,
    literal_template,
    parse_text,
)

_SPACE = " \t\r\n"
_OPERATOR = re.compile(r"\|\||&&|\|&|;;|&>|[|;&]|[0-9]?(?:>>|>|<<?)(?:&[0-9-])?")
"""What a shell would not pass on, where a word begins."""
_ASSIGNED = re.compile(r"([A-Za-z_][A-Za-z0-9_.-]*)(:?=)")
_GAP = re.compile(r"(?:[ \t\r\n]|\\\n)*+")
"""What stands between words: white space, and a line that goes on."""
_PLAIN_RUN = re.compile(r"[^\s'\"\\`$;]+")
"""Characters that mean nothing but themselves."""
_SIMPLE_WORD = re.compile(r"[^\s'\"\\`$;|&<>0-9][^\s'\"\\`$;]*(?=[ \t\r\n]|\Z)")
"""A word that is all of that, and no sign of a shell: most words are."""
_IN_DOUBLE_QUOTES = '$`"\\\n'
"""What a backslash escapes between double quotes; before anything else it stands for itself."""


class CommandError(Exception):
    """A command cannot be taken apart; `start` and `end` are offsets in its text."""

    def __init__(
        self, code: str, message: str, start: int, end: int, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.start = start
        self.end = end
        self.hint = hint


class Word(NamedTuple):
    """One word of a command."""

    value: Any
    """A template: a string, or the JSON after `:=`."""
    literal: str | None
    """The text of a word without expressions, quotes resolved."""
    bare: str
    """The literal text that stands outside quotes, where a reference may have been meant."""
    embedded: tuple[Embedded, ...]
    """The expressions in it, with offsets in the command."""
    name: str | None
    """`k` of `k=v` and `k:=json`; its `value` is then what follows."""
    start: int
    end: int

    @property
    def is_whole(self) -> bool:
        """Whether it is one expression and nothing else, and so keeps its type."""
        return self.literal is None and parse_text(str(self.value)).whole is not None


def first_word(text: str) -> tuple[str, int, int]:
    """The first word of a command as it is written, with its offsets; empty when there is none."""
    start = len(text) - len(text.lstrip(_SPACE))
    end = start
    while end < len(text) and text[end] not in _SPACE:
        end += 1
    return text[start:end], start, end


def split_command(text: str, position: int, *, assignments: bool) -> list[Word]:
    """The words of `text` from `position` on.

    Args:
        text: The whole command.
        position: Where to begin, after the namespace.
        assignments: Whether `k=v` and `k:=json` are set apart; a program gets them as they are.

    Raises:
        CommandError: `command.syntax`, `command.shell_syntax`, `command.json`.
        ExpressionError: an expression in it does not parse.
    """
    splitter = _Splitter(text, position, assignments)
    return list(iter(splitter.word, None))


class _Splitter:
    """Reads one word after another."""

    def __init__(self, text: str, position: int, assignments: bool) -> None:
        self.text = text
        self.position = position
        self.assignments = assignments

    def word(self) -> Word | None:
        """The next word, or None at the end."""
        text = self.text
        start = self.position = _GAP.match(text, self.position).end()  # type: ignore[union-attr]  # matches nothing too
        if start >= len(text):
            return None
        if simple := _SIMPLE_WORD.match(text, start):
            word = simple.group()
            if not self.assignments or "=" not in word:
                self.position = simple.end()
                return Word(word, word, word, (), None, start, self.position)
        elif text.startswith(OPENING, start) and (whole := self._whole(start)):
            return whole
        name = None
        if self.assignments and (assigned := _ASSIGNED.match(text, start)):
            name = assigned.group(1)
            self.position = assigned.end()
            if assigned.group(2) == ":=":
                return self._json(name, start)
        return self._text(name, start)

    def _whole(self, start: int) -> Word | None:
        """The word that begins with `${{` when it is one expression, as most of these are."""
        text = self.text
        closed = closing_at(text, start + len(OPENING))
        end = closed + len(CLOSING) if closed is not None else 0
        if not end or (end < len(text) and text[end] not in _SPACE):
            return None
        try:
            whole = parse_text(text[start:end]).whole
        except ExpressionError:
            return None
        if whole is None:
            return None
        self.position = end
        embedded = (whole.shifted(start),)
        return Word(text[start:end], None, " ", embedded, None, start, end)

    def _json(self, name: str, start: int) -> Word:
        """`name:=JSON`, or `name:=${{ … }}`."""
        if self.text.startswith(OPENING, self.position):
            word = self._text(name, start)
            if not word.is_whole:
                message = f"after `{name}:=` stands one value, not a text"
                raise CommandError("command.json", message, start, word.end, f"write `{name}=…`")
            return word
        try:
            value, end = _DECODER.raw_decode(self.text, self.position)
        except (ValueError, RecursionError):
            raise CommandError(
                "command.json",
                f"what follows `{name}:=` is not JSON",
                self.position,
                len(self.text),
                f"write `{name}=…` for text, or put the JSON right after `:=`",
            ) from None
        if end < len(self.text) and self.text[end] not in _SPACE:
            raise CommandError("command.json", "a space must follow the JSON", end, end + 1)
        self.position = end
        return Word(value, None, "", (), name, start, end)

    def _text(self, name: str | None, start: int) -> Word:
        """A word put together from literal text, quoted text and expressions."""
        text = self.text
        parts = _Parts()
        begin = self.position
        if name is None and (operator := _OPERATOR.match(text, begin)):
            raise _shell_syntax(operator.group(), begin, operator.end())
        if text.startswith("$$", begin) and not text.startswith("$" + OPENING, begin):
            parts.add("$", quoted=True)
            self.position = begin + 2
        while self.position < len(text):
            position = self.position
            if run := _PLAIN_RUN.match(text, position):
                parts.add(run.group())
                self.position = run.end()
                continue
            character = text[position]
            if character in _SPACE:
                break
            if character == "$" and self._expression(parts):
                continue
            if character in "'\"":
                self._quoted(parts, character)
            elif character == "\\":
                if position + 1 >= len(text):
                    message = "a backslash at the end escapes nothing"
                    raise CommandError("command.syntax", message, position, position + 1)
                if text[position + 1] != "\n":
                    parts.add(text[position + 1], quoted=True)
                self.position = position + 2
            elif character == "`" or text.startswith("$(", position):
                raise _shell_syntax("`" if character == "`" else "$(…)", position, position + 1)
            else:
                parts.add(character)
                self.position = position + 1
                if character == ";" and text[position + 1 : position + 2].strip(_SPACE) == "":
                    raise _shell_syntax(character, position, position + 1)
        return parts.word(name, start, self.position)

    def _expression(self, parts: _Parts) -> bool:
        """Take `${{ … }}` or its escape, wherever it stands; quotes do not matter."""
        text, position = self.text, self.position
        if text.startswith("$" + OPENING, position):
            parts.add(OPENING, quoted=True)
            self.position = position + 1 + len(OPENING)
            return True
        if not text.startswith(OPENING, position):
            return False
        end = closing_at(text, position + len(OPENING))
        if end is None:
            message = "`${{` is not closed by `}}`; write `$${{` for the signs themselves"
            raise ExpressionError("syntax", message, position, position + len(OPENING))
        self.position = end + len(CLOSING)
        span = text[position : self.position]
        try:
            whole = parse_text(span).whole
        except ExpressionError as error:
            raise ExpressionError(
                error.kind, error.message, position + error.start, position + error.end
            ) from None
        if whole is not None:
            parts.embed(span, whole, position)
        return True

    def _quoted(self, parts: _Parts, quote: str) -> None:
        """`'…'` as it is, or `"…"` with its few escapes."""
        text = self.text
        opened = self.position
        self.position += 1
        parts.add("", quoted=True)
        while self.position < len(text):
            character = text[self.position]
            if character == "$" and self._expression(parts):
                continue
            self.position += 1
            if character == quote:
                return
            if character == "\\" and quote == '"' and self.position < len(text):
                escaped = text[self.position]
                if escaped in _IN_DOUBLE_QUOTES:
                    self.position += 1
                    character = "" if escaped == "\n" else escaped
            parts.add(character, quoted=True)
        raise CommandError("command.syntax", f"the quote {quote} is not closed", opened, opened + 1)


class _Parts:
    """What a word is put together from."""

    def __init__(self) -> None:
        self.pieces: list[tuple[bool, str]] = []
        self.bare: list[str] = []
        self.embedded: list[Embedded] = []

    def add(self, text: str, *, quoted: bool = False) -> None:
        """Literal text."""
        self.bare.append(" " if quoted else text)
        if self.pieces and not self.pieces[-1][0]:
            self.pieces[-1] = (False, self.pieces[-1][1] + text)
        else:
            self.pieces.append((False, text))

    def embed(self, span: str, whole: Embedded, offset: int) -> None:
        """One `${{ … }}`, as it is written at `offset`."""
        self.embedded.append(whole.shifted(offset))
        self.bare.append(" ")
        self.pieces.append((True, span))

    def word(self, name: str | None, start: int, end: int) -> Word:
        """The word as a template."""
        pieces = [piece for piece in self.pieces if piece[1]]
        bare = "".join(self.bare)
        if not self.embedded:
            literal = "".join(text for _, text in pieces)
            return Word(literal_template(literal), literal, bare, (), name, start, end)
        template = ""
        for place, (embedded, text) in enumerate(pieces):
            if embedded:
                template += text
                continue
            follows = place + 1 < len(pieces)
            escaped = text.replace(OPENING, "$" + OPENING)
            if follows and escaped.endswith("$"):  # else it would escape the expression after it
                escaped = escaped[:-1] + '${{ "$" }}'
            if not place and escaped.startswith("$$") and not escaped.startswith("$" + OPENING):
                escaped = "$" + escaped
            template += escaped
        return Word(template, None, bare, tuple(self.embedded), name, start, end)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)


def _shell_syntax(sign: str, start: int, end: int) -> CommandError:
    hints = {
        "|": "make two steps and pass `stdin: $first.stdout` to the second",
        "||": "make two steps; `if:` and `on_error:` say when the second runs",
        "&&": "make two steps; a step runs only when what it needs has succeeded",
        ";": "make two steps",
        "&": "steps without an edge between them run at once: `needs: []`",
        "`": "make a step of the inner command and refer to its `stdout`",
        "$(…)": "make a step of the inner command and refer to its `stdout`",
        "<": "write `stdin:`",
    }
    hint = hints.get(sign, "the step's result holds `stdout` and `stderr`")
    return CommandError(
        "command.shell_syntax",
        f"{'a backquote' if sign == '`' else f'`{sign}`'} is shell syntax, "
        "and nothing is handed to a shell",
        start,
        end,
        f"{hint}; quote it to pass it on as text",
    )
