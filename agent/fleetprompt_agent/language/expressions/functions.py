"""The functions of the language.

`default`, `cond` and the macros choose what to evaluate, and so are part of the evaluator.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.expressions.evaluation import Evaluation, fault, text_bytes
from fleetprompt_agent.language.expressions.values import (
    INT_MAX,
    INT_MIN,
    TYPES,
    described,
    type_name,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.language.expressions.syntax import Node

FUNCTIONS: dict[str, tuple[int, ...]] = {
    "size": (1,),
    "int": (1,),
    "double": (1,),
    "string": (1,),
    "type": (1,),
    "default": (2,),
    "not": (1,),
    "cond": (3,),
    "distinct": (1,),
}
"""Functions called as `name(x)`, and how many arguments each takes."""

METHODS: dict[str, tuple[int, ...]] = {
    "size": (0,),
    "startsWith": (1,),
    "endsWith": (1,),
    "contains": (1,),
    "lower": (0,),
    "upper": (0,),
    "trim": (0,),
    "replace": (2, 3),
    "join": (0, 1),
    "split": (1, 2),
}
"""Functions called as `x.name()`, and how many arguments stand between the brackets."""

MACROS: dict[str, tuple[int, ...]] = {
    "all": (2,),
    "exists": (2,),
    "exists_one": (2,),
    "filter": (2,),
    "map": (2, 3),
}
"""Called as `x.name(variable, …)`; the arguments are evaluated once for each item of `x`."""

_INT_TEXT = re.compile(r"[+-]?[0-9]{1,40}")
_DOUBLE_TEXT = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE
)
_FIRST_EXPONENT = 6
"""From a million on, a double's text has an exponent: `string(1e6)` is `1e+06` in CEL."""
_ASCII_SPACE = " \t\n\v\f\r"
_UNICODE_SPACE = (
    _ASCII_SPACE + "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009"
    "\u200a\u2028\u2029\u202f\u205f\u3000"
)
"""White space as CEL's string extension has it (Unicode's White_Space property)."""


def size(_e: Evaluation, node: Node, value: Any) -> int:
    """Characters of a string, items of a list, entries of a map."""
    if type(value) not in (str, list, dict):
        raise fault("type", f"`size` takes a string, list or map, not {described(value)}", node)
    return len(value)


def to_int(e: Evaluation, node: Node, value: Any) -> int:
    """An int from a number (toward zero), its decimal text, or a bool."""
    e.spend(1, node)
    kind = type(value)
    if kind is int or kind is bool:
        number = int(value)
    elif kind is float:
        if not math.isfinite(value):
            raise fault("arithmetic", "the double does not fit an int", node)
        number = math.trunc(value)
        # CEL refuses what rounds to the bound itself, as the double nearest to INT_MAX is above it
        if not -(2.0**63) < value < 2.0**63:
            raise fault("arithmetic", "the double does not fit an int", node)
    elif kind is str:
        text = value.strip(_ASCII_SPACE) if len(value) < 100 else ""
        if not _INT_TEXT.fullmatch(text):
            raise fault("type", "`int` cannot read this string as a whole number", node)
        number = int(text)
    else:
        raise fault("type", f"`int` takes a number, string or bool, not {described(value)}", node)
    if not INT_MIN <= number <= INT_MAX:
        raise fault("arithmetic", "the number does not fit 64 bits", node)
    return int(number)


def to_double(e: Evaluation, node: Node, value: Any) -> float:
    """A double from a number or its text."""
    e.spend(1, node)
    kind = type(value)
    if kind in (int, float):
        return float(value)
    if kind is not str:
        raise fault("type", f"`double` takes a number or a string, not {described(value)}", node)
    text = value.strip(_ASCII_SPACE) if len(value) < 1000 else ""
    if not _DOUBLE_TEXT.fullmatch(text):
        raise fault("type", "`double` cannot read this string as a number", node)
    return float(text)


def to_string(e: Evaluation, node: Node, value: Any) -> str:
    """The text of a string, number or bool."""
    kind = type(value)
    if kind is str:
        return str(value)
    if kind is bool:
        return "true" if value else "false"
    if kind is int:
        return str(value)
    if kind is float:
        e.spend(3, node)
        return double_text(value)
    message = f"`string` takes a string, number or bool, not {described(value)}"
    raise fault("type", message, node)


def double_text(value: float) -> str:
    """The shortest text of a double that reads back as the same, as CEL's string() has it."""
    if math.isnan(value):
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    sign = "-" if math.copysign(1, value) < 0 else ""
    mantissa, _, exponent_text = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    exponent = int(exponent_text or 0)
    digits = (whole + fraction).lstrip("0")
    leading = len(whole + fraction) - len(digits)
    point = len(whole) + exponent - leading
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    if -4 <= point - 1 < _FIRST_EXPONENT:
        if point <= 0:
            return f"{sign}0.{'0' * -point}{digits}"
        if len(digits) <= point:
            return f"{sign}{digits}{'0' * (point - len(digits))}"
        return f"{sign}{digits[:point]}.{digits[point:]}"
    tail = f".{digits[1:]}" if len(digits) > 1 else ""
    power = point - 1
    return f"{sign}{digits[0]}{tail}e{'-' if power < 0 else '+'}{abs(power):02d}"


def type_of(_e: Evaluation, _node: Node, value: Any) -> Any:
    """The type of a value, to compare with `int`, `string`, `list` …."""
    return TYPES.get(type_name(value), TYPES["null_type"])


def negation(_e: Evaluation, node: Node, value: Any) -> bool:
    """`!x`."""
    if type(value) is not bool:
        raise fault("type", f"`!` needs a bool, not {described(value)}", node)
    return not value


def distinct(e: Evaluation, node: Node, value: Any) -> list[Any]:
    """The items of a list, each once, in the order of their first occurrence."""
    if type(value) is not list:
        raise fault("type", f"`distinct` takes a list, not {described(value)}", node)
    e.allocate(8 * len(value), node)
    seen: set[Any] = set()
    kept: list[Any] = []
    for item in value:
        key = _hashable(e, node, item)
        if key not in seen:
            seen.add(key)
            kept.append(item)
    return kept


def _hashable(e: Evaluation, node: Node, value: Any) -> Any:
    """Something that is equal and hashes alike for values that are equal in the language."""
    e.spend(2, node)
    kind = type(value)
    if kind is bool:
        return (bool, value)
    if kind is list:
        return (list, *[_hashable(e, node, item) for item in value])
    if kind is dict:
        return (dict, frozenset((key, _hashable(e, node, item)) for key, item in value.items()))
    if kind is float and math.isnan(value):
        return object()
    return value


def starts_with(e: Evaluation, node: Node, text: Any, prefix: Any) -> bool:
    """Whether a string begins with another."""
    _need_strings("startsWith", node, text, prefix)
    e.spend(1 + (len(prefix) >> 14), node)
    return bool(text.startswith(prefix))


def ends_with(e: Evaluation, node: Node, text: Any, suffix: Any) -> bool:
    """Whether a string ends with another."""
    _need_strings("endsWith", node, text, suffix)
    e.spend(1 + (len(suffix) >> 14), node)
    return bool(text.endswith(suffix))


def contains(e: Evaluation, node: Node, text: Any, part: Any) -> bool:
    """Whether a string holds another."""
    _need_strings("contains", node, text, part)
    _spend_search(e, node, text, part)
    return part in text


def lower(e: Evaluation, node: Node, text: Any) -> str:
    """The string in lower case."""
    _need_strings("lower", node, text)
    _spend_copy(e, node, 3 * text_bytes(text))
    return str(text.lower())


def upper(e: Evaluation, node: Node, text: Any) -> str:
    """The string in upper case."""
    _need_strings("upper", node, text)
    _spend_copy(e, node, 3 * text_bytes(text))
    return str(text.upper())


def trim(e: Evaluation, node: Node, text: Any) -> str:
    """The string without white space around it."""
    _need_strings("trim", node, text)
    _spend_copy(e, node, text_bytes(text))
    return str(text.strip(_UNICODE_SPACE))


def replace(e: Evaluation, node: Node, text: Any, old: Any, new: Any, limit: Any = -1) -> str:
    """The string with `old` replaced by `new`, at most `limit` times (all when negative)."""
    _need_strings("replace", node, text, old, new)
    count = _limit("replace", node, limit)
    _spend_search(e, node, text, old)
    found = text.count(old)
    found = found if count < 0 else min(found, count)
    width = 1 if text.isascii() and new.isascii() else 4
    _spend_copy(e, node, width * (len(text) + found * max(0, len(new) - len(old))))
    return str(text.replace(old, new, count))


def join(e: Evaluation, node: Node, items: Any, separator: Any = "") -> str:
    """The strings of a list as one."""
    if type(items) is not list:
        raise fault("type", f"`join` takes a list of strings, not {described(items)}", node)
    _need_strings("join", node, separator)
    e.spend(len(items) >> 4, node)
    total = text_bytes(separator) * max(0, len(items) - 1)
    for item in items:
        if type(item) is not str:
            raise fault("type", f"`join` takes strings; the list has {described(item)}", node)
        total += text_bytes(item)
    _spend_copy(e, node, total)
    return str(separator.join(items))


def split(e: Evaluation, node: Node, text: Any, separator: Any, limit: Any = -1) -> list[str]:
    """The parts of a string between separators; with `limit`, at most so many parts."""
    _need_strings("split", node, text, separator)
    count = _limit("split", node, limit)
    if count == 0 or not text:
        return [""] if count else []
    _spend_search(e, node, text, separator)
    parts = text.count(separator) + 1 if separator else len(text)
    parts = parts if count < 0 else min(parts, count)
    _spend_copy(e, node, text_bytes(text) + 64 * parts)
    if separator:
        return list(text.split(separator, count - 1 if count > 0 else -1))
    if count < 0 or count >= len(text):
        return list(text)
    return [*text[: count - 1], text[count - 1 :]]


def _need_strings(name: str, node: Node, *values: Any) -> None:
    for value in values:
        if type(value) is not str:
            raise fault("type", f"`{name}` works on strings, not on {described(value)}", node)


def _limit(name: str, node: Node, value: Any) -> int:
    if type(value) is not int:
        raise fault("type", f"the limit of `{name}` is an int, not {described(value)}", node)
    return max(-1, min(value, 1 << 31))


def _spend_search(e: Evaluation, node: Node, text: str, part: str) -> None:
    """Account for one search: short ones are quadratic at worst, long ones linear (CPython)."""
    length, width = len(text), len(part)
    compared = width if length < 2500 else min(width, 100) if length < 30_000 else min(width, 6)
    e.spend(1 + (length * compared >> 10), node)


def _spend_copy(e: Evaluation, node: Node, size: int) -> None:
    e.spend(1 + (size >> 10), node)
    e.allocate(size, node)


CALLS: dict[str, Callable[..., Any]] = {
    "size": size,
    "int": to_int,
    "double": to_double,
    "string": to_string,
    "type": type_of,
    "not": negation,
    "distinct": distinct,
    "startsWith": starts_with,
    "endsWith": ends_with,
    "contains": contains,
    "lower": lower,
    "upper": upper,
    "trim": trim,
    "replace": replace,
    "join": join,
    "split": split,
}
"""What each function does: `(evaluation, node, *arguments) -> value`."""
