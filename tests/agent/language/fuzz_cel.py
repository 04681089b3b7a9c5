"""Compares the expression language with Google's implementation of CEL, on random expressions.

Run it as a program; it exits with 1 at a difference that is not one of the stated ones:

    python tests/agent/language/fuzz_cel.py --seed 1 --cases 20000

It is a program of its own because the other implementation may end the process.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import re
import sys
from collections import Counter
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships no type information
from cel_expr_python.ext import ext_strings  # type: ignore[import-untyped]  # the same

from fleetprompt_agent.language.expressions import ExpressionError, parse_expression

TYPES = ("int", "double", "string", "bool", "null", "ints", "strings", "map")

SCOPE: dict[str, list[Any]] = {
    "i": [0, 1, -1, 7, 2**63 - 1, -(2**63), 1000],
    "j": [3, -2, 10],
    "f": [0.0, 1.0, -1.5, 0.1, 1e20, 1e-7, -0.0, 123456789.123, 2.0**53],
    "g": [2.0, 0.5, -3.25],
    "s": ["", "a", "abc", "Hello World", "é—😀", " padded\t", "a,b,,c", "12", "-7", "1.5e3", "inf"],
    "t": ["b", ",", "l", "", "World"],
    "b": [True, False],
    "c": [True, False],
    "n": [None],
    "l": [[], [1, 2, 3], [5], [3, 1, 2, 1], [None, True, "x"]],
    "k": [[], ["a", "b"], ["x"], ["b", "a", "b"], ["é", ""]],
    "m": [{}, {"a": 1, "b": "two", "n": None}, {"a": {"b": [1, {"c": "deep"}]}}],
}
"""The names that expressions use, and the values that each may have."""

_NAMES = {
    "int": ("i", "j"),
    "double": ("f", "g"),
    "string": ("s", "t"),
    "bool": ("b", "c"),
    "null": ("n",),
    "ints": ("l",),
    "strings": ("k",),
    "map": ("m",),
}
_LITERALS = {
    "int": ("0", "1", "2", "-1", "10", "0x1F", "9223372036854775807", "-9223372036854775808"),
    "double": ("0.0", "1.0", "-2.5", ".5", "1e3", "1E-3", "6.02e23"),
    "string": ('""', "'a'", '"abc"', r'"\u00e9\n"', 'r"\\d"', "'''b'''", '"12"', '" x "', '","'),
    "bool": ("true", "false"),
    "null": ("null",),
    "ints": ("[]", "[1, 2, 3]", "[i, j]", "[0]"),
    "strings": ("[]", '["a", "b"]', "[s, t]"),
    "map": ("{}", '{"a": 1}', '{"a": i, "b": s}', '{"a": {"b": [1, 2]}}'),
}


def scope(rng: random.Random) -> dict[str, Any]:
    """One value for each name."""
    return {name: rng.choice(values) for name, values in SCOPE.items()}


def expression(rng: random.Random, depth: int = 4) -> str:
    """The source of an expression of some type."""
    return _Maker(rng).of(rng.choice(TYPES), depth)


class _Maker:
    """Makes an expression of a wanted type; now and then of another, to see errors agree."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.locals: list[tuple[str, str]] = []

    def of(self, kind: str, depth: int) -> str:
        rng = self.rng
        if rng.random() < 0.04:
            kind = rng.choice(TYPES)
        if depth <= 0 or rng.random() < 0.15:
            return self.leaf(kind)
        make = getattr(self, f"_{kind}")
        made: str = make(depth - 1)
        return f"({made})" if rng.random() < 0.4 else made

    def leaf(self, kind: str) -> str:
        names = [name for name, known in self.locals if known == kind]
        if names and self.rng.random() < 0.7:
            return self.rng.choice(names)
        if self.rng.random() < 0.6:
            return self.rng.choice(_NAMES[kind])
        return self.rng.choice(_LITERALS[kind])

    def atom(self, kind: str, depth: int) -> str:
        """Something that `.method()` can follow."""
        made = self.of(kind, depth)
        return made if made.isidentifier() and made not in ("true", "null") else f"({made})"

    def _any(self, depth: int) -> str:
        return self.of(self.rng.choice(TYPES), depth)

    def _choice(self, *options: str) -> str:
        return self.rng.choice(options)

    def _int(self, depth: int) -> str:
        match self.rng.randrange(9):
            case 0 | 1 | 2:
                sign = self._choice("+", "-", "*", "/", "%")
                return f"{self.of('int', depth)} {sign} {self.of('int', depth)}"
            case 3:
                return f"-{self.atom('int', depth)}"
            case 4:
                what = self._choice("string", "ints", "strings", "map")
                if self.rng.random() < 0.5:
                    return f"size({self.of(what, depth)})"
                return f"{self.atom(what, depth)}.size()"
            case 5:
                return f"int({self.of(self._choice('int', 'double', 'string'), depth)})"
            case 6:
                return self._conditional("int", depth)
            case 7:
                return f"{self.atom('ints', depth)}[{self.of('int', depth)}]"
            case _:
                return self._path(depth)

    def _double(self, depth: int) -> str:
        match self.rng.randrange(5):
            case 0 | 1:
                sign = self._choice("+", "-", "*", "/")
                return f"{self.of('double', depth)} {sign} {self.of('double', depth)}"
            case 2:
                return f"-{self.atom('double', depth)}"
            case 3:
                return f"double({self.of(self._choice('int', 'double', 'string'), depth)})"
            case _:
                return self._conditional("double", depth)

    def _string(self, depth: int) -> str:
        text = self.atom("string", depth)
        match self.rng.randrange(9):
            case 0:
                return f"{self.of('string', depth)} + {self.of('string', depth)}"
            case 1:
                return f"string({self.of(self._choice('int', 'double', 'string', 'bool'), depth)})"
            case 2:
                return f"{text}.{self._choice('lower', 'upper', 'trim')}()"
            case 3:
                old, new = self.of("string", depth), self.of("string", depth)
                return f"{text}.replace({old}, {new}{self._limit(depth)})"
            case 4:
                separator = self.of("string", depth) if self.rng.random() < 0.5 else ""
                return f"{self.atom('strings', depth)}.join({separator})"
            case 5:
                return f"{self.atom('strings', depth)}[{self.of('int', depth)}]"
            case 6:
                return self._path(depth)
            case _:
                return self._conditional("string", depth)

    def _limit(self, depth: int) -> str:
        if self.rng.random() < 0.6:
            return ""
        return ", " + (self.leaf("int") if depth else self._choice("0", "1", "2", "-1"))

    def _bool(self, depth: int) -> str:
        match self.rng.randrange(12):
            case 0 | 1:
                kind = self.rng.choice(TYPES)
                other = kind if self.rng.random() < 0.8 else self.rng.choice(TYPES)
                sign = self._choice("==", "!=")
                return f"{self.of(kind, depth)} {sign} {self.of(other, depth)}"
            case 2:
                kind = self._choice("int", "double", "string", "bool")
                other = {"int": "double", "double": "int"}.get(kind, kind)
                other = other if self.rng.random() < 0.3 else kind
                sign = self._choice("<", "<=", ">", ">=")
                return f"{self.of(kind, depth)} {sign} {self.of(other, depth)}"
            case 3 | 4:
                sign = self._choice("&&", "||")
                count = self.rng.randrange(2, 4)
                return f" {sign} ".join(self.of("bool", depth) for _ in range(count))
            case 5:
                return f"!{self.atom('bool', depth)}"
            case 6:
                method = self._choice("startsWith", "endsWith", "contains")
                return f"{self.atom('string', depth)}.{method}({self.of('string', depth)})"
            case 7:
                kind, items = self._choice("int ints", "string strings", "string map").split()
                return f"{self.of(kind, depth)} in {self.of(items, depth)}"
            case 8:
                return self._quantified(depth)
            case 9:
                return f"has({self._path(depth)})"
            case 10:
                kind = self.rng.choice(TYPES)
                name = self._choice("int", "double", "string", "bool", "null_type", "list", "map")
                return f"type({self.of(kind, depth)}) == {name}"
            case _:
                return self._conditional("bool", depth)

    def _null(self, depth: int) -> str:
        return self._conditional("null", depth) if depth else "null"

    def _ints(self, depth: int) -> str:
        match self.rng.randrange(5):
            case 0:
                return f"{self.of('ints', depth)} + {self.of('ints', depth)}"
            case 1:
                return self._mapped("ints", "int", "int", depth)
            case 2:
                return self._filtered("ints", "int", depth)
            case 3:
                items = [self.of("int", depth - 1) for _ in range(self.rng.randrange(4))]
                return f"[{', '.join(items)}]"
            case _:
                return self._conditional("ints", depth)

    def _strings(self, depth: int) -> str:
        match self.rng.randrange(6):
            case 0:
                return f"{self.of('strings', depth)} + {self.of('strings', depth)}"
            case 1:
                return self._mapped("strings", "string", "string", depth)
            case 2:
                return self._filtered("strings", "string", depth)
            case 3:
                text, separator = self.atom("string", depth), self.of("string", depth)
                return f"{text}.split({separator}{self._limit(depth)})"
            case 4:
                items = [self.of("string", depth - 1) for _ in range(self.rng.randrange(4))]
                return f"[{', '.join(items)}]"
            case _:
                return self._conditional("strings", depth)

    def _map(self, depth: int) -> str:
        if self.rng.random() < 0.5:
            return self._conditional("map", depth)
        # each once: this language refuses a second one when it parses, Google's when it evaluates
        chosen = self.rng.sample(("a", "b", "c", "a b"), self.rng.randrange(4))
        return "{" + ", ".join(f'"{key}": {self._any(depth - 1)}' for key in chosen) + "}"

    def _path(self, depth: int) -> str:
        path = self._choice("m", "m", "({'a': m})") if depth else "m"
        for _ in range(self.rng.randrange(1, 4)):
            path += self._choice(".a", ".b", ".n", '["a"]', '["b"]', "[0]", "[1]")
        return f"{path}{self._choice('.a', '.b', '.n', '.nope')}"

    def _conditional(self, kind: str, depth: int) -> str:
        condition, then, otherwise = (
            self.atom("bool", depth),
            self.atom(kind, depth),
            self.of(kind, depth),
        )
        return f"({condition} ? {then} : {otherwise})"

    def _bound(self, kind: str, depth: int, body: str) -> tuple[str, str]:
        name = self._choice("x", "y", "z", "i", "s")
        self.locals.append((name, kind))
        made = self.of(body, depth - 1)
        self.locals.pop()
        return name, made

    def _quantified(self, depth: int) -> str:
        kind, items = self._choice("int ints", "string strings", "string map").split()
        name, body = self._bound(kind, depth, "bool")
        method = self._choice("all", "exists", "exists_one")
        return f"{self.atom(items, depth - 1)}.{method}({name}, {body})"

    def _mapped(self, items: str, kind: str, body_kind: str, depth: int) -> str:
        name, body = self._bound(kind, depth, body_kind)
        predicate = ""
        if self.rng.random() < 0.3:
            self.locals.append((name, kind))
            predicate = self.of("bool", depth - 2) + ", "
            self.locals.pop()
        return f"{self.atom(items, depth - 1)}.map({name}, {predicate}{body})"

    def _filtered(self, items: str, kind: str, depth: int) -> str:
        name, body = self._bound(kind, depth, "bool")
        return f"{self.atom(items, depth - 1)}.filter({name}, {body})"


# the comparison

_MIXED = re.compile(r"_[-+*/]_\((int64, double|double, int64)\)")
"""Google's refusal of what this language allows on purpose: numbers from JSON mix."""


def _method(name: str, implementation: Any) -> cel.FunctionDecl:
    overload = cel.Overload(
        id=f"string_{name}",
        return_type=cel.Type.STRING,
        parameters=[cel.Type.STRING],
        is_member=True,
        impl=implementation,
    )
    return cel.FunctionDecl(name, [overload])


def compare(source: str, values: dict[str, Any], env: cel.Env) -> tuple[str, str]:
    """What kind of agreement or difference there is, and both answers."""
    ours = theirs = ""
    our_value: Any = None
    their_value: Any = None
    kind = ""
    try:
        our_value = parse_expression(source).evaluate(values)
    except ExpressionError as error:
        kind = error.kind
        ours = f"{error.kind}: {error.message}"
    try:
        result = env.compile(source, disable_check=True).eval(data=values)
        if result.type() == cel.Type.ERROR:
            theirs = str(result.value())
        else:
            their_value = result.plain_value()
    except RuntimeError as error:
        theirs = f"compile: {error}"
    shown = f"{source}\n  with {values}\n  ours   {ours or repr(our_value)}\n  theirs "
    shown += theirs or repr(their_value)
    if ours and theirs:
        return "both refuse", shown
    if not ours and not theirs:
        return _agreement(our_value, their_value), shown
    if theirs:
        return ("mixed numbers" if _MIXED.search(theirs) else "DIFFERENT"), shown
    if kind == "limit":
        return "limit", shown
    return ("not JSON" if _is_beyond_json(their_value) else "DIFFERENT"), shown


def _agreement(ours: Any, theirs: Any) -> str:
    if _is_same(ours, theirs):
        return "same"
    if _unordered(ours) == _unordered(theirs):
        return "other order"  # of a map's keys, which CEL leaves open
    if str(theirs).replace("-nan", "nan") == str(ours):
        return "sign of NaN"
    return "DIFFERENT"


def _unordered(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(map(repr, map(_unordered, value)))
    if isinstance(value, dict):
        return sorted((key, repr(_unordered(item))) for key, item in value.items())
    return value


def _is_same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_is_same, a, b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_is_same(a[key], b[key]) for key in a)
    return bool(a == b)


def _is_beyond_json(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_beyond_json, value))
    if isinstance(value, dict):
        return any(map(_is_beyond_json, value.values()))
    return isinstance(value, cel.Type) or (isinstance(value, float) and not math.isfinite(value))


_TOKENS = r"""a b c . [ ] ( ) { } , : ? + - * / % ! < <= > >= == != && || in true false null 1 2.5
.5 0x1F 1e3 'x' "y" r'z' .size() .map(x,x) .all(y,y>1) has(a.b) size( string( // -1 x y"""
TOKENS = _TOKENS.split()
SEEDS = (
    "a + b * c",
    "a.b[0].c == 1 && !b || c",
    "a ? b : c",
    "[1, 2].map(x, x + 1)",
    "{'a': 1, 'b': [2]}",
    "has(a.b) && a.b in c",
    "-a - -1",
    "(a + b).size() % 2",
    "a.exists(x, x.y == 'z')",
)


def accepts_more(rng: random.Random, env: cel.Env) -> str | None:
    """A text that is an expression here and none in CEL, if this one is."""
    words = re.findall(r"\w+|\S", rng.choice(SEEDS))
    for _ in range(rng.randint(0, 4)):
        place = rng.randrange(len(words) + 1)
        words[place : place + rng.randint(0, 1)] = [rng.choice(TOKENS)] * rng.randint(0, 1)
    source = " ".join(words)
    try:
        parse_expression(source)
    except ExpressionError:
        return None
    try:
        env.compile(source, disable_check=True)
    except RuntimeError as error:
        return f"{source}\n  theirs {error}"
    return None


def main() -> int:
    """0 when there is no difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cases", type=int, default=20_000)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    env = cel.NewEnv(
        variables=dict.fromkeys(SCOPE, cel.Type.DYN),
        extensions=[ext_strings.ExtStrings()],
        functions=[_method("lower", str.lower), _method("upper", str.upper)],
    )
    for _ in range(options.cases):
        found = accepts_more(rng, env)
        if found is not None:
            sys.stdout.write(f"accepted here alone: {found}\n")
            return 1
    kinds: Counter[str] = Counter()
    while kinds.total() < options.cases:
        source, values = expression(rng), scope(rng)
        if len(source) > 4000:
            continue
        kind, shown = compare(source, values, env)
        kinds[kind] += 1
        if kind == "DIFFERENT" and kinds[kind] <= 10:
            sys.stdout.write(shown + "\n")
    sys.stdout.write(f"seed {options.seed}: {dict(kinds)}\n")
    sys.stdout.flush()
    return int(kinds["DIFFERENT"] > 0)


if __name__ == "__main__":
    # Google's module frees None at the end of the interpreter (0.1.3), so the end is skipped.
    os._exit(main())
