"""The edges between steps: what waits for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_agent.language.plan import Need
from fleetprompt_indexer.vocabulary import closest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fleetprompt_agent.language.diagnostics import Report
    from fleetprompt_agent.language.scopes import Draft


def connect(
    drafts: Sequence[Draft], report: Report, *, is_graph: bool
) -> dict[str, tuple[Need, ...]]:
    """What each step of one list waits for, by its id.

    In a chain each step waits for the one before, unless `needs` says otherwise; a reference makes
    an edge where none leads there yet. In a graph, `needs` and references are the edges.

    Args:
        drafts: The steps of `steps` or of `finally`, with their references read.
        report: Gets unknown and later needs, and cycles.
        is_graph: Whether a step may wait for one that stands after it.
    """
    by_id = {draft.step.id: draft for draft in drafts}
    edges: dict[str, tuple[Need, ...]] = {}
    numbers = {name: 1 << place for place, name in enumerate(by_id)}
    above: dict[str, int] = {}  # the steps before each one, as bits: sets would grow as the square
    for place, draft in enumerate(drafts):
        step_id = draft.step.id
        needs: dict[str, Need] = {}
        if draft.step.needs is not None:
            for name in _written_needs(draft, by_id, report, is_graph=is_graph):
                needs[name] = Need(name, "needs")
        elif not is_graph and place > 0:
            before = drafts[place - 1].step.id
            needs[before] = Need(before, "order")
        reached = 0
        for name in needs:
            reached |= numbers[name] | above.get(name, 0)
        # In the order of the steps: which key of this step reads which one first must not matter.
        for name in sorted(draft.references.keys() & numbers.keys(), key=numbers.__getitem__):
            if name not in needs and (is_graph or not reached & numbers[name]):
                needs[name] = Need(name, "reference")
                reached |= numbers[name] | above.get(name, 0)
        above[step_id] = reached
        edges[step_id] = tuple(needs.values())
    for cycle in _cycles(edges):
        _report_cycle(cycle, by_id, report)
    return edges


def levels(edges: Mapping[str, Sequence[Need]]) -> list[list[str]]:
    """The steps by the longest way to them: those of one level can run at once. No cycles."""
    depth: dict[str, int] = {}
    pending = list(edges)
    while pending:
        later: list[str] = []
        for step_id in pending:
            needed = [need.step_id for need in edges[step_id] if need.step_id in edges]
            if all(name in depth for name in needed):
                depth[step_id] = 1 + max((depth[name] for name in needed), default=-1)
            else:
                later.append(step_id)
        if len(later) == len(pending):
            break
        pending = later
    found: list[list[str]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
    for step_id in edges:
        if step_id in depth:
            found[depth[step_id]].append(step_id)
    return found


def _written_needs(
    draft: Draft, by_id: Mapping[str, Draft], report: Report, *, is_graph: bool
) -> list[str]:
    kept: list[str] = []
    for number, name in enumerate(draft.step.needs or ()):
        location = (*draft.location, "needs", number)
        if name not in by_id:
            close = closest(name, by_id)
            hint = f"did you mean `{close}`?" if close else None
            if draft.in_finally and hint is None:
                hint = "steps of `finally` start when all others have ended"
            report.add("needs.unknown", f"no step `{name}` to wait for", location, hint=hint)
        elif name == draft.step.id:
            report.add("needs.cycle", f"step `{name}` waits for itself", location)
        elif not is_graph and by_id[name].place > draft.place:
            hint = "set `type: graph`, or move the step up"
            report.add("needs.later", f"step `{name}` comes later", location, hint=hint)
        else:
            kept.append(name)
    return kept


def _cycles(edges: Mapping[str, Sequence[Need]]) -> list[list[str]]:
    """Each way that leads back to where it begins, found once; searched without recursion."""
    found: list[list[str]] = []
    done: set[str] = set()
    for start in edges:
        if start in done:
            continue
        way = [start]
        on_way = {start}
        pending = [iter(edges[start])]
        while pending:
            need = next(pending[-1], None)
            if need is None:
                pending.pop()
                last = way.pop()
                on_way.discard(last)
                done.add(last)
            elif need.step_id in on_way:
                found.append(way[way.index(need.step_id) :])
            elif need.step_id not in done and need.step_id in edges:
                way.append(need.step_id)
                on_way.add(need.step_id)
                pending.append(iter(edges[need.step_id]))
    return found


def _report_cycle(cycle: list[str], by_id: Mapping[str, Draft], report: Report) -> None:
    first = min(cycle, key=lambda name: by_id[name].place)
    turn = cycle.index(first)
    ordered = cycle[turn:] + cycle[:turn]
    draft = by_id[first]
    shown = ordered if len(ordered) <= 8 else [*ordered[:7], "…"]
    message = f"steps wait for each other: {' → '.join([*shown, first])}"
    needed = ordered[1] if len(ordered) > 1 else first
    location = draft.references.get(needed, (*draft.location, "needs"))
    if needed in (draft.step.needs or ()):
        location = (*draft.location, "needs", (draft.step.needs or []).index(needed))
    report.add("needs.cycle", message, location, hint="take one of these edges away")
