"""Operators on values: CEL's, with int and double mixed."""

from __future__ import annotations

import math
from operator import ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.expressions.evaluation import Evaluation, fault, text_bytes
from fleetprompt_agent.language.expressions.values import INT_MAX, INT_MIN, described

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.language.expressions.syntax import Node

_NUMBERS = (int, float)
_KEYS = (str, int, float, bool)
"""What may be asked for in a map; only a string is ever found."""
_PLAIN = (str, int, type(None), bool)


def equal(e: Evaluation, node: Node, a: Any, b: Any) -> bool:
    """Whether two values are equal: numbers by value, other types only with their own."""
    kind = type(a)
    if kind is type(b):
        if kind in _PLAIN:
            if kind is str:
                e.spend(len(a) >> 14, node)
            return bool(a == b)
        if kind is list:
            return len(a) == len(b) and _all_equal(e, node, zip(a, b, strict=True), len(a))
        if kind is dict:
            if a.keys() != b.keys():
                e.spend(len(a) >> 4, node)
                return False
            return _all_equal(e, node, ((a[key], b[key]) for key in a), len(a))
        return a is b if kind is not float else bool(a == b)
    return kind in _NUMBERS and type(b) in _NUMBERS and bool(a == b)


def _all_equal(e: Evaluation, node: Node, pairs: Any, count: int) -> bool:
    e.spend(1 + (count >> 4), node)
    for a, b in pairs:
        e.spend(1, node)
        if not equal(e, node, a, b):
            return False
    return True


def not_equal(e: Evaluation, node: Node, a: Any, b: Any) -> bool:
    """`a != b`."""
    return not equal(e, node, a, b)


def _ordering(
    symbol: str, compare: Callable[[Any, Any], bool]
) -> Callable[[Evaluation, Node, Any, Any], bool]:
    def ordered(e: Evaluation, node: Node, a: Any, b: Any) -> bool:
        kind, other = type(a), type(b)
        if kind is str and other is str:
            e.spend(len(a) >> 14, node)
            return compare(a, b)
        if (kind in _NUMBERS and other in _NUMBERS) or (kind is bool and other is bool):
            return compare(a, b)
        raise _no_operator(symbol, node, a, b)

    return ordered


def contained(e: Evaluation, node: Node, a: Any, b: Any) -> bool:
    """`a in b`: an item of a list, or a key of a map."""
    if type(b) is list:
        if type(a) is str:
            e.spend(len(b) >> 5, node)
            return a in b
        e.spend(len(b) >> 1, node)
        return any(equal(e, node, a, item) for item in b)
    if type(b) is dict and type(a) in _KEYS:
        return type(a) is str and a in b
    raise _no_operator("in", node, a, b)


def add(e: Evaluation, node: Node, a: Any, b: Any) -> Any:
    """`a + b`: numbers, strings, lists."""
    kind, other = type(a), type(b)
    if kind in _NUMBERS and other in _NUMBERS:
        return _number(a + b, node)
    if kind is not other or kind not in (str, list):
        raise _no_operator("+", node, a, b)
    if kind is str:
        e.spend(1, node)
        e.allocate(text_bytes(a) + text_bytes(b), node)
    else:
        e.allocate(8 * (len(a) + len(b)), node)
    return a + b


def subtract(_e: Evaluation, node: Node, a: Any, b: Any) -> Any:
    """`a - b`."""
    _need_numbers("-", node, a, b)
    return _number(a - b, node)


def multiply(_e: Evaluation, node: Node, a: Any, b: Any) -> Any:
    """`a * b`."""
    _need_numbers("*", node, a, b)
    return _number(a * b, node)


def divide(_e: Evaluation, node: Node, a: Any, b: Any) -> Any:
    """`a / b`: toward zero for ints, IEEE for doubles."""
    _need_numbers("/", node, a, b)
    if type(a) is int and type(b) is int:
        if b == 0:
            raise fault("arithmetic", "division by zero", node)
        quotient = abs(a) // abs(b)
        return _number(quotient if (a < 0) == (b < 0) else -quotient, node)
    a, b = float(a), float(b)
    if b == 0:
        if a == 0 or math.isnan(a):
            return math.nan
        return math.copysign(math.inf, a) * math.copysign(1.0, b)
    return a / b


def remainder(_e: Evaluation, node: Node, a: Any, b: Any) -> Any:
    """`a % b`, of ints, with the sign of `a`."""
    if type(a) is not int or type(b) is not int:
        raise _no_operator("%", node, a, b)
    if b == 0:
        raise fault("arithmetic", "division by zero", node)
    if b == -1 and a == INT_MIN:
        raise fault("arithmetic", "the result does not fit 64 bits", node)
    rest = abs(a) % abs(b)
    return -rest if a < 0 else rest


def negate(_e: Evaluation, node: Node, a: Any) -> Any:
    """`-a`."""
    if type(a) not in _NUMBERS:
        raise fault("type", f"`-` needs a number, not {described(a)}", node)
    return _number(-a, node)


def _need_numbers(symbol: str, node: Node, a: Any, b: Any) -> None:
    if type(a) not in _NUMBERS or type(b) not in _NUMBERS:
        raise _no_operator(symbol, node, a, b)


def _number(value: Any, node: Node) -> Any:
    if type(value) is int and not INT_MIN <= value <= INT_MAX:
        raise fault("arithmetic", "the result does not fit 64 bits", node)
    return value


def _no_operator(symbol: str, node: Node, a: Any, b: Any) -> Exception:
    message = f"`{symbol}` cannot join {described(a)} and {described(b)}"
    if symbol == "+" and str in (type(a), type(b)):
        message += "; make a string of the other with string(…)"
    return fault("type", message, node)


OPERATORS: dict[str, Callable[[Evaluation, Node, Any, Any], Any]] = {
    "==": equal,
    "!=": not_equal,
    "<": _ordering("<", lt),
    "<=": _ordering("<=", le),
    ">": _ordering(">", gt),
    ">=": _ordering(">=", ge),
    "in": contained,
    "+": add,
    "-": subtract,
    "*": multiply,
    "/": divide,
    "%": remainder,
}
