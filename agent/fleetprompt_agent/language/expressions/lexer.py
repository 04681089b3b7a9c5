"""Source text to tokens."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from fleetprompt_agent.language.expressions.errors import ExpressionError

Token: TypeAlias = tuple[str, Any, int, int]
"""`(kind, value, start, end)`. The kind is `path` (two names and more, without space between them),
`name`, `field`, `step`, `value`, `end`, or the sign itself. A plain tuple: lexing is a third of the
time that parsing takes."""

_NAME = r"""[A-Za-z_][A-Za-z0-9_]*+(?!["'])"""


def _tokens(names: str) -> re.Pattern[str]:
    """A pattern whose groups are white space and comments, then `names`, a sign, or the rest.

    The rest is a string, a number, a raw string, a quoted field, or what begins no token.
    """
    return re.compile(
        rf"""((?: [ \t\r\n\f] | //[^\r\n]* )*+) (?:
          ( {names} )
        | ( && | \|\| | [=!<>]= | [-+*/%!<>?:,()\[\]{{}}] | \.(?![0-9]) )
        | ( \"{{3}}(?:[^\\]|\\.)*?\"{{3}} | '{{3}}(?:[^\\]|\\.)*?'{{3}}
          | \"(?:[^\"\\\r\n]|\\.)*\" | '(?:[^'\\\r\n]|\\.)*'
          | 0[xX][0-9a-fA-F]+ | [0-9]*\.[0-9]+(?:[eE][+-]?[0-9]+)? | [0-9]+(?:[eE][+-]?[0-9]+)?
          | [rR] (?: \"{{3}}.*?\"{{3}} | '{{3}}.*?'{{3}} | \"[^\"\r\n]*\" | '[^'\r\n]*' )
          | `[A-Za-z0-9_.\-/ ]+`
          | . )
        | $ )""",
        re.VERBOSE | re.DOTALL,
    )


_STEP = r"\$[A-Za-z_][A-Za-z0-9_-]*+"
_APART = _tokens(rf"{_NAME} | {_STEP}")
_TOGETHER = _tokens(rf"(?: {_NAME} | {_STEP} ) (?: \. {_NAME} (?! [ \t\r\n\f]* \( ) )*+")

_ESCAPE = re.compile(
    r"""\\(?: (?P<plain>[abfnrtv\\?"'`]) | [xX](?P<byte>[0-9a-fA-F]{2}) | u(?P<u4>[0-9a-fA-F]{4})
        | U(?P<u8>[0-9a-fA-F]{8}) | (?P<octal>[0-3][0-7]{2}) | (?P<bad>.) )""",
    re.VERBOSE | re.DOTALL,
)
_PLAIN = dict(zip("abfnrtv\\?\"'`", "\a\b\f\n\r\t\v\\?\"'`", strict=True))

_WORDS: dict[str, tuple[str, Any]] = {
    "true": ("value", True),
    "false": ("value", False),
    "null": ("value", None),
    "in": ("in", "in"),
}
_NOT_NAMES = frozenset(_WORDS)
RESERVED = frozenset(
    """as break const continue else for function if import let loop package namespace return var
    void while""".split()  # noqa: SIM905 - a list of words reads better as words
)
"""Words that CEL keeps for itself."""
_MAX_INT = 2**63


def tokenize(source: str, *, paths: bool = False) -> list[Token]:
    """The tokens of `source`, closed by one of kind `end`.

    Args:
        source: The text.
        paths: Give `a.b.c` as one token; without, as five.

    Raises:
        ExpressionError: `syntax`, at the first character that begins no token.
    """
    tokens: list[Token] = []
    add = tokens.append
    end = 0
    for space, name, sign, rest in (_TOGETHER if paths else _APART).findall(source):
        start = end + len(space) if space else end
        if name:
            end = start + len(name)
            if "." in name:
                names = name.split(".")
                if not _NOT_NAMES.isdisjoint(names):
                    return tokenize(source)
                add(("path", names, start, end))
            elif name in _WORDS:
                add((*_WORDS[name], start, end))
            elif name[0] == "$":
                add(("step", name[1:], start, end))
            else:
                add(("name", name, start, end))
        elif sign:
            end = start + len(sign)
            add((sign, sign, start, end))
        elif rest:
            end = start + len(rest)
            add(_rest(source, rest, start, end))
    add(("end", None, len(source), len(source)))
    return tokens


def _rest(source: str, text: str, start: int, end: int) -> Token:
    first = text[0]
    if first in "0123456789":
        value = int(text) if text.isdigit() and len(text) < 19 else _number(text, start, end)
        return "value", value, start, end
    if len(text) == 1:
        raise _no_token(source, start)
    if first in "\"'":
        return "value", _string(text, start), start, end
    if first == "`":
        return "field", text[1:-1], start, end
    if first == ".":
        return "value", _number(text, start, end), start, end
    return "value", _raw_string(text), start, end


def _string(text: str, start: int) -> str:
    opening = 3 if text.startswith(('"""', "'''")) else 1
    body = text[opening:-opening]
    if "\\" not in body:
        return body
    return _ESCAPE.sub(lambda escape: _unescaped(escape, start + opening), body)


def _raw_string(text: str) -> str:
    opening = 3 if text[1:].startswith(('"""', "'''")) else 1
    return text[opening + 1 : -opening]


def _number(text: str, start: int, end: int) -> int | float:
    if text[:2] in ("0x", "0X"):
        value = int(text, 16)
    elif text.isdigit():
        if len(text) > 400:  # int() of a long text takes quadratic time
            raise ExpressionError("syntax", "the number is too long", start, end)
        value = int(text)
    else:
        return float(text)
    if value > _MAX_INT:  # 2**63 itself is legal after a minus, which the parser sees
        raise ExpressionError("syntax", "the number does not fit 64 bits", start, end)
    return value


def _unescaped(escape: re.Match[str], offset: int) -> str:
    plain, byte, u4, u8, octal, _bad = escape.groups()
    if plain:
        return _PLAIN[plain]
    digits = byte or u4 or u8
    code = int(digits, 16) if digits else int(octal, 8) if octal else -1
    if code < 0 or code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ExpressionError(
            "syntax",
            "no such escape in a string; a backslash itself is written twice",
            offset + escape.start(),
            offset + escape.end(),
        )
    return chr(code)


def _no_token(source: str, position: int) -> ExpressionError:
    character = source[position]
    if character in "\"'":
        return ExpressionError("syntax", "the string is not closed", position, len(source))
    hints = {
        "=": "compare with `==`",
        "&": "write `&&`",
        "|": "write `||`",
        "$": "a `$` begins a reference: `$step.path`",
        "`": "a name in backquotes may hold letters, digits and `_ . - /`",
    }
    hint = hints.get(character, "nothing in an expression begins with it")
    return ExpressionError("syntax", f"unexpected {character!r}: {hint}", position, position + 1)
