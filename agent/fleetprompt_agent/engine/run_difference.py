"""What a rehearsal changed, step by step and gate by gate."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Literal

from fleetprompt_agent.engine.projection import shown_status
from fleetprompt_agent.language.plan import PlanStep
from fleetprompt_agent.language.templates import parse_template

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Json
    from fleetprompt_agent.engine.core.state import GateState, RunState, StepState
    from fleetprompt_agent.engine.rehearsal import Asked, Performed, Rehearsal

Change = Literal["same", "changed", "new", "gone"]

MOST_STEPS = 1_000
"""Steps that are listed; items of a `for_each` can be ten thousand."""

_FIELD_NAMES = {"condition": "if", "arguments": "with", "judgement": "with"}
"""Where the language has another word."""
_NOT_COMPARED = ("index", "name", "needs")


def difference(rehearsal: Rehearsal) -> dict[str, Json]:
    """What would be otherwise, as JSON data.

    `steps[]`: `{step_path, step_id, change, fields, status: {before, after}, action: {before,
    after}, basis, rests_on}`; `gates[]`: `{kind, step_path, change, …}`; `outputs`: name to
    `{before, after, change}`; `counts`: steps by change.
    """
    state, recorded = rehearsal.state, rehearsal.recorded
    paths = dict.fromkeys((*state.steps, *recorded.steps))
    steps = [_step(path, recorded, rehearsal) for path in paths]
    counts = dict.fromkeys(("same", "changed", "new", "gone"), 0)
    for step in steps:
        counts[step["change"]] += 1
    listed = steps
    if len(steps) > MOST_STEPS:
        listed = [step for step in steps if step["change"] != "same"][:MOST_STEPS]
    shown: dict[str, Json] = {
        "run_id": recorded.run_id,
        "digest": {"before": recorded.plan.digest, "after": state.plan.digest},
        "status": {"before": _run_status(recorded), "after": _rehearsed_status(rehearsal)},
        "inputs_changed": recorded.inputs != state.inputs,
        "counts": counts,
        "steps": listed,
        "gates": _gates(recorded, rehearsal),
        "outputs": _outputs(recorded, rehearsal),
    }
    if len(listed) < len(steps):
        shown["omitted_steps"] = len(steps) - len(listed)
    if state.error is not None and state.ended == "failed":
        shown["error"] = state.error
    return shown


def _run_status(state: RunState) -> str:
    if state.ended is not None:
        return state.ended
    return "waiting" if state.is_waiting else "interrupted"


def _rehearsed_status(rehearsal: Rehearsal) -> str:
    """How the rehearsed run ends; `unknown` when that rests on what nobody can know."""
    state = rehearsal.state
    if state.ended == "failed" and (state.error or {}).get("code") == "outputs.invalid":
        names = [name for name in state.plan.outputs if _reads_unknown(name, rehearsal)]
        return "unknown" if names else "failed"
    return _run_status(state)


# Steps


def _step(path: str, recorded: RunState, rehearsal: Rehearsal) -> dict[str, Json]:
    was, now = recorded.steps.get(path), rehearsal.state.steps.get(path)
    some = now or was
    shown: dict[str, Json] = {"step_path": path, "step_id": some.step.id if some else path}
    before = None if was is None else shown_status(recorded, was)
    after = None if now is None else _after(rehearsal, now)
    shown["status"] = {"before": before, "after": after}
    if now is None:
        return shown | {"change": "gone"}
    performed = rehearsal.performed.get(path)
    if was is None:
        shown["change"] = "new"
        return shown | _performance(performed, None)
    # An item's definition is its `for_each` step's, which is listed itself.
    changed = [] if now.parent is not None else changed_fields(was.step, now.step)
    did_before, does_now = was.action, performed.action if performed is not None else None
    is_other = was.attempt > 0 and performed is not None and did_before != does_now
    if now.is_composite and was.is_composite:
        is_other = False
    has_moved = before != after and after != "unknown"
    shown["change"] = "changed" if changed or is_other or has_moved else "same"
    if changed:
        shown["fields"] = changed
    return shown | _performance(performed, did_before if is_other else None)


def _performance(performed: Performed | None, before: Json) -> dict[str, Json]:
    """What the rehearsed step does, next to what it did if that is something else."""
    if performed is None:
        return {}
    shown: dict[str, Json] = {"basis": performed.basis}
    if performed.rests_on:
        shown["rests_on"] = list(performed.rests_on)
    if before is not None or performed.basis == "unknown":
        action = {"before": before, "after": performed.action}
        shown["action"] = {key: value for key, value in action.items() if value is not None}
    return shown


def _after(rehearsal: Rehearsal, step: StepState) -> str:
    performed = rehearsal.performed.get(step.path)
    if performed is not None and performed.basis == "unknown":
        return "unknown"
    return shown_status(rehearsal.state, step)


def changed_fields(before: PlanStep, after: PlanStep) -> list[str]:
    """The fields of a step, in the language's words, that are not the same.

    The implicit edge of a chain is none of them: a step that is put in changes its neighbour's.
    """
    changed = [
        _FIELD_NAMES.get(one.name, one.name)
        for one in fields(PlanStep)
        if one.name not in _NOT_COMPARED and getattr(before, one.name) != getattr(after, one.name)
    ]
    return changed + ["needs"] * (_edges(before) != _edges(after))


def _edges(step: PlanStep) -> list[tuple[str, str]]:
    return [(need.step_id, need.origin) for need in step.needs if need.origin != "order"]


# Gates


def _gates(recorded: RunState, rehearsal: Rehearsal) -> list[dict[str, Json]]:
    shown = [_gate(asked) for asked in rehearsal.asked]
    met = {(asked.command.kind, asked.command.step_path) for asked in rehearsal.asked}
    for gate in recorded.gates.values():
        # Whether an outcome will be unknown is no matter of the plan.
        if (gate.kind, gate.step_path) not in met and gate.kind != "unknown_outcome":
            met.add((gate.kind, gate.step_path))
            shown.append(_head(gate) | {"change": "gone", "decision": gate.decision})
    return shown


def _gate(asked: Asked) -> dict[str, Json]:
    command, gate = asked.command, asked.recorded
    shown = _head(command)
    if gate is None:
        return shown | {"change": "new", "prompt": command.prompt, "items": command.items}
    pairs = {
        "prompt": (gate.prompt, command.prompt),
        "preview": (gate.preview, command.preview),
        "items": (gate.items, command.items),
        "response_schema": (gate.response_schema, command.response_schema),
        "action": (_comparable(gate.action), _comparable(command.action)),
    }
    other = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    shown |= {"change": "changed" if other else "same", "decision": gate.decision}
    for name, (before, after) in other.items():
        shown[name] = {"before": before, "after": after}
    return shown


def _head(gate: GateState | object) -> dict[str, Json]:
    return {"kind": getattr(gate, "kind", None), "step_path": getattr(gate, "step_path", None)}


_COMPARED_ACTION = ("tool", "argv", "with", "env", "items", "effects", "model", "system")
"""What the plan alone says of an action; the program's path and digest were looked up."""


def _comparable(action: Json) -> Json:
    if not isinstance(action, dict):
        return action
    return {key: action[key] for key in _COMPARED_ACTION if action.get(key) not in (None, {})}


# Outputs


def _outputs(recorded: RunState, rehearsal: Rehearsal) -> dict[str, Json]:
    before = recorded.outputs if isinstance(recorded.outputs, dict) else {}
    after = rehearsal.state.outputs if isinstance(rehearsal.state.outputs, dict) else {}
    declared = (*rehearsal.state.plan.outputs, *recorded.plan.outputs)
    return {name: _output(name, before, after, rehearsal) for name in dict.fromkeys(declared)}


def _output(
    name: str, before: dict[str, Json], after: dict[str, Json], rehearsal: Rehearsal
) -> dict[str, Json]:
    if name not in rehearsal.state.plan.outputs:
        return {"change": "gone", "before": before.get(name)}
    if _reads_unknown(name, rehearsal) or name not in after:
        change = "unknown" if name in before else "new"
        return {"change": change, **({"before": before[name]} if name in before else {})}
    if name not in before:
        return {"change": "new", "after": after[name]}
    if before[name] == after[name]:
        return {"change": "same"}
    return {"change": "changed", "before": before[name], "after": after[name]}


def _reads_unknown(name: str, rehearsal: Rehearsal) -> bool:
    state = rehearsal.state
    for reference in parse_template(state.plan.outputs[name]).references:
        if reference.root != "steps":
            continue
        if not reference.path or str(reference.path[0]) in rehearsal.unknown:
            return True
    return False
