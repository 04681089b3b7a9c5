"""One evaluation: what it may look up, and what it may still spend.

A step of the budget stands for about a microsecond of work, so that 20,000 of them bound the time
of any expression to some 25 ms, whatever its text and its data are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.expressions.errors import ErrorKind, ExpressionError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetprompt_agent.language.expressions.syntax import Node

MAX_STEPS = 20_000
MAX_VALUE_BYTES = 1 << 20
"""Of one value that an expression makes; one that it only passes on may be larger."""
MAX_ALLOCATED_BYTES = 8 << 20
"""Of all values made on the way."""


class Evaluation:
    """The state of one evaluation; made for it and dropped after it."""

    __slots__ = ("allocated", "locals", "scope", "steps")

    def __init__(self, scope: Mapping[str, Any], slots: int) -> None:
        self.scope = scope
        self.locals: list[Any] = [None] * slots
        self.steps = MAX_STEPS
        self.allocated = MAX_ALLOCATED_BYTES

    def spend(self, steps: int, node: Node) -> None:
        """Take `steps` from the budget.

        Raises:
            ExpressionError: `limit`, when there are not so many left.
        """
        self.steps -= steps
        if self.steps < 0:
            raise fault("limit", f"the expression takes more than {MAX_STEPS} steps", node)

    def allocate(self, size: int, node: Node) -> None:
        """Account for a value of `size` bytes before it is made.

        Raises:
            ExpressionError: `limit`.
        """
        self.allocated -= size
        if size > MAX_VALUE_BYTES:
            raise fault("limit", f"a value would be larger than {MAX_VALUE_BYTES} bytes", node)
        if self.allocated < 0:
            message = f"the expression allocates more than {MAX_ALLOCATED_BYTES} bytes"
            raise fault("limit", message, node)


def fault(kind: ErrorKind, message: str, node: Node) -> ExpressionError:
    """The error with the span of `node`."""
    return ExpressionError(kind, message, node.start, node.end)


def text_bytes(text: str) -> int:
    """At most how many bytes a string takes; told without reading it."""
    return len(text) if text.isascii() else 4 * len(text)
