"""A run as callers see it: the result shapes of protocol.md §7, folded from the state."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleetprompt_agent.engine.core.events import GateOpened, RunCreated, to_columns
from fleetprompt_agent.engine.fitting import fit_gate

if TYPE_CHECKING:
    from fleetprompt_agent.engine.active import Progress
    from fleetprompt_agent.engine.core.events import Event, Json
    from fleetprompt_agent.engine.core.state import GateState, RunState, StepState
    from fleetprompt_agent.engine.snapshots import Snapshot

STDERR_TAIL = 2_000
"""Characters of a step's stderr that stand in a result."""


def instant(ms: int | None) -> str | None:
    """Epoch milliseconds as ISO 8601 in UTC."""
    if ms is None:
        return None
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def run_result(snapshot: Snapshot, *, request_id: str) -> dict[str, Json]:
    """The result of run, resume and get."""
    state = snapshot.state
    result: dict[str, Json] = {
        "ok": snapshot.status != "failed",
        "run_id": state.run_id,
        "correlation_id": state.correlation_id,
        "workflow_id": state.plan.workflow_id,
        "digest": state.plan.digest,
        "status": snapshot.status,
        "outputs": state.outputs if state.ended == "succeeded" else None,
        "output": state.output if state.ended == "succeeded" else None,
        "steps": [step_summary(state, step) for step in state.steps.values()],
        "gates": [
            gate_summary(gate, snapshot.tokens.get(gate.gate_id)) for gate in state.open_gates
        ],
        "started_at": instant(state.created_ms),
        "metrics": {
            "active_ms": state.active_ms,
            "events": state.seq,
            "attempts": sum(step.attempt for step in state.steps.values()),
            "steps": dict(Counter(shown_status(state, step) for step in state.steps.values())),
        },
        "meta": {
            "request_id": request_id,
            "correlation_id": state.correlation_id,
            "causation_id": state.cause_event_id,
        },
    }
    if snapshot.waits_for is not None:
        run_id, status = snapshot.waits_for
        result["waits_for"] = {"run_id": run_id, "status": status}
    if state.ended_ms is not None:
        result["finished_at"] = instant(state.ended_ms)
    error = state.error or _canceled_error(state)
    if error is not None:
        result["error"] = error
    if snapshot.note is not None:
        result["note"] = snapshot.note
    return result


def _canceled_error(state: RunState) -> Json:
    if state.ended != "canceled":
        return None
    reason = f": {state.cancel_reason}" if state.cancel_reason else ""
    return {
        "code": "tool.canceled",
        "message": f"The run was cancelled{reason}.",
        "retryable": False,
    }


def step_summary(state: RunState, step: StepState) -> dict[str, Json]:
    """One step of a result."""
    summary: dict[str, Json] = {
        "step_path": step.path,
        "step_id": step.step.id,
        "status": shown_status(state, step),
        "attempt": step.attempt,
        "duration_ms": step.duration_ms,
    }
    if step.step.name is not None:
        summary["name"] = step.step.name
    if step.result.get("exit_code") is not None:
        summary["exit_code"] = step.result["exit_code"]
    if "artifacts" in step.result:
        summary["artifacts"] = step.result["artifacts"]
    stderr = step.result.get("stderr")
    if isinstance(stderr, str) and stderr:
        summary["stderr_tail"] = stderr[-STDERR_TAIL:]
    if step.error is not None and step.status != "succeeded":
        summary["error"] = step.error
    if step.skip_reason is not None:
        summary["reason"] = step.skip_reason
    return summary


def shown_status(state: RunState, step: StepState) -> str:
    """The step's status; what an ended run never came to is shown as skipped or canceled."""
    if state.ended is None or step.is_settled or step.status == "unknown":
        return step.status
    return "canceled" if state.ended == "canceled" else "skipped"


def gate_summary(gate: GateState, token: str | None) -> dict[str, Json]:
    """One open gate of a result. The token stands only in the result that opened the gate."""
    summary: dict[str, Json] = {
        "gate_id": gate.gate_id,
        "step_path": gate.step_path,
        "step_id": gate.step_path.rpartition("/")[2].partition("[")[0] if gate.step_path else None,
        "kind": gate.kind,
        "action": gate.action,
        "prompt": gate.prompt,
        "preview": gate.preview,
        "items": gate.items,
        "expires_at": instant(gate.expires_ms),
    }
    if gate.response_schema is not None:
        summary["response_schema"] = gate.response_schema
    if token is not None:
        summary["token"] = token
    return summary


_TRANSITIONS = {
    "run.created": "started",
    "step.started": "started",
    "step.succeeded": "completed",
    "step.failed": "failed",
    "step.skipped": "skipped",
    "step.retry_scheduled": "retrying",
    "step.canceled": "canceled",
    "step.interrupted": "canceled",
    "step.unknown": "unknown",
    "gate.opened": "waiting",
}


def status_data(state: RunState, event: Event, progress: Progress) -> dict[str, Json] | None:
    """The status chunk for an event (protocol.md §4), or None for one that is not streamed."""
    body = event.body
    shown = _TRANSITIONS.get(body.type)
    if shown is None:
        return None
    path = getattr(body, "step_path", None)
    step = state.steps.get(path) if path is not None else None
    data: dict[str, Json] = {
        "text": "run: created" if isinstance(body, RunCreated) else f"{path or 'run'}: {shown}",
        "run_id": state.run_id,
        "step_path": path,
        "step_id": step.step.id if step is not None else None,
        "state": shown,
        "attempt": getattr(body, "attempt", None) or (step.attempt if step else 0),
        "completed": progress.completed,
        "total": progress.total,
        "event_id": event.event_id,
        "at": instant(event.at_ms),
    }
    duration = getattr(body, "duration_ms", None)
    if duration is not None and step is not None and step.is_composite:
        duration = step.duration_ms
    if duration is not None:
        data["duration_ms"] = duration
    error = getattr(body, "error", None)
    if error is not None:
        data["error"] = error
    if isinstance(body, GateOpened):
        data["gate"] = fit_gate(gate_summary(state.gates[body.gate_id], None))
    return data


_HIDDEN = {"plan", "token_hash"}
"""Fields of events that a timeline leaves out: one is large, the other is nobody's business."""


def timeline_entry(event: Event) -> dict[str, Json]:
    """One event of a timeline."""
    type_, step_path, attempt, data = to_columns(event.body)
    entry: dict[str, Json] = {"seq": event.seq, "at": instant(event.at_ms), "type": type_}
    if step_path is not None:
        entry["step_path"] = step_path
    if attempt is not None:
        entry["attempt"] = attempt
    entry["data"] = {key: value for key, value in data.items() if key not in _HIDDEN}
    entry.update(
        event_id=event.event_id,
        request_id=event.request_id,
        correlation_id=event.correlation_id,
        causation_id=event.causation_id,
        actor={"type": event.actor_type, "id": event.actor_id},
    )
    return entry
