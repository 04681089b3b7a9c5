"""What other processes and calls may ask of a run's owner, and how the owner answers.

Every decision and cancel goes through the inbox, the owner's own included: one way in, and what was
asked survives the asker.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from fleetprompt_agent.engine import tokens
from fleetprompt_agent.engine.core.events import (
    Decision,
    Event,
    GateKind,
    GateResolved,
    GateTokenIssued,
    RunCancelRequested,
)
from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.ids import new_id

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Body, Json
    from fleetprompt_agent.engine.core.state import GateState, RunState
    from fleetprompt_agent.engine.journal_port import InboxItem

DECISIONS: dict[GateKind, tuple[Decision, ...]] = {
    "effects": ("approve", "deny"),
    "approval": ("approve", "deny"),
    "ask": ("respond", "deny"),
    "manual": ("complete", "skip"),
    "unknown_outcome": ("retry", "succeed_with", "fail"),
    "judgement": ("respond",),
}
"""What each kind of gate can be answered with."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, and under which ids."""

    request_id: str
    correlation_id: str
    causation_id: str | None = None
    actor_type: str = "agent"
    actor_id: str | None = None


def asked_event(
    seq: int, at_ms: int, body: Body, asker: Asker, cause: str | None, correlation_id: str
) -> Event:
    """The event that the asker brings about."""
    return Event(
        seq, at_ms, body, new_id(), asker.request_id, correlation_id, cause,
        asker.actor_type, asker.actor_id,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decide:
    """Resolve a gate."""

    gate_id: str
    decision: Decision
    channel: str
    token: str | None = None
    """Null when the channel is authority in itself."""
    reason: str | None = None
    response: Json = None
    usage: Json = None
    """What the channel tells of a model's work."""


def decide_body(request: Decide, asker: Asker) -> dict[str, Any]:
    """The request as it is kept in the inbox: with the token's hash in place of the token."""
    body = asdict(request)
    token = body.pop("token")
    body["token_hash"] = tokens.token_hash(token) if token is not None else None
    return {**body, "asker": asdict(asker)}


def cancel_body(reason: str | None, asker: Asker) -> dict[str, Any]:
    """A cancel as it is kept in the inbox."""
    return {"reason": reason, "asker": asdict(asker)}


def reissue_body(gate_id: str, token: str, expires_ms: int, asker: Asker) -> dict[str, Any]:
    """A new token for a gate, made by the asker; only its hash is kept."""
    return {
        "gate_id": gate_id,
        "token_hash": tokens.token_hash(token),
        "expires_ms": expires_ms,
        "asker": asdict(asker),
    }


def asker_of(item: InboxItem) -> Asker:
    """Who left the request."""
    return Asker(**item.body["asker"])


def answer(state: RunState, item: InboxItem, now_ms: int) -> Body | None:
    """The event that the request becomes, or None when it comes too late or is not valid.

    The asker reads from the journal what became of the gate.
    """
    if state.ended is not None:
        return None
    body = item.body
    if item.kind == "cancel":
        return RunCancelRequested(body["reason"])
    gate = state.gates.get(body["gate_id"])
    if gate is None or not gate.is_open:
        return None
    if item.kind == "reissue":
        return GateTokenIssued(gate.gate_id, body["token_hash"], body["expires_ms"])
    if body["token_hash"] is not None and not (
        tokens.same_hash(body["token_hash"], gate.token_hash) and now_ms < gate.expires_ms
    ):
        return None
    return GateResolved(
        gate.gate_id,
        body["decision"],
        body["channel"],
        body["reason"],
        body["response"],
        gate.step_path,
        body.get("usage"),
    )


def check_decision(state: RunState, request: Decide, now_ms: int) -> GateState | None:
    """The open gate that the request is for, or None when it repeats what was decided already.

    Raises:
        RequestError: `gate.*` or `run.conflict`; nothing has been changed.
    """
    gate = state.gates.get(request.gate_id)
    if gate is None:
        raise RequestError("gate.not_found", f"Run {state.run_id} has no gate {request.gate_id}.")
    if request.token is not None and not tokens.matches(request.token, gate.token_hash):
        raise RequestError(
            "gate.token_invalid",
            "The token is not the one that was issued for this gate; it may have been replaced. "
            "Ask for a new one.",
        )
    if request.decision not in DECISIONS[gate.kind]:
        allowed = ", ".join(DECISIONS[gate.kind])
        raise RequestError(
            "gate.bad_response",
            f"A gate of kind {gate.kind} is answered with {allowed}, not {request.decision}.",
        )
    if gate.decision is not None:
        if gate.decision == request.decision and _says_the_same(gate, request):
            return None
        what = gate.decision if gate.decision != request.decision else "something else"
        raise RequestError(
            "run.conflict",
            f"The gate was answered with {what} before; the first decision holds.",
            details={"decision": gate.decision},
        )
    if state.ended is not None or gate.is_void:
        now = state.ended or "reopened since"
        raise RequestError("gate.closed", f"Run {state.run_id} is {now}.")
    if request.token is not None and now_ms >= gate.expires_ms:
        raise RequestError("gate.expired", "The token has expired. Ask for a new one.")
    _check_size(state, gate, request)
    schema = _response_schema(state, gate)
    if schema is not None and request.decision in ("respond", "succeed_with"):
        _check_response(schema, request.response)
    return gate


def _says_the_same(gate: GateState, request: Decide) -> bool:
    """Whether an answer with a value has the value that was given before."""
    if request.decision not in ("respond", "succeed_with"):
        return True
    return canonical_json(gate.response) == canonical_json(request.response)


def _check_size(state: RunState, gate: GateState, request: Decide) -> None:
    """A response is a step's output, and has its limit."""
    step = state.steps.get(gate.step_path or "")
    if step is None or request.decision != "respond":
        return
    limit = min(step.step.max_output_bytes, state.max_output_bytes or step.step.max_output_bytes)
    size = len(canonical_json(request.response).encode(errors="surrogatepass"))
    if size > limit:
        raise RequestError(
            "gate.bad_response",
            f"The response has {size} bytes as JSON; at most {limit} are taken. "
            "The gate stays open.",
        )


def _response_schema(state: RunState, gate: GateState) -> Json:
    if gate.kind != "unknown_outcome":
        return gate.response_schema
    step = state.steps.get(cast("str", gate.step_path))
    return step.step.output.schema if step is not None else None


def _check_response(schema: Json, response: Json) -> None:
    from fleetprompt_agent.language.schemas import schema_problems

    problems = schema_problems(schema, response)
    if problems:
        raise RequestError(
            "gate.bad_response",
            f"The response does not fit: {problems[0]}. The gate stays open.",
            details={"problems": problems},
        )
