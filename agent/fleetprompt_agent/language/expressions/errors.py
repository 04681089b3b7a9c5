"""What can be wrong with an expression."""

from __future__ import annotations

from typing import Literal

from fleetprompt_protocol.errors import WorkflowError

ErrorKind = Literal["syntax", "limit", "type", "missing", "arithmetic", "unknown"]
"""`syntax`: not an expression. `limit`: a bound of the language. `type`: an operand of the wrong
type. `missing`: no such key or index. `arithmetic`: overflow, division by zero, no finite result.
`unknown`: no such name or function."""


class ExpressionError(WorkflowError):
    """An expression cannot be parsed or evaluated.

    Args:
        kind: Which kind of fault; `syntax` and static `limit`s are known before anything runs.
        message: What is wrong; names types and keys, never values.
        start: Offset of the first character concerned, in the source of the expression.
        end: Offset past the last one.
    """

    def __init__(self, kind: ErrorKind, message: str, start: int, end: int) -> None:
        super().__init__("step.expression", message)
        self.kind: ErrorKind = kind
        self.start = start
        self.end = end
