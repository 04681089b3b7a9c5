"""Making what is told of a run fit into one answer, whatever the run was.

A run of 10,000 steps, or one that gives megabytes, still has an answer that says how it ended. What
is left out is named under `left_out`, with its size in bytes, and `fp_get_output` gives it whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_protocol.wire import dumps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetprompt_agent.engine.core.events import Json

RESULT_BYTES = 1024 * 1024
"""Of a run's result: a quarter of the longest message, since a batch, an envelope or the text copy
of MCP comes on top."""
GATE_BYTES = 64 * 1024
"""Of the gate in a status chunk."""
FIELD_BYTES = 16 * 1024
"""Of one field of an event in a timeline."""

MOST_LEVELS = 48
"""Of nesting in one field: a message has 64 at the most, of which its envelope takes some."""
_OUTPUTS = ("outputs", "output")

_AT_EASE = ("succeeded", "skipped", "pending")
"""Statuses of steps that need nobody's attention."""


def fit_run(result: dict[str, Json], limit: int = RESULT_BYTES) -> dict[str, Json]:
    """The result of a run in about `limit` bytes; the given one when it fits as it is.

    Outputs that are nested too deep for a message go in any case. If it is too long, the steps go
    first: those that are neither at ease nor the whole of a loop's items stay longest. Then outputs
    go, the largest first, and at last the items that gates list.
    """
    fitted = dict(result)
    left_out: dict[str, int] = {}
    for name in _OUTPUTS:
        if is_deep(result[name]):
            fitted[name], left_out[name] = None, len(dumps(result[name]))
    if any(is_deep(gate) for gate in result["gates"]):
        fitted["gates"] = [_shallow(gate) for gate in result["gates"]]
    left = len(dumps(fitted)) - limit
    if left > 0:
        size = len(dumps(result["steps"]))
        fitted["steps"] = _most_telling(result["steps"], max(size - left, limit // 2))
        if len(fitted["steps"]) < len(result["steps"]):
            left_out["steps"] = size
            left -= size - len(dumps(fitted["steps"]))
        sizes = {name: len(dumps(fitted[name])) for name in _OUTPUTS}
        for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
            if left > 0 and fitted[name] is not None:
                fitted[name], left_out[name] = None, sizes[name]
                left -= sizes[name]
        if left > 0 and fitted["gates"]:
            size = len(dumps(fitted["gates"]))
            share = max(size - left, limit // 2) // len(fitted["gates"])
            cut = [fit_gate(gate, share) for gate in fitted["gates"]]
            if cut != fitted["gates"]:
                fitted["gates"], left_out["gates"] = cut, size
    if left_out:
        # What was left out before, for a larger limit, has its whole size there.
        fitted["left_out"] = {**left_out, **result.get("left_out", {})}
    elif fitted["gates"] is result["gates"] and left <= 0:
        return result
    return fitted


def fit_gate(gate: dict[str, Json], limit: int = GATE_BYTES) -> dict[str, Json]:
    """The gate with as many of its first items as fit into `limit` bytes with the rest of it.

    What is nested too deep for a message stands there as JSON text.
    """
    if is_deep(gate):
        gate = _shallow(gate)
    size = len(dumps(gate))
    if size <= limit or not isinstance(gate["items"], list):
        return gate
    whole = len(dumps(gate["items"]))
    items = _first(gate["items"], limit - (size - whole))
    return {**gate, "items": items, "left_out": gate.get("left_out", {"items": whole})}


def fit_entry(entry: dict[str, Json]) -> tuple[dict[str, Json], int]:
    """An event of a timeline without the long and the deep fields of its data, and its size."""
    size = len(dumps(entry))
    has_deep = is_deep(entry["data"])
    if size <= FIELD_BYTES and not has_deep:
        return entry, size
    data: dict[str, Json] = {}
    left_out: dict[str, int] = {}
    for name, value in entry["data"].items():
        length = len(dumps(value))
        if length > FIELD_BYTES or (has_deep and is_deep(value)):
            left_out[name] = length
        else:
            data[name] = value
    return {**entry, "data": data, "left_out": left_out}, size - sum(left_out.values())


def is_deep(value: Json, levels: int = MOST_LEVELS) -> bool:
    """Whether a value of a result has more levels than a message has room for."""
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list):
        return False
    return levels == 0 or any(is_deep(part, levels - 1) for part in value)


def _shallow(value: Json, levels: int = MOST_LEVELS) -> Json:
    """The value with what is nested deeper as JSON text."""
    if not isinstance(value, dict | list):
        return value
    if levels == 0:
        return dumps(value).decode()
    if isinstance(value, list):
        return [_shallow(part, levels - 1) for part in value]
    return {name: _shallow(part, levels - 1) for name, part in value.items()}


def _most_telling(steps: list[dict[str, Json]], limit: int) -> list[dict[str, Json]]:
    """The steps that fit, in their order."""

    def ranks() -> Iterable[list[int]]:
        at_ease = [step["status"] in _AT_EASE for step in steps]
        is_item = ["[" in step["step_path"] for step in steps]
        places = range(len(steps))
        yield [place for place in places if not is_item[place]]
        yield [place for place in places if is_item[place] and not at_ease[place]]
        yield [place for place in places if is_item[place] and at_ease[place]]

    kept: list[int] = []
    for rank in ranks():
        for place in rank:
            limit -= len(dumps(steps[place])) + 1
            if limit < 0:
                return [steps[place] for place in sorted(kept)]
            kept.append(place)
    return steps


def _first(items: list[Json], limit: int) -> list[Json]:
    for count, item in enumerate(items):
        limit -= len(dumps(item)) + 1
        if limit < 0:
            return items[:count]
    return items
