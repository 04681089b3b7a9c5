"""Templates: JSON values whose strings may hold `${{ expression }}` or be a `$step.path`.

A string that is one whole `${{ … }}` or one whole reference keeps the type of its value; inside a
longer text a value becomes text. What comes out is never looked at again: a value that contains
`${{` stays what it is. `$${{` is a literal `${{`, and a leading `$$` is a literal `$`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fleetprompt_agent.language.expressions import (
    Expression,
    ExpressionError,
    Reference,
    parse_expression,
)
from fleetprompt_agent.language.references import shorthand_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Scope: TypeAlias = Mapping[str, Any]
    Render: TypeAlias = Callable[[Scope], Any]

MAX_TEXT_BYTES = 1 << 20
"""Of a text that is put together from several parts; one whole value may be larger."""

OPENING, CLOSING = "${{", "}}"
_OPENING = re.compile(r"\$?\$\{\{")
_INSIDE = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'|\{|\}\}?', re.DOTALL)


class Embedded(NamedTuple):
    """One `${{ expression }}`, or a whole reference."""

    expression: Expression
    start: int
    """Offset in the text of the first `$`."""
    end: int
    inner: int
    """Offset in the text of the expression's own text; equal to `start` for a reference."""

    def shifted(self, offset: int) -> Embedded:
        """The same in a text that has `offset` more characters before it."""
        return Embedded(
            self.expression, self.start + offset, self.end + offset, self.inner + offset
        )


@dataclass(frozen=True, slots=True)
class Text:
    """A string, taken apart."""

    parts: tuple[str | Embedded, ...]
    """Literal text, escapes resolved, and what stands between."""
    whole: Embedded | None
    """The one part, when the string is nothing else."""

    @property
    def embedded(self) -> tuple[Embedded, ...]:
        """Every expression, in order."""
        return tuple(part for part in self.parts if isinstance(part, Embedded))


@lru_cache(maxsize=4096)
def parse_text(text: str) -> Text:
    """The parts of one string.

    Raises:
        ExpressionError: `syntax` or `limit`; `start` and `end` are offsets in `text`.
    """
    source = shorthand_source(text)
    if source is not None:
        reference = _shifted(source, None, 0, len(text))
        part = Embedded(reference, 0, len(text), 0)
        return Text((part,), part)
    if "$" not in text:
        return Text((text,) if text else (), None)
    parts: list[str | Embedded] = []
    literal = ""
    position = 0
    if text.startswith("$$") and not text.startswith("$" + OPENING):
        literal, position = "$", 2
    while match := _OPENING.search(text, position):
        literal += text[position : match.start()]
        if match.group() != OPENING:
            literal += OPENING
            position = match.end()
            continue
        end = closing_at(text, match.end())
        if end is None:
            message = "`${{` is not closed by `}}`; write `$${{` for the signs themselves"
            raise ExpressionError("syntax", message, match.start(), match.end())
        if literal:
            parts.append(literal)
            literal = ""
        inner = text[match.end() : end]
        stripped = inner.lstrip()
        offset = match.end() + len(inner) - len(stripped)
        expression = _shifted(stripped.rstrip(), offset, match.start(), end + len(CLOSING))
        position = end + len(CLOSING)
        parts.append(Embedded(expression, match.start(), position, offset))
    literal += text[position:]
    if literal:
        parts.append(literal)
    only = parts[0] if len(parts) == 1 else None
    return Text(tuple(parts), only if isinstance(only, Embedded) else None)


def closing_at(text: str, position: int) -> int | None:
    """Where the `}}` stands that closes an expression begun before `position`, if there is one.

    Braces of maps and strings inside the expression are passed over.
    """
    depth = 0
    while match := _INSIDE.search(text, position):
        sign = match.group()
        position = match.end()
        if sign == "{":
            depth += 1
        elif sign == "}":
            depth -= 1
        elif sign == "}}":
            if depth <= 0:
                return match.start()
            depth -= 1
            position = match.start() + 1
    return None


def _shifted(source: str, offset: int | None, start: int, end: int) -> Expression:
    """The expression; its errors tell offsets in the text around it."""
    try:
        return parse_expression(source)
    except ExpressionError as error:
        if offset is not None:
            width = error.end - error.start
            start = min(offset + error.start, end)
            end = max(start + 1, min(start + width, end))
        raise ExpressionError(error.kind, error.message, start, end) from None


def text_of(value: Any) -> str:
    """A value as it stands inside a longer text."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


class Template:
    """A JSON value to be rendered; immutable, and made by `parse_template`."""

    __slots__ = ("_render", "begins_with_expression", "references")

    def __init__(
        self,
        render: Render,
        references: tuple[Reference, ...],
        begins_with_expression: bool = False,
    ) -> None:
        self._render = render
        self.begins_with_expression = begins_with_expression
        """Whether it is a string whose first characters come from an expression."""
        self.references = references
        """Every path from outside, in order; offsets are those within each expression."""

    @property
    def is_constant(self) -> bool:
        """Whether the value is the same in every scope."""
        return not self.references

    def render(self, scope: Scope) -> Any:
        """The JSON value in `scope`; parts of it may be shared with the scope.

        Raises:
            ExpressionError: an expression has no value, or a text becomes too long.
        """
        return self._render(scope)


def parse_template(value: Any) -> Template:
    """The template that a JSON value is; the same object for the same content.

    Raises:
        ExpressionError: a string in it does not parse; a compiled plan holds no such string.
    """
    return _parsed(value) if type(value) is str else _parsed_json(json.dumps(value))


@lru_cache(maxsize=4096)
def _parsed_json(text: str) -> Template:
    return _parsed(json.loads(text))


@lru_cache(maxsize=4096)
def _parsed_text(text: str) -> Template:
    parsed = parse_text(text)
    references = tuple(
        reference for part in parsed.embedded for reference in part.expression.references
    )
    if parsed.whole is not None:
        return Template(parsed.whole.expression.evaluate, references, True)
    if not parsed.embedded:
        constant = "".join(str(part) for part in parsed.parts)
        return Template(lambda _scope: constant, ())
    parts = parsed.parts

    def joined(scope: Scope) -> str:
        pieces = [
            part if isinstance(part, str) else text_of(part.expression.evaluate(scope))
            for part in parts
        ]
        if sum(map(len, pieces)) > MAX_TEXT_BYTES:
            message = f"the text becomes longer than {MAX_TEXT_BYTES} bytes"
            raise ExpressionError("limit", message, 0, len(text))
        return "".join(pieces)

    return Template(joined, references, isinstance(parts[0], Embedded))


def _parsed(value: Any) -> Template:
    if isinstance(value, str):
        return _parsed_text(value)
    if isinstance(value, list):
        items = [_parsed(item) for item in value]
        references = tuple(reference for item in items for reference in item.references)
        renders = [item.render for item in items]
        return Template(lambda scope: [render(scope) for render in renders], references)
    if isinstance(value, dict):
        entries = {key: _parsed(item) for key, item in value.items()}
        references = tuple(ref for item in entries.values() for ref in item.references)
        named = [(key, item.render) for key, item in entries.items()]
        return Template(lambda scope: {key: render(scope) for key, render in named}, references)
    return Template(lambda _scope: value, ())


def literal_template(text: str) -> str:
    """The template whose value is exactly `text`."""
    escaped = text.replace(OPENING, "$" + OPENING)
    if (text.startswith("$$") and not escaped.startswith("$" + OPENING)) or (
        shorthand_source(text) is not None
    ):
        return "$" + escaped
    return escaped
