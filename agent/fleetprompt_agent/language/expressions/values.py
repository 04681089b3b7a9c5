"""What the values of expressions are, beyond JSON: the names of types, and equality."""

from __future__ import annotations

from typing import Any

INT_MIN, INT_MAX = -(2**63), 2**63 - 1
"""Integers are signed and have 64 bits, as in CEL."""


class TypeName:
    """The type of a value, as `type(x)` gives it; there is one object for each type."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


TYPES = {
    name: TypeName(name)
    for name in ("null_type", "bool", "int", "double", "string", "list", "map", "type")
}
_NAMES: dict[type, str] = {
    type(None): "null_type",
    bool: "bool",
    int: "int",
    float: "double",
    str: "string",
    list: "list",
    dict: "map",
    TypeName: "type",
}


def type_name(value: Any) -> str:
    """The language's name for the type of a value."""
    return _NAMES.get(type(value), "opaque")


def described(value: Any) -> str:
    """The type of a value for a message: `null`, `a string`, `an int`."""
    name = type_name(value)
    if value is None:
        return "null"
    return f"an {name}" if name[0] in "aio" else f"a {name}"
