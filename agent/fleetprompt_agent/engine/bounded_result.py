"""A run's result, made to fit into one message: a run that has ended must be able to say so."""

from __future__ import annotations

import json
from typing import Any, TypeAlias

Json: TypeAlias = Any

MAX_OUTPUTS_BYTES = 1 << 20
"""Of `outputs` and `output` together, as JSON. A frame holds 4 MiB, and a result is written twice
where a dialect repeats it as text."""
MAX_STEPS_BYTES = 1 << 20
"""Of all steps, as JSON."""
_SURELY_SMALL = 200
"""So many steps of at most 4 KB each are not measured."""
_UNREMARKABLE = frozenset({"succeeded", "skipped", "pending"})


def bounded(result: dict[str, Json]) -> dict[str, Json]:
    """The result without what would not fit; `left_out` says what that is.

    `left_out` is `{outputs?, steps?}`: the size in bytes of outputs that are null here, which
    `fp_get_output` gives, and the number of steps that are not listed, those that went well first.
    """
    left_out: dict[str, int] = {}
    given = (result["outputs"], result["output"])
    if given != (None, None):
        size = sum(len(json.dumps(value)) for value in given)
        if size > MAX_OUTPUTS_BYTES:
            left_out["outputs"] = size
            result = {**result, "outputs": None, "output": None}
    steps = result["steps"]
    if len(steps) > _SURELY_SMALL:
        listed = _listed(steps)
        if len(listed) < len(steps):
            left_out["steps"] = len(steps) - len(listed)
        result = {**result, "steps": listed}
    return {**result, "left_out": left_out} if left_out else result


def _listed(steps: list[dict[str, Json]]) -> list[dict[str, Json]]:
    """As many steps as fit, in their order: those that tell more before those that went well."""
    sizes = [len(json.dumps(step)) for step in steps]
    if sum(sizes) <= MAX_STEPS_BYTES:
        return steps
    room = MAX_STEPS_BYTES
    kept: set[int] = set()
    by_weight = sorted(range(len(steps)), key=lambda at: _weight(steps[at]))
    for place in by_weight:
        room -= sizes[place]
        if room < 0:
            break
        kept.add(place)
    return [step for place, step in enumerate(steps) if place in kept]


def _weight(step: dict[str, Json]) -> tuple[bool, bool]:
    """Steps of the workflow's own come before items, what went wrong before what went well."""
    return ("[" in step["step_path"], step["status"] in _UNREMARKABLE)
