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

_AT_EASE = ("succeeded", "skipped", "pending")
"""Statuses of steps that need nobody's attention."""


def fit_run(result: dict[str, Json], limit: int = RESULT_BYTES) -> dict[str, Json]:
    """The result of a run in about `limit` bytes; the given one when it is no longer.

    The steps go first: those that are neither at ease nor the whole of a loop's items stay longest.
    Then outputs go, the largest first, and at last the items that gates list.
    """
    left = len(dumps(result)) - limit
    if left <= 0:
        return result
    fitted = dict(result)
    left_out: dict[str, int] = {}
    size = len(dumps(result["steps"]))
    fitted["steps"] = _most_telling(result["steps"], max(size - left, limit // 2))
    if len(fitted["steps"]) < len(result["steps"]):
        left_out["steps"] = size
        left -= size - len(dumps(fitted["steps"]))
    sizes = {name: len(dumps(result[name])) for name in ("outputs", "output")}
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if left > 0 and result[name] is not None:
            fitted[name], left_out[name] = None, sizes[name]
            left -= sizes[name]
    if left > 0 and result["gates"]:
        size = len(dumps(result["gates"]))
        share = max(size - left, limit // 2) // len(result["gates"])
        fitted["gates"] = [fit_gate(gate, share) for gate in result["gates"]]
        if fitted["gates"] != result["gates"]:
            left_out["gates"] = size
    if left_out:
        fitted["left_out"] = left_out
    return fitted


def fit_gate(gate: dict[str, Json], limit: int = GATE_BYTES) -> dict[str, Json]:
    """The gate with as many of its first items as fit into `limit` bytes with the rest of it."""
    size = len(dumps(gate))
    if size <= limit or not isinstance(gate["items"], list):
        return gate
    whole = len(dumps(gate["items"]))
    items = _first(gate["items"], limit - (size - whole))
    return {**gate, "items": items, "left_out": {"items": whole}}


def fit_entry(entry: dict[str, Json]) -> tuple[dict[str, Json], int]:
    """An event of a timeline without the long fields of its data, and its size in bytes."""
    size = len(dumps(entry))
    if size <= FIELD_BYTES:
        return entry, size
    sizes = {name: len(dumps(value)) for name, value in entry["data"].items()}
    left_out = {name: length for name, length in sizes.items() if length > FIELD_BYTES}
    data = {name: value for name, value in entry["data"].items() if name not in left_out}
    return {**entry, "data": data, "left_out": left_out}, size - sum(left_out.values())


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
