"""The syntax tree of an expression, and the paths that it refers to.

Chains are flat (`a + b + c`, `a && b`, `a.b.c` are one node each), so that `depth`, the longest way
from a node to a leaf, is the depth of what people nest, and of the evaluator's stack. Nodes are
never compared or shown, so their classes have no methods for it: making those would be most of the
time that importing this module takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias


class Reference(NamedTuple):
    """A path that an expression reads: `steps.build.json[0]`."""

    root: str
    """`inputs`, `steps` …: the first name."""
    path: tuple[str | int, ...]
    """What follows the root, as far as it is constant."""
    start: int
    """Offset of the first character in the source of the expression."""
    end: int
    dynamic: bool = False
    """Whether the path goes on with a computed index."""
    shorthand: bool = False
    """Whether it was written `$name`; its root is then `steps` unless `name` is a root itself."""

    @property
    def text(self) -> str:
        """The path as it is written in an expression."""
        parts = [self.root]
        for segment in self.path:
            if isinstance(segment, int):
                parts.append(f"[{segment}]")
            elif segment.isidentifier() and segment.isascii():
                parts.append(f".{segment}")
            else:
                parts.append(f"[{quoted(segment)}]")
        return "".join(parts)


def quoted(text: str) -> str:
    """A string literal of the expression language."""
    import json

    return json.dumps(text, ensure_ascii=False)


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Literal:
    """A constant: null, bool, int, float, str, or the name of a type."""

    value: Any
    start: int
    end: int
    depth: int = 1


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Variable:
    """A name from outside: `inputs`."""

    name: str
    start: int
    end: int
    depth: int = 1


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class StepName:
    """`$name` where `name` is no root: a step, or the loop's item under its own name."""

    name: str
    start: int
    end: int
    depth: int = 1


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Local:
    """The variable of a macro."""

    name: str
    slot: int
    start: int
    end: int
    depth: int = 1


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Path:
    """Selections one after another: a str is a field, a node a computed index."""

    base: Node
    segments: list[str | Node]
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Has:
    """`has(a.b)`: whether the last field exists."""

    path: Path
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Call:
    """A function; a method's target is its first argument."""

    name: str
    arguments: list[Node]
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Macro:
    """`all exists exists_one map filter` over a list, or the keys of a map."""

    kind: str
    target: Node
    slot: int
    predicate: Node | None
    transform: Node | None
    weight: int
    """Nodes evaluated for each item."""
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Unary:
    """`!x` or `-x`."""

    operator: str
    operand: Node
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Chain:
    """Operators of one precedence, applied from left to right."""

    first: Node
    rest: list[tuple[str, Node]]
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Logic:
    """`a && b && …` or `a || b || …`."""

    operator: str
    operands: list[Node]
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class Conditional:
    """`condition ? then : otherwise`."""

    condition: Node
    then: Node
    otherwise: Node
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class ListOf:
    """`[a, b]`."""

    items: list[Node]
    start: int
    end: int
    depth: int


@dataclass(slots=True, repr=False, eq=False, match_args=False)
class MapOf:
    """`{"a": b}`."""

    entries: list[tuple[Node, Node]]
    start: int
    end: int
    depth: int


Node: TypeAlias = (
    Literal
    | Variable
    | StepName
    | Local
    | Path
    | Has
    | Call
    | Macro
    | Unary
    | Chain
    | Logic
    | Conditional
    | ListOf
    | MapOf
)
