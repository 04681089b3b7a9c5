"""A parsed expression, ready to be evaluated."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.expressions.errors import ExpressionError
from fleetprompt_agent.language.expressions.evaluation import MAX_VALUE_BYTES, Evaluation, fault
from fleetprompt_agent.language.expressions.evaluator import compile_node
from fleetprompt_agent.language.expressions.parser import parse
from fleetprompt_agent.language.expressions.syntax import Local, Path, StepName, Variable
from fleetprompt_agent.language.expressions.values import INT_MAX, INT_MIN, TypeName

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_agent.language.expressions.syntax import Node, Reference

_PASSING = (Variable, StepName, Local)


class Expression:
    """An expression of the workflow language; immutable, and made by `parse_expression`."""

    __slots__ = ("_run", "references", "slots", "source", "tree")

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
        self._run: Callable[[Evaluation], Any] | None = None

    def __repr__(self) -> str:
        return f"Expression({self.source!r})"

    @property
    def is_path(self) -> bool:
        """Whether the whole expression is one reference and nothing else."""
        tree = self.tree
        return isinstance(tree, (Variable, StepName)) or (
            isinstance(tree, Path) and isinstance(tree.base, (Variable, StepName))
        )

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
            _check_container(value, node)
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


def _check_container(value: Any, node: Node) -> None:
    left = MAX_VALUE_BYTES
    pending = [value]
    while pending:
        item = pending.pop()
        kind = type(item)
        if kind is str:
            left -= len(item)
        elif kind is list:
            left -= 8 * len(item)
            pending += item
        elif kind is dict:
            left -= 8 * len(item)
            pending += item
            pending += item.values()
        else:
            left -= 8
            _check_scalar(item, node)
        if left < 0:
            raise ExpressionError(
                "limit",
                f"the result is larger than {MAX_VALUE_BYTES} bytes",
                node.start,
                node.end,
            )
