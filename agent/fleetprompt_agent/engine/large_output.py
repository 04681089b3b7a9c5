"""Output past the inline cap: kept in the artifacts store, referred to by the journal's row.

Whoever folds the events sees all of it, where it always was. Only the row is small: its data has
an `apart` beside the fields, which maps a place (`result.stdout`, `outputs`) to
`{sha256, size, name, type}`. Rows of before, which hold everything themselves, are read as they
are.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

Json: TypeAlias = Any

INLINE_BYTES = 65_536
"""The largest piece of output that stands in a row (engine.md §3, Artifacts)."""
APART = "apart"
_WHOLE = ("outputs", "output")
"""Fields of `run.succeeded`; of the other events the pieces of `result` are taken one by one."""


def set_apart(data: dict[str, Json], keep: Callable[[bytes], str]) -> dict[str, Json]:
    """The data without its large pieces, and with what tells where they are.

    Args:
        data: Of an event; it stays as it is.
        keep: Keeps the content; gives its sha256 (hex).
    """
    small = dict(data)
    apart: dict[str, Json] = {}
    for name in _WHOLE:
        _take(small, name, name, apart, keep)
    if isinstance(data.get("result"), dict):
        small["result"] = dict(data["result"])
        for name in data["result"]:
            _take(small["result"], name, f"result.{name}", apart, keep)
    return {**small, APART: apart} if apart else data


def _take(
    holder: dict[str, Json], name: str, place: str, apart: dict[str, Json],
    keep: Callable[[bytes], str],
) -> None:  # fmt: skip
    value = holder.get(name)
    kind, content = "text", b""
    if isinstance(value, str):
        try:
            content = value.encode()
        except UnicodeEncodeError:  # a lone surrogate
            kind, content = "json", json.dumps(value).encode()
    elif isinstance(value, dict | list):
        kind, content = "json", json.dumps(value, separators=(",", ":")).encode()
    if len(content) <= INLINE_BYTES:
        return
    apart[place] = {"sha256": keep(content), "size": len(content), "name": name, "type": kind}
    del holder[name]


def put_back(data: dict[str, Json], fetch: Callable[[str], bytes]) -> None:
    """Make the data whole again.

    Args:
        data: As `set_apart` gave it; it is changed.
        fetch: The content with this sha256.

    Raises:
        KeyError, TypeError, ValueError: the data does not say where its pieces belong.
    """
    for place, reference in data.pop(APART).items():
        content = fetch(reference["sha256"]).decode()
        value = content if reference["type"] == "text" else json.loads(content)
        *within, name = place.split(".", 1)
        holder = data[within[0]] if within else data
        holder[name] = value


def digests_in(data: dict[str, Json]) -> set[str]:
    """Of everything in the artifacts store that an event refers to."""
    result = data.get("result")
    artifacts = result.get("artifacts") if isinstance(result, dict) else None
    listed = artifacts if isinstance(artifacts, list) else []
    found = [*data.get(APART, {}).values(), *listed]
    return {item["sha256"] for item in found if isinstance(item, dict) and "sha256" in item}
