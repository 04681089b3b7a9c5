"""Tokens to a syntax tree: a precedence climber with bounds.

The grammar is CEL's, less messages, bytes, unsigned numbers and optional selection, plus `$name`
for a step. Loop variables are resolved here, so that what remains a `Variable` comes from outside.
"""

from __future__ import annotations

from typing import NoReturn

from fleetprompt_agent.language.expressions.errors import ExpressionError
from fleetprompt_agent.language.expressions.functions import FUNCTIONS, MACROS, METHODS
from fleetprompt_agent.language.expressions.lexer import RESERVED, Token, tokenize
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
    Node,
    Path,
    Reference,
    StepName,
    Unary,
    Variable,
    quoted,
)
from fleetprompt_agent.language.expressions.values import INT_MAX, TYPES

MAX_SOURCE_BYTES = 4096
"""An expression longer than this is a program; programs belong in steps."""
MAX_DEPTH = 48
"""Nesting. Parsing and evaluating take some six stack frames a level."""
MAX_NODES = 1000
MAX_SELECTORS = 64
"""Selections in one path."""

ROOTS = ("inputs", "steps", "secrets", "run", "step", "item", "index", "result")
"""Every name that an expression can find outside itself, somewhere in a workflow."""

_PRECEDENCE = {
    "||": 1,
    "&&": 2,
    **dict.fromkeys(("==", "!=", "<", "<=", ">", ">=", "in"), 3),
    **dict.fromkeys("+-", 4),
    **dict.fromkeys("*/%", 5),
}
_NO_VARIABLES = RESERVED | TYPES.keys()
_SHOWN = {"end": "the end", "value": "a value", "step": "a reference"}
_WORDS_FOR_SIGNS = {"and": "&&", "or": "||", "not": "!", "is": "==", "eq": "=="}


def parse(source: str) -> tuple[Node, tuple[Reference, ...], int]:
    """The tree of an expression, the paths it refers to, and how many loop variables it has.

    Raises:
        ExpressionError: `syntax`, `limit`, or `unknown` (a function that does not exist).
    """
    size = len(source) if source.isascii() else len(source.encode(errors="replace"))
    if size > MAX_SOURCE_BYTES:
        message = f"an expression has at most {MAX_SOURCE_BYTES} bytes"
        raise ExpressionError("limit", message, 0, len(source))
    try:
        parser = _Parser(tokenize(source, paths=True))
        tree = parser.whole()
    except ExpressionError:  # read it token by token, and say where it goes wrong
        parser = _Parser(tokenize(source))
        tree = parser.whole()
    return tree, tuple(parser.references), parser.slots


class _Parser:
    """One pass over the tokens. Every method leaves `self.token` after what it read."""

    __slots__ = ("kind", "locals", "nesting", "nodes", "position", "references", "slots", "tokens")

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.position = 0
        self.kind = tokens[0][0]
        self.nodes = 0
        self.nesting = 0
        self.references: list[Reference] = []
        self.locals: list[tuple[str, int]] = []
        self.slots = 0

    # tokens

    def advance(self) -> Token:
        """The current token; the next becomes current."""
        position = self.position
        self.position = position + 1
        self.kind = self.tokens[position + 1][0]
        return self.tokens[position]

    def expect(self, kind: str, what: str) -> Token:
        """The current token, which must be of this kind."""
        if self.kind != kind:
            self.unexpected(what)
        return self.advance()

    def unexpected(self, wanted: str) -> NoReturn:
        """Refuse the current token."""
        kind, value, start, end = self.tokens[self.position]
        if kind == "name" and value in RESERVED:
            found = f"the reserved word `{value}`"
        else:
            found = _SHOWN.get(kind, f"`{value}`")
        message = f"expected {wanted}, found {found}"
        if kind == "name" and value in _WORDS_FOR_SIGNS:
            message += f"; write `{_WORDS_FOR_SIGNS[value]}`"
        raise ExpressionError("syntax", message, start, max(end, start + 1))

    def counted(self, depth: int, start: int, end: int) -> int:
        """The depth of a new node above one of `depth`; checks both bounds."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise ExpressionError(
                "limit", f"an expression has at most {MAX_NODES} parts", start, end
            )
        if depth >= MAX_DEPTH:
            raise self.too_deep(start, end)
        return depth + 1

    def too_deep(self, start: int, end: int) -> ExpressionError:
        """The error for nesting."""
        message = f"an expression nests at most {MAX_DEPTH} deep"
        return ExpressionError("limit", message, start, end)

    # grammar

    def whole(self) -> Node:
        """The expression that all tokens are."""
        tree = self.expression()
        if self.kind != "end":
            self.unexpected("an operator or the end")
        return tree

    def expression(self) -> Node:
        """`a ? b : c` or anything tighter."""
        self.nesting += 1
        if self.nesting > MAX_DEPTH:
            raise self.too_deep(*self.tokens[self.position][2:])
        condition = self.binary(1)
        if self.kind == "?":
            self.advance()
            then = self.binary(1)
            self.expect(":", "`:` of a `? :`")
            otherwise = self.expression()
            deepest = max(condition.depth, then.depth, otherwise.depth)
            depth = self.counted(deepest, condition.start, otherwise.end)
            condition = Conditional(
                condition, then, otherwise, condition.start, otherwise.end, depth
            )
        self.nesting -= 1
        return condition

    def binary(self, lowest: int) -> Node:
        """Operators of precedence `lowest` and tighter."""
        left = self.unary()
        while (level := _PRECEDENCE.get(self.kind, 0)) >= lowest:
            left = self.logic(left, level) if level < 3 else self.chain(left, level)
        return left

    def logic(self, first: Node, level: int) -> Node:
        """`first && b && c`: one node."""
        operator = self.kind
        operands = [first]
        depth = first.depth
        while self.kind == operator:
            self.advance()
            operand = self.binary(level + 1)
            operands.append(operand)
            depth = max(depth, operand.depth)
            self.nodes += 1
        end = operands[-1].end
        return Logic(operator, operands, first.start, end, self.counted(depth, first.start, end))

    def chain(self, first: Node, level: int) -> Node:
        """`first + b - c`: one node."""
        rest: list[tuple[str, Node]] = []
        depth = first.depth
        end = first.end
        while _PRECEDENCE.get(self.kind) == level:
            operator = self.advance()[0]
            operand = self.binary(level + 1)
            rest.append((operator, operand))
            depth = max(depth, operand.depth)
            end = operand.end
            self.nodes += 1
        return Chain(first, rest, first.start, end, self.counted(depth, first.start, end))

    def unary(self) -> Node:
        """`!a`, `-a`; a minus before a number belongs to it."""
        operator = self.kind
        if operator == "path":
            return self.named_path()
        if operator == "value":
            literal = self.literal()
            return literal if self.kind not in (".", "[") else self.postfix(literal)
        if operator not in ("!", "-"):
            return self.postfix(self.primary())
        _, _, start, end = self.advance()
        if operator == "-" and self.kind == "value":
            _, value, _, end = self.tokens[self.position]
            if type(value) in (int, float):
                self.advance()
                self.counted(0, start, end)
                return self.postfix(Literal(-value, start, end))
        if self.kind in ("!", "-") and self.kind != operator:
            self.unexpected("a value")
        self.nesting += 1
        if self.nesting > MAX_DEPTH:
            raise self.too_deep(start, end)
        operand = self.unary()
        self.nesting -= 1
        depth = self.counted(operand.depth, start, operand.end)
        return Unary(operator, operand, start, operand.end, depth)

    def primary(self) -> Node:
        """A literal, a name, a call, or something in brackets."""
        kind = self.kind
        if kind == "name":
            return self.named(self.advance())
        if kind == "value":
            return self.literal()
        if kind == "step":
            _, name, start, end = self.advance()
            self.counted(0, start, end)
            return _step(name, start, end)
        if kind == "(":
            self.advance()
            inner = self.expression()
            self.expect(")", "`)`")
            return inner
        if kind == "[":
            return self.list_of()
        if kind == "{":
            return self.map_of()
        raise self.unexpected("a value")

    def literal(self) -> Node:
        """A value as it is written."""
        _, value, start, end = self.advance()
        if type(value) is int and value > INT_MAX:
            raise ExpressionError("syntax", "the number does not fit 64 bits", start, end)
        self.counted(0, start, end)
        return Literal(value, start, end)

    def named(self, token: Token) -> Node:
        """What a name begins: a loop's variable, a call, a type, a variable from outside."""
        if self.kind == "(":
            return self.call(token)
        _, name, start, end = token
        return self.variable(name, start, end)

    def variable(self, name: str, start: int, end: int) -> Node:
        """What a name stands for where it is no call."""
        self.counted(0, start, end)
        if self.locals:
            for known, slot in reversed(self.locals):
                if known == name:
                    return Local(name, slot, start, end)
        if name not in _NO_VARIABLES:
            return Variable(name, start, end)
        if name in TYPES:
            return Literal(TYPES[name], start, end)
        raise ExpressionError("syntax", f"`{name}` is a reserved word", start, end)

    def list_of(self) -> Node:
        """`[a, b,]`."""
        start = self.advance()[2]
        items: list[Node] = []
        depth = 0
        while self.kind != "]":
            item = self.expression()
            items.append(item)
            depth = max(depth, item.depth)
            if self.kind != ",":
                break
            self.advance()
        end = self.expect("]", "`,` or `]`")[3]
        return ListOf(items, start, end, self.counted(depth, start, end))

    def map_of(self) -> Node:
        """`{"a": b,}`."""
        start = self.advance()[2]
        entries: list[tuple[Node, Node]] = []
        known: set[str] = set()
        depth = 0
        while self.kind != "}":
            key = self.expression()
            if isinstance(key, Literal) and isinstance(key.value, str):
                if key.value in known:
                    message = f"the key {quoted(key.value)} stands twice"
                    raise ExpressionError("syntax", message, key.start, key.end)
                known.add(key.value)
            self.expect(":", "`:` after the key")
            value = self.expression()
            entries.append((key, value))
            depth = max(depth, key.depth, value.depth)
            if self.kind != ",":
                break
            self.advance()
        end = self.expect("}", "`,` or `}`")[3]
        return MapOf(entries, start, end, self.counted(depth, start, end))

    def named_path(self) -> Node:
        """`a.b.c` that is one token, and what follows it."""
        _, names, start, end = self.advance()
        name = names[0]
        segments = names[1:]
        base_end = start + len(name)
        base: Node
        if name[0] == "$":
            self.counted(0, start, base_end)
            base = _step(name[1:], start, base_end)
        else:
            base = self.variable(name, start, base_end)
        if len(segments) > MAX_SELECTORS:
            raise _too_many_selectors(start, end)
        if self.kind in (".", "["):
            return self.selected(base, segments, end)
        return self.path(base, segments, end, base.depth)

    def postfix(self, base: Node) -> Node:
        """`.field`, `[index]` and `.method(…)` after a value."""
        if self.kind not in (".", "["):
            if isinstance(base, (Variable, StepName)):
                self.refer(base, [], base.end)
            return base
        return self.selected(base, [], base.end)

    def selected(self, base: Node, segments: list[str | Node], end: int) -> Node:
        """What else is selected of `base` after `segments`, which end at `end`."""
        path_base = base
        depth = base.depth
        while True:
            if self.kind == ".":
                self.advance()
                if self.kind not in ("name", "field"):
                    self.unexpected("a field's name")
                field = self.advance()
                if self.kind == "(" and field[0] == "name":
                    target = self.path(path_base, segments, end, depth)
                    path_base = self.method(target, field)
                    segments, depth, end = [], path_base.depth, path_base.end
                    continue
                segments.append(field[1])
                end = field[3]
            elif self.kind == "[":
                self.advance()
                index = self.expression()
                end = self.expect("]", "`]`")[3]
                segments.append(index)
                depth = max(depth, index.depth)
            else:
                return self.path(path_base, segments, end, depth)
            if len(segments) > MAX_SELECTORS:
                raise _too_many_selectors(path_base.start, end)

    def path(self, base: Node, segments: list[str | Node], end: int, depth: int) -> Node:
        """`base` with the segments read so far."""
        self.refer(base, segments, end)
        if not segments:
            return base
        self.nodes += len(segments) - 1
        return Path(base, segments, base.start, end, self.counted(depth, base.start, end))

    def refer(self, base: Node, segments: list[str | Node], end: int) -> None:
        """Note what a path that begins outside the expression refers to."""
        path: list[str | int] = []
        if isinstance(base, Variable):
            root, own = base.name, 0
        elif isinstance(base, StepName):
            root, own = "steps", 1
            path.append(base.name)
        else:
            return
        for segment in segments:
            if isinstance(segment, str):
                path.append(segment)
            elif isinstance(segment, Literal) and type(segment.value) in (str, int):
                path.append(segment.value)
            else:
                break
        dynamic = len(path) - own < len(segments)
        self.references.append(Reference(root, tuple(path), base.start, end, dynamic, own == 1))

    # calls

    def call(self, token: Token) -> Node:
        """`name(…)`."""
        _, name, start, end = token
        if name == "has":
            return self.has(start)
        if name not in FUNCTIONS:
            raise _no_function(name, (*FUNCTIONS, "has"), METHODS, "x.{}(…)", start, end)
        arguments, end = self.arguments()
        return self.called(name, arguments, FUNCTIONS[name], len(arguments), start, end)

    def method(self, target: Node, token: Token) -> Node:
        """`target.name(…)`."""
        _, name, start, end = token
        if name in MACROS:
            return self.macro(target, name)
        if name not in METHODS:
            raise _no_function(name, (*METHODS, *MACROS), FUNCTIONS, "{}(x)", start, end)
        arguments, end = self.arguments()
        given = len(arguments)
        return self.called(name, [target, *arguments], METHODS[name], given, target.start, end)

    def called(
        self,
        name: str,
        arguments: list[Node],
        arity: tuple[int, ...],
        given: int,
        start: int,
        end: int,
    ) -> Node:
        """The call, when it is given as many arguments as it takes."""
        if given not in arity:
            plural = "" if arity == (1,) else "s"
            message = f"`{name}` takes {_either(arity)} argument{plural}, not {given}"
            raise ExpressionError("syntax", message, start, end)
        depth = max(argument.depth for argument in arguments)
        return Call(name, arguments, start, end, self.counted(depth, start, end))

    def arguments(self) -> tuple[list[Node], int]:
        """`(a, b)` and where it ends."""
        self.advance()
        arguments: list[Node] = []
        while self.kind != ")":
            arguments.append(self.expression())
            if self.kind != ",":
                break
            self.advance()
            if self.kind == ")":
                self.unexpected("a value")
        return arguments, self.expect(")", "`,` or `)`")[3]

    def has(self, start: int) -> Node:
        """`has(a.b)`."""
        arguments, end = self.arguments()
        path = arguments[0] if len(arguments) == 1 else None
        if not isinstance(path, Path) or not isinstance(path.segments[-1], str):
            message = "`has` takes one field selection: `has(inputs.tag)`"
            raise ExpressionError("syntax", message, start, end)
        return Has(path, start, end, self.counted(path.depth, start, end))

    def macro(self, target: Node, kind: str) -> Node:
        """`target.map(v, …)`: the variable is known in what follows it alone."""
        self.advance()
        _, variable, start, end = self.expect("name", "the name of a variable")
        if variable in RESERVED:
            raise ExpressionError("syntax", f"`{variable}` is a reserved word", start, end)
        slot = self.slots
        self.slots += 1
        self.locals.append((variable, slot))
        before = self.nodes
        bodies: list[Node] = []
        while self.kind == ",":
            self.advance()
            bodies.append(self.expression())
        self.locals.pop()
        end = self.expect(")", "`,` or `)`")[3]
        if len(bodies) + 1 not in MACROS[kind]:
            message = f"`{kind}` takes {_either(MACROS[kind])} arguments: a name and an expression"
            raise ExpressionError("syntax", message, target.start, end)
        transform = bodies[-1] if kind == "map" else None
        predicate = None if kind == "map" and len(bodies) == 1 else bodies[0]
        weight = self.nodes - before
        deepest = max(target.depth, *(body.depth for body in bodies))
        depth = self.counted(deepest, target.start, end)
        return Macro(kind, target, slot, predicate, transform, weight, target.start, end, depth)


def _step(name: str, start: int, end: int) -> Node:
    """What `$name` stands for."""
    return Variable(name, start, end) if name in ROOTS else StepName(name, start, end)


def _too_many_selectors(start: int, end: int) -> ExpressionError:
    message = f"a path has at most {MAX_SELECTORS} selections"
    return ExpressionError("limit", message, start, end)


def _either(counts: tuple[int, ...]) -> str:
    return " or ".join(str(count) for count in counts)


_FOREIGN_FUNCTIONS = {
    "always": "steps that run in any case stand under `finally:`",
    "success": "a step runs when what it needs has succeeded",
    "failure": "look at `run.status` in `finally`, or at `steps.STEP_ID.status`",
    "cancelled": "look at `run.status` in `finally`",
    "len": "write `size(x)`",
    "length": "write `size(x)`",
    "fromJSON": "declare `output: json` in the step, and read its `json`",
    "toJSON": "lists and maps become JSON within a text by themselves",
    "format": "write `'a ' + x`, or `a ${{ x }}` in a text",
    "matches": "there are no patterns; `contains`, `startsWith` and `endsWith` look for text",
}
"""Functions of other languages, and what to write instead."""


def _no_function(
    name: str,
    known: tuple[str, ...],
    other: dict[str, tuple[int, ...]],
    form: str,
    start: int,
    end: int,
) -> ExpressionError:
    """The error for a call of something that does not exist, with what was perhaps meant."""
    message = f"no function `{name}`"
    if name in other:
        message += f" of this form: write `{form.format(name)}`"
    elif name in _FOREIGN_FUNCTIONS:
        message += f"; {_FOREIGN_FUNCTIONS[name]}"
    else:
        from difflib import get_close_matches

        close = get_close_matches(name[:64], known, n=1)
        message += f"; did you mean `{close[0]}`?" if close else ""
    return ExpressionError("unknown", message, start, end)
