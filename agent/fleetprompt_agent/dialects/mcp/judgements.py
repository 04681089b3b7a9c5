"""The calling model's own answer to a run's question: which gate it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.state import GateState, RunState

Json = Any


def is_answer(given: dict[str, Json]) -> bool:
    """Whether the arguments of `fp_resume_run` hold an answer; null is one with a `step_path`."""
    return given.get("answer") is not None or given.get("step_path") is not None


def judgement_gate(state: RunState, step_path: str | None) -> GateState:
    """The judgement that an answer is for: an open one, or one that was answered before.

    Raises:
        RequestError: `gate.not_found`: there is none, or which one is meant cannot be told.
    """
    run_id = state.run_id
    known = [
        gate
        for gate in state.gates.values()
        if gate.kind == "judgement"
        and not gate.is_void
        and (step_path is None or gate.step_path == step_path)
    ]
    open_ids = {gate.gate_id for gate in state.open_gates}
    found = [gate for gate in known if gate.gate_id in open_ids]
    if not found and len(known) == 1:
        found = known
    if not found:
        named = f" of step {step_path}" if step_path is not None else ""
        raise RequestError(
            "gate.not_found",
            f"Run {run_id} wants no judgement{named} of yours; leave out `answer` and `step_path`. "
            "Other gates are decided by a person.",
        )
    if len(found) > 1:
        paths = ", ".join(str(gate.step_path) for gate in found[:20])
        raise RequestError(
            "gate.not_found",
            f"Run {run_id} wants several judgements: {paths}. Say with `step_path` which one the "
            "answer is for.",
        )
    return found[0]
