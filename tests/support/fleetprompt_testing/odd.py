"""Requests that a hostile or broken host might send, made from the tools' own schemas by a seed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.tools.registry import TOOLS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

Json = Any

ODD: tuple[Json, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63) - 1, 10**300, 0.5, -0.0, 1e308,
    5e-324, "", " ", "0", "null", "\x00", "a\x00b", "\n", "\x1b[31m", "\u202e", "\ufeff", "\ud800",
    "\U0001f600", "..", "../..", "/", "/etc/passwd", "~", "-", "--help", "*", "%s%n", "$HOME",
    "${{ 1 }}", "${{ steps.a.json }}", "';--", "__class__", "x" * 300, "x" * 100_000, [], [[]],
    [None], {}, {"": ""}, {"a": {"b": [1, {"c": None}]}}, {"__proto__": 1}, [0] * 1000,
    {"x" * 1000: 0}, {str(n): n for n in range(500)},
)  # fmt: skip
"""Values that are right for almost no field."""

_EXTRA_FIELDS = ("meta", "self", "params", "context", "call", "cls", "", "__class__", "x" * 5000)


class OddInputs:
    """Makes inputs of tools, most of them wrong in one place or two.

    Args:
        random: Where every choice comes from.
        known: Values that mean something to the agent under test: ids of workflows and runs,
            paths, tokens.
        schemas: Of the inputs, by tool; those of the plain dialect unless given.
    """

    def __init__(
        self, random: Random, known: Sequence[Json], schemas: dict[str, Json] | None = None
    ) -> None:
        self._random = random
        self._known = list(known)
        self._schemas = schemas or {
            name: tool.model().model_json_schema() for name, tool in TOOLS.items()
        }

    def call(self) -> tuple[str, Json]:
        """A tool's name and an input for it."""
        name = self._random.choice(list(self._schemas))
        if self._random.random() < 0.03:
            return name, self.value()
        return name, self._object(self._schemas[name], self._schemas[name])

    def value(self) -> Json:
        """A value that is right for almost no field."""
        return self._random.choice(ODD)

    def known(self) -> Json:
        """A value that means something, or not."""
        return self._random.choice([*self._known, self.value()])

    def _object(self, schema: Json, root: Json) -> dict[str, Json]:
        required = schema.get("required", [])
        made = {}
        for name, field in schema.get("properties", {}).items():
            if self._random.random() < (0.93 if name in required else 0.3):
                made[name] = self._value(field, root)
        if self._random.random() < 0.08:
            made[self._random.choice(_EXTRA_FIELDS)] = self.value()
        return made

    def _value(self, schema: Json, root: Json) -> Json:
        random = self._random
        if random.random() < 0.2:
            return self.value()
        if random.random() < 0.3 and self._known:
            return random.choice(self._known)
        if "$ref" in schema:
            return self._value(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
        if "anyOf" in schema:
            return self._value(random.choice(schema["anyOf"]), root)
        if "enum" in schema:
            return random.choice(schema["enum"])
        match schema.get("type"):
            case "string":
                return random.choice(["a", "x" * schema.get("maxLength", 9), "", *self._known])
            case "integer" | "number":
                low, high = schema.get("minimum", -5), schema.get("maximum", 5)
                return random.choice([low, high, low - 1, high + 1, low + 0.5, 0, 1])
            case "boolean":
                return random.random() < 0.5
            case "object":
                return {random.choice(["a", "who", ""]): self.value()}
            case _:
                return self.value()


def damaged(random: Random, line: bytes) -> bytes:
    """The line with a few bytes cut out, put in, changed or said twice; still one line."""
    data = bytearray(line)
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(data) + 1)
        match random.randrange(4):
            case 0:
                del data[at : at + random.randint(1, 20)]
            case 1:
                data[at:at] = random.randbytes(random.randint(1, 20))
            case 2:
                data[at : at + 1] = random.choice([b'"', b"{", b"}", b"[", b"]", b",", b"\\", b":"])
            case _:
                data[at:at] = data[at : at + random.randint(1, 50)]
    return bytes(data).replace(b"\n", b" ").replace(b"\r", b" ")


def as_line(message: Json) -> bytes:
    """The message as one line of JSON, lone surrogates escaped."""
    return json.dumps(message).encode() + b"\n"
