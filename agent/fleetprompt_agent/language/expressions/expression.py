"""A parsed expression, ready to be evaluated."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

from fleetprompt_agent.language.expressions.evaluation import MAX_VALUE_BYTES, Evaluation, fault
from fleetprompt_agent.language.expressions.evaluator import compile_node
from fleetprompt_agent.language.expressions.parser import parse
from fleetprompt_agent.language.expressions.syntax import Local, Path, StepName, Variable
from fleetprompt_agent.language.expressions.values import INT_MAX, INT_MIN, TypeName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_agent.language.expressions.syntax import Node, Reference

MAX_CONTAINERS = 40_000
"""Lists and maps in a made result; looking at one takes about half a microsecond."""

_OUTER = (Variable, StepName)
_PASSING = (Variable, StepName, Local)


class Expression:
    """An expression of the workflow language; immutable, and made by `parse_expression`."""

    __slots__ = ("_run", "is_path", "references", "slots", "source", "tree")

    def __init__(
        self, source: str, tree: Node, references: tuple[Reference, ...], slots: int
    ) -> None:
        self.source = source
        """The text, as it was written."""
        self.tree = tree
        """The syntax tree, for those who check it."""
        self.references = references
        """Every path from outside, in the order of the text; found without evaluating."""
        self.slots = slots
        self.is_path = isinstance(tree.base if isinstance(tree, Path) else tree, _OUTER)
        """Whether the whole expression is one reference and nothing else."""
        self._run: Callable[[Evaluation], Any] | None = None

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    def evaluate(self, scope: Mapping[str, Any]) -> Any:
        """The value in `scope` (root name to JSON value).

        Values are shared with the scope, not copied: neither side may change them. The same scope
        gives the same value; nothing else is read, and nothing is changed.

        Raises:
            ExpressionError: there is no value, or it is no JSON value, or it takes too much.
        """
        if self._run is None:
            self._run = compile_node(self.tree)
        value = self._run(Evaluation(scope, self.slots))
        if not isinstance(self.tree, Path):
            _check_json(value, self.tree)
        return value


def parse_expression(source: str) -> Expression:
    """The expression that `source` is; the same object for the same text.

    Raises:
        ExpressionError: `syntax`, `limit`, or `unknown` for a function that does not exist.
    """
    return _parsed(source)


@lru_cache(maxsize=4096)
def _parsed(source: str) -> Expression:
    tree, references, slots = parse(source)
    return Expression(source, tree, references, slots)


def _check_json(value: Any, node: Node) -> None:
    """Refuse a result that JSON cannot hold, or that grew past its bound by sharing parts."""
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return
    if kind is list or kind is dict:
        if not isinstance(node, _PASSING):
            _Result(node).size(value)
        return
    _check_scalar(value, node)


def _check_scalar(value: Any, node: Node) -> None:
    kind = type(value)
    if kind is float and not math.isfinite(value):
        raise fault("arithmetic", "the result is not a finite number", node)
    if kind is int and not INT_MIN <= value <= INT_MAX:
        raise fault("arithmetic", "the result does not fit 64 bits", node)
    if kind is TypeName:
        raise fault("type", "a type can be compared, but is no value to pass on", node)


class _Result:
    """Looks at every part of a made list or map, each once, however often it stands there."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.sizes: dict[int, int] = {}
        self.containers = MAX_CONTAINERS

    def size(self, value: list[Any] | dict[str, Any]) -> int:
        """About how many bytes it takes as JSON."""
        known = self.sizes.get(id(value))
        if known is not None:
            return known
        self.containers -= 1
        if self.containers < 0:
            self.refuse(f"the result has more than {MAX_CONTAINERS} lists and maps")
        total = 2 + 6 * len(value)
        parts: Any = value
        if type(value) is dict:
            total += sum(map(len, value))
            parts = value.values()
        if total > MAX_VALUE_BYTES:
            self.refuse(f"the result is larger than {MAX_VALUE_BYTES} bytes")
        for part in parts:
            kind = type(part)
            if kind is str:
                total += len(part)
            elif kind is list or kind is dict:
                total += self.size(part)
            elif kind is not bool:
                _check_scalar(part, self.node)
            if total > MAX_VALUE_BYTES:
                self.refuse(f"the result is larger than {MAX_VALUE_BYTES} bytes")
        self.sizes[id(value)] = total
        return total

    def refuse(self, message: str) -> NoReturn:
        """The result is too much."""
        raise fault("limit", message, self.node)
