"""Which steps of a run are shown one by one, in which order; long loops are summed up. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fleetprompt.results import StepResult

MOST_ITEMS = 20
"""Of one loop and one status; more do not help a reader."""
_UNREMARKABLE = frozenset({"succeeded", "skipped", "pending", "canceled"})


@dataclass(frozen=True, slots=True)
class StepRow:
    """One line of the table of steps."""

    path: str
    step: StepResult
    """The step; of a summed-up line, one of those it stands for."""
    count: int = 1
    """How many items the line stands for."""


def step_rows(steps: Sequence[StepResult]) -> list[StepRow]:
    """The steps in the order of the file, each followed by what belongs to it."""
    known = {step.step_path for step in steps}
    children: dict[str, list[StepResult]] = {}
    for step in steps:
        owner = _owner(step.step_path)
        while owner and owner not in known:
            owner = _owner(owner)
        children.setdefault(owner, []).append(step)
    return list(_with_children("", children))


def _owner(path: str) -> str:
    """`sub` of `sub/a`, `a` of `a[3]`; empty for a step of the workflow itself."""
    if path.endswith("]"):
        return path[: path.rfind("[")]
    return path.rpartition("/")[0]


def _with_children(owner: str, children: dict[str, list[StepResult]]) -> Iterator[StepRow]:
    own = children.get(owner, [])
    items = [step for step in own if owner and step.step_path.startswith(f"{owner}[")]
    if len(items) <= MOST_ITEMS:
        yield from _each(own, children)
        return
    by_status: dict[str, list[StepResult]] = {}
    for item in items:
        by_status.setdefault(item.status, []).append(item)
    for status, alike in by_status.items():
        shown = [] if status in _UNREMARKABLE else alike[:MOST_ITEMS]
        yield from _each(shown, children)
        left = len(alike) - len(shown)
        if left:
            yield StepRow(f"{owner}[…]", alike[-1], left)


def _each(steps: Iterable[StepResult], children: dict[str, list[StepResult]]) -> Iterator[StepRow]:
    for step in steps:
        yield StepRow(step.step_path, step)
        yield from _with_children(step.step_path, children)
