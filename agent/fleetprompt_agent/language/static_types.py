"""Types of expressions as far as the text tells them: what must fail is found before a run.

A type is a name of the language, `number` for an int or a double, or None where it is not known.
What may be null counts as what it is otherwise: the operators refuse null as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from fleetprompt_agent.language.expressions.syntax import (
    Call,
    Chain,
    Conditional,
    Has,
    ListOf,
    Literal,
    Local,
    Logic,
    Macro,
    MapOf,
    Path,
    StepName,
    Unary,
    Variable,
)
from fleetprompt_agent.language.expressions.values import type_name

if TYPE_CHECKING:
    from fleetprompt_agent.language.expressions.syntax import Node

StaticType: TypeAlias = str | None
TypeOf: TypeAlias = Callable[[str, tuple[str | int, ...], bool], StaticType]
"""The type of a path: `(root, path, is_shorthand)`."""
Fault: TypeAlias = Callable[["Node", str], None]

_NUMBERS = ("int", "double", "number")
_RESULTS = {
    "size": "int",
    "int": "int",
    "double": "double",
    "string": "string",
    "type": "type",
    "not": "bool",
    "distinct": "list",
    "startsWith": "bool",
    "endsWith": "bool",
    "contains": "bool",
    "lower": "string",
    "upper": "string",
    "trim": "string",
    "replace": "string",
    "join": "string",
    "split": "list",
}
_TAKES: dict[str, tuple[str, ...]] = {
    "size": ("string", "list", "map"),
    "int": (*_NUMBERS, "string", "bool"),
    "double": (*_NUMBERS, "string"),
    "string": (*_NUMBERS, "string", "bool"),
    "not": ("bool",),
    "distinct": ("list",),
    "join": ("list",),
    **dict.fromkeys(("startsWith", "endsWith", "contains", "lower", "upper"), ("string",)),
    **dict.fromkeys(("trim", "replace", "split"), ("string",)),
}
"""What the first argument of a function, or the target of a method, can be."""


def infer(node: Node, type_of: TypeOf, fault: Fault) -> StaticType:
    """The type of an expression.

    Args:
        node: Its tree.
        type_of: Gives the types of paths from outside.
        fault: Called for each part that can give no value.
    """
    return _Checker(type_of, fault).of(node)


class _Checker:
    def __init__(self, type_of: TypeOf, fault: Fault) -> None:
        self.type_of = type_of
        self.fault = fault

    def of(self, node: Node) -> StaticType:
        match node:
            case Path():
                return self._path(node)
            case Literal():
                return type_name(node.value)
            case Chain():
                return self._chain(node)
            case Variable(name=name):
                return self.type_of(name, (), False)
            case StepName(name=name):
                return self.type_of("steps", (name,), True)
            case Has():
                self.of(node.path)
                return "bool"
            case Call():
                return self._call(node)
            case Macro():
                return self._macro(node)
            case Unary():
                return self._unary(node)
            case Logic():
                for operand in node.operands:
                    self._need(operand, ("bool",), f"`{node.operator}` joins true and false")
                return "bool"
            case Conditional():
                return self._conditional(node.condition, node.then, node.otherwise)
            case ListOf():
                for item in node.items:
                    self.of(item)
                return "list"
            case MapOf():
                for key, value in node.entries:
                    self._need(key, ("string",), "a map's key is a string")
                    self.of(value)
                return "map"
            case Local():
                return None

    def _need(self, node: Node, wanted: tuple[str, ...], why: str) -> StaticType:
        found = self.of(node)
        if found is not None and not _fits(found, wanted):
            self.fault(node, f"{why}, and this is {_article(found)}")
            return None
        return found

    def _path(self, node: Path) -> StaticType:
        constant: list[str | int] = []
        for segment in node.segments:
            if isinstance(segment, str):
                constant.append(segment)
                continue
            self.of(segment)
            if isinstance(segment, Literal) and type(segment.value) in (str, int):
                constant.append(segment.value)
            else:
                return None
        match node.base:
            case Variable(name=name):
                return self.type_of(name, tuple(constant), False)
            case StepName(name=name):
                return self.type_of("steps", (name, *constant), True)
            case base:
                self._need(base, ("map", "list"), "only maps and lists have parts")
                return None

    def _call(self, node: Call) -> StaticType:
        if node.name == "cond":
            return self._conditional(*node.arguments)
        if node.name == "default":
            first, second = (self.of(argument) for argument in node.arguments)
            return first if first == second else None
        first_argument, *others = node.arguments
        taken = _TAKES.get(node.name)
        if taken is None:
            self.of(first_argument)
        else:
            shown = " or ".join(_article(kind) for kind in taken if kind not in _NUMBERS[:2])
            self._need(first_argument, taken, f"`{node.name}` takes {shown}")
        for argument in others:
            self.of(argument)
        return _RESULTS.get(node.name)

    def _macro(self, node: Macro) -> StaticType:
        self._need(node.target, ("list", "map"), f"`{node.kind}` goes over a list or a map")
        if node.predicate is not None:
            self._need(node.predicate, ("bool",), f"`{node.kind}` asks for true or false")
        if node.transform is not None:
            self.of(node.transform)
        return "list" if node.kind in ("map", "filter") else "bool"

    def _unary(self, node: Unary) -> StaticType:
        if node.operator == "!":
            self._need(node.operand, ("bool",), "`!` turns true and false round")
            return "bool"
        return self._need(node.operand, _NUMBERS, "`-` takes a number")

    def _chain(self, node: Chain) -> StaticType:
        left = self.of(node.first)
        for operator, operand in node.rest:
            right = self.of(operand)
            left = self._joined(operator, left, right, node)
        return left

    def _joined(
        self, operator: str, left: StaticType, right: StaticType, node: Chain
    ) -> StaticType:
        if operator in ("==", "!="):
            return "bool"
        if operator == "in":
            if right is not None and right not in ("list", "map"):
                self.fault(node, f"`in` looks into a list or a map, not into {_article(right)}")
            return "bool"
        comparing = operator in ("<", "<=", ">", ">=")
        if left is None or right is None:
            return "bool" if comparing else None
        numbers = left in _NUMBERS and right in _NUMBERS
        if comparing:
            if not numbers and not (left == right and left in ("string", "bool")):
                self._cannot_join(operator, left, right, node)
            return "bool"
        if numbers and not (operator == "%" and "double" in (left, right)):
            return left if left == right else "number"
        if operator == "+" and left == right and left in ("string", "list"):
            return left
        self._cannot_join(operator, left, right, node)
        return None

    def _cannot_join(self, operator: str, left: str, right: str, node: Chain) -> None:
        self.fault(node, f"`{operator}` cannot join {_article(left)} and {_article(right)}")

    def _conditional(self, condition: Node, then: Node, otherwise: Node) -> StaticType:
        self._need(condition, ("bool",), "a condition is true or false")
        first, second = self.of(then), self.of(otherwise)
        return first if first == second else None


def _fits(found: str, wanted: tuple[str, ...]) -> bool:
    return found in wanted or (found in _NUMBERS and any(kind in _NUMBERS for kind in wanted))


def _article(kind: str) -> str:
    if kind == "null_type":
        return "null"
    return f"an {kind}" if kind[0] in "aio" else f"a {kind}"
