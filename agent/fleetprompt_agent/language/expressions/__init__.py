"""Expressions: a bounded, pure subset of CEL."""

from fleetprompt_agent.language.expressions.errors import ErrorKind, ExpressionError
from fleetprompt_agent.language.expressions.expression import Expression, parse_expression
from fleetprompt_agent.language.expressions.parser import ROOTS
from fleetprompt_agent.language.expressions.syntax import Reference

__all__ = ["ROOTS", "ErrorKind", "Expression", "ExpressionError", "Reference", "parse_expression"]
