"""The playbook contract: run and resume in one tool, answered in one envelope.

`{ok, status: ok|needs_approval|cancelled|error, output, requiresApproval?, error?, runId}`. The
runs are the engine's, like all others. Inline text is nobody's file: it is never granted anything,
so that its side effects are asked about even where the spawner allows those of the repository.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine import tokens
from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.custody import NewRun
from fleetprompt_agent.engine.fitting import RESULT_BYTES, fit_gate, is_deep
from fleetprompt_agent.engine.requests import DECISIONS, Decide
from fleetprompt_agent.tools.run_calls import (
    asker_of,
    cancel_with_call,
    check_cwd,
    gate_place,
    seconds,
)
from fleetprompt_protocol.errors import FleetPromptError, ProtocolError, RequestError, WorkflowError
from fleetprompt_protocol.wire import dumps, loads

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Decision
    from fleetprompt_agent.engine.core.state import GateState, RunState
    from fleetprompt_agent.engine.snapshots import Snapshot
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.tools.inputs import PlaybookInput
    from fleetprompt_agent.tools.registry import Call

Json = Any

INLINE_FILE = "inline.yaml"
"""What diagnostics call the text; the id of a workflow that names none is made from it."""
MAX_INLINE_BYTES = 102_400
"""As of a workflow file."""
MAX_OUTPUT_BYTES = 64 * 1024 * 1024
"""A larger `maxOutputBytes` is taken as this; zero and less as not given."""

_BEGINS_A_DOCUMENT = re.compile(r"\s*(?:[{\[#]|---|[A-Za-z_][\w-]*\s*:(?:\s|$))")


async def fp_playbook(call: Call, given: PlaybookInput) -> dict[str, Json]:
    """The envelope; only an input of the wrong shape is an error of the call itself."""
    started: list[str] = []
    try:
        if given.action == "run":
            snapshot = await _run(call, given, started)
        else:
            snapshot = await _resume(call, given, started)
        return await _envelope(call, snapshot)
    except FleetPromptError as error:
        told = {"code": error.code, "message": error.message}
        if error.code == "gate.bad_response" and given.token is not None:
            told["resumeToken"] = given.token  # the gate stays open
        run_id = started[0] if started and error.code != "gate.token_invalid" else None
        return _error(told, run_id)


# Running


async def _run(call: Call, given: PlaybookInput, started: list[str]) -> Snapshot:
    from fleetprompt_agent.language.inputs import check_inputs

    pipeline = given.pipeline or ""
    if _BEGINS_A_DOCUMENT.match(pipeline) or "\n" in pipeline.strip():
        plan, intent = _inline_plan(call, pipeline), None
    else:
        reference = _reference(call.agent.root, pipeline.strip())
        plan = call.agent.load(reference).raise_if_invalid()
        intent = "spawner" if call.agent.allow_side_effects else None
        if intent is None and call.intent is not None:
            intent = await call.intent(plan)
    inputs = check_inputs(plan, _arguments(given.args_json))
    check_cwd(call, given.cwd)
    cap = given.max_output_bytes
    new = NewRun(
        plan=plan,
        inputs=inputs,
        cwd=given.cwd,
        intent=intent,
        timeout_s=seconds(given.timeout_ms),
        max_output_bytes=min(cap, MAX_OUTPUT_BYTES) if cap is not None and cap > 0 else None,
        caller=call.caller,
    )
    cancel_with_call(call, started)
    return await call.agent.engine.start(new, asker_of(call), call.listener, None, started.append)


def _inline_plan(call: Call, text: str) -> Plan:
    """The plan of workflow text that came with the call.

    Raises:
        WorkflowError: `workflow.invalid`.
        RequestError: `inputs.too_large`.
    """
    from fleetprompt_agent.language.loader import load_workflow

    data = text.encode("utf-8", "surrogatepass")
    if len(data) > MAX_INLINE_BYTES:
        raise RequestError(
            "inputs.too_large", f"The pipeline is longer than {MAX_INLINE_BYTES} bytes."
        )
    is_json = text.lstrip().startswith("{")
    loaded = load_workflow(
        data, format="json" if is_json else "yaml", file=INLINE_FILE, root=call.agent.root
    )
    return loaded.raise_if_invalid()


def _reference(root: Path, pipeline: str) -> str:
    """A workflow's id or its path relative to the root, as the catalog knows it.

    Raises:
        WorkflowError: `workflow.not_found`: an absolute path that does not lie in the root.
    """
    if "\0" in pipeline or not Path(pipeline).is_absolute():
        return pipeline
    # As it is written, or through links to the root; what lies in it is never reached by one.
    for path in (Path(pipeline), Path(os.path.realpath(pipeline))):
        if path.is_relative_to(root) and ".." not in path.parts:
            return str(path.relative_to(root))
    raise WorkflowError(
        "workflow.not_found",
        f"A playbook's path must lie in {root}/.fleetprompt/workflows.",
    )


def _arguments(text: str | None) -> dict[str, Json]:
    """The workflow's inputs.

    Raises:
        RequestError: `inputs.invalid`: not one JSON object.
    """
    if text is None:
        return {}
    try:
        arguments = loads(text.encode("utf-8", "surrogatepass"))
    except ProtocolError as error:
        why = error.message.partition(": ")[2] or error.message
        raise RequestError("inputs.invalid", f"argsJson is no JSON: {why}") from None
    if not isinstance(arguments, dict):
        raise RequestError(
            "inputs.invalid", 'argsJson must be a JSON object such as {"key": "value"}.'
        )
    return arguments


# Resuming


async def _resume(call: Call, given: PlaybookInput, started: list[str]) -> Snapshot:
    token = given.token or ""
    run_id, gate_id = gate_place(call, token)
    started.append(run_id)
    engine = call.agent.engine
    state = engine.get(run_id).state
    gate = state.gates.get(gate_id)
    if gate is None or not tokens.matches(token, gate.token_hash):
        raise RequestError(
            "gate.token_invalid",
            "The token is not the one that was issued for this gate; it may have been replaced. "
            "Ask for a new one.",
        )
    cancel_with_call(call, started)
    decision = _decision(gate, is_yes=bool(given.approve))
    if decision is None:
        return await _end(call, state, gate)
    request = Decide(gate_id=gate_id, decision=decision, channel=call.channel, token=token)
    return await engine.decide(run_id, request, asker_of(call), call.listener, None)


def _decision(gate: GateState, *, is_yes: bool) -> Decision | None:
    """What yes or no means for the gate; None for a no to a question that has none.

    Raises:
        RequestError: `gate.bad_response`: it cannot be answered with yes.
    """
    decisions = DECISIONS[gate.kind]
    wanted: tuple[Decision, ...] = ("approve", "complete") if is_yes else ("deny",)
    decision = next((name for name in wanted if name in decisions), None)
    if is_yes and decision is None:
        raise RequestError(
            "gate.bad_response",
            f"A gate of kind {gate.kind} is answered with {', '.join(decisions)}, which "
            "`approve` cannot say; use fp_resume_run. The gate stays open.",
        )
    return decision


async def _end(call: Call, state: RunState, gate: GateState) -> Snapshot:
    """The run after a "no" to a question that has none: nothing further is done.

    Raises:
        RequestError: `run.conflict`: it was decided before.
    """
    engine = call.agent.engine
    if gate.decision is not None:
        raise RequestError(
            "run.conflict",
            f"The gate was answered with {gate.decision} before; the first decision holds.",
        )
    await engine.cancel(state.run_id, "denied", asker_of(call))
    return await engine.follow(state.run_id, call.listener, None)


# The envelope


async def _envelope(call: Call, snapshot: Snapshot) -> dict[str, Json]:
    state = snapshot.state
    match snapshot.status:
        case "succeeded":
            return _fitted(_said("ok", state.run_id, _output(state)))
        case "canceled":
            return _said("cancelled", state.run_id, [])
        case "waiting":
            return await _question(call, snapshot)
        case "failed":
            error = state.error or {}
            told = {"code": error.get("code"), "message": error.get("message")}
            return _fitted(_error(told, state.run_id, _output(state)))
    message = f"Run {state.run_id} is {snapshot.status}; fp_resume_run continues it."
    told = {"code": "step.interrupted", "message": message}
    return _fitted(_error(told, state.run_id, _output(state)))


def _said(status: str, run_id: str, output: list[Json]) -> dict[str, Json]:
    return {"ok": True, "status": status, "output": output, "runId": run_id}


def _error(
    told: dict[str, Json], run_id: str | None, output: list[Json] | None = None
) -> dict[str, Json]:
    return {
        "ok": False,
        "status": "error",
        "output": output or [],
        "error": told,
        "runId": run_id,
    }


def _fitted(envelope: dict[str, Json]) -> dict[str, Json]:
    """The envelope, without an output that is too long for an answer, or nested too deep."""
    size = len(dumps(envelope["output"]))
    if size <= RESULT_BYTES and not is_deep(envelope["output"]):
        return envelope
    return {**envelope, "output": [], "left_out": {"output": size}}


def _output(state: RunState) -> list[Json]:
    """The declared outputs as one item, else the items of the last step that succeeded."""
    if state.outputs:
        return [state.outputs]
    value = rendering.last_output(state.root_scope)
    if isinstance(value, list):
        return value
    return [] if value is None else [value]


async def _question(call: Call, snapshot: Snapshot) -> dict[str, Json]:
    """The oldest gate that the caller can decide."""
    known = [gate for gate in snapshot.state.open_gates if gate.gate_id in snapshot.tokens]
    if not known:
        # Its token went with the process that opened it.
        snapshot = await call.agent.engine.reissue(snapshot.state.run_id, asker_of(call))
        known = [gate for gate in snapshot.state.open_gates if gate.gate_id in snapshot.tokens]
    if not known:
        return await _envelope(call, call.agent.engine.get(snapshot.state.run_id))
    gate = known[0]
    question: dict[str, Json] = {
        "prompt": gate.prompt or _prompt(gate),
        "items": _items(gate),
        "preview": gate.preview,
        "resumeToken": snapshot.tokens[gate.gate_id],
    }
    envelope = _said("needs_approval", snapshot.state.run_id, [])
    envelope["requiresApproval"] = fit_gate(question, RESULT_BYTES)
    return envelope


def _prompt(gate: GateState) -> str:
    """The question, where the author wrote none."""
    match gate.kind:
        case "effects":
            return f"Allow the side effects of workflow {gate.action['workflow_id']}?"
        case "unknown_outcome":
            return f"Nobody can tell whether step {gate.step_path} took effect."
        case _:
            return f"Approve step {gate.step_path}?"


def _items(gate: GateState) -> list[Json]:
    """What would happen, in the system's words: the action, then what it is made of."""
    items = gate.items if isinstance(gate.items, list) else []
    if gate.kind == "effects":
        return items
    return [{"step_path": gate.step_path, **gate.action}, *items]
