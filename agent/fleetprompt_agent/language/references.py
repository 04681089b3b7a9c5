"""References that are written without an expression: `$collect.json.items[0].id`.

The shorthand is a whole scalar or nothing. What looks like one inside a longer text is an error
when its first name is known, and plain text (`$HOME`, `$1.50`) when it is not.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt_agent.language.expressions.syntax import quoted

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_SHORTHAND = re.compile(rf"\$({_NAME})((?:\.{_NAME}|\[[0-9]{{1,9}}\])*)")
_SEGMENT = re.compile(r"\.([A-Za-z_][A-Za-z0-9_-]*)|[.\[]([0-9]+)\]?")
_IN_TEXT = re.compile(rf"(?<![\w$\\])\$({_NAME})((?:\.[A-Za-z0-9_][A-Za-z0-9_-]*|\[[^\]\s]*\])*)")

_WITHOUT_PATH = ("item", "index", "result")
"""Names that are values themselves; of the others, `$inputs` and `$collect`, a field is taken."""


def shorthand_source(text: str) -> str | None:
    """The expression that a whole scalar `$name.path` stands for; None when it is no reference."""
    if text[:1] != "$":
        return None
    match = _SHORTHAND.fullmatch(text)
    if match is None:
        return None
    name, path = match.groups()
    if not path and name not in _WITHOUT_PATH:
        return None
    return f"${name}{_selected(path)}"


class LooseReference(NamedTuple):
    """A `$name.path` inside a longer text, where it has no effect."""

    start: int
    end: int
    text: str
    fix: str
    """What to write instead."""


def loose_references(
    text: str, steps: Collection[str], roots: Collection[str], values: Collection[str] = ()
) -> Iterator[LooseReference]:
    """What looks like a reference in literal text.

    Args:
        text: Literal text.
        steps: The ids of the steps: `$collect.json`.
        roots: Names that are known beside them and have fields: `$inputs.tag`.
        values: Names that are values even without a path: `$item`.
    """
    for match in _IN_TEXT.finditer(text):
        name, path = match.groups()
        path = path.rstrip("-")
        if not path and name not in values:
            continue
        if name in roots or name in values:
            base = name
        elif name in steps:
            base = "steps" + _selected(f".{name}")
        else:
            continue
        written = f"${name}{path}"
        fix = f"${{{{ {base}{_selected(path)} }}}}"
        yield LooseReference(match.start(), match.start() + len(written), written, fix)


def _selected(path: str) -> str:
    """`.a.b-c[0]` as an expression selects it: `.a["b-c"][0]`."""
    parts: list[str] = []
    for field, index in _SEGMENT.findall(path):
        if index:
            parts.append(f"[{index}]")
        elif "-" in field or field in ("in", "true", "false", "null"):
            parts.append(f"[{quoted(field)}]")
        else:
            parts.append(f".{field}")
    return "".join(parts)
