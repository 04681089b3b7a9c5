"""Routes calls between agents: a step of one calls a tool of another, and neither knows the other.

An agent is offered the tools of every other agent that is attached, never its own. A call that is
routed keeps its request and correlation ids and gets a call id of its own; what the called agent
streams goes back under the caller's. The router decides who may call what, and how deep.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from fleetprompt_protocol.errors import PolicyError, ProtocolError, RequestError
from fleetprompt_protocol.ids import Correlation, new_id
from fleetprompt_protocol.messages import ErrorInfo, Meta, ToolResult

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt.session import Session, ToolOutcome
    from fleetprompt_protocol.call import CallContext
    from fleetprompt_protocol.messages import DownstreamCall, ToolDescription, ToolsQuery

Json: TypeAlias = Any

MAX_DEPTH = 8
"""Calls within calls (security.md, Permissions): a loop of agents ends here."""

LATE_S = 2.0
"""An agent that was told a time limit answers, if only with a timeout, so much after it."""


@dataclass(slots=True)
class _Routed:
    """A call on its way from one agent to another."""

    caller: Session
    callee: Session
    caller_call_id: str
    depth: int


class Router:
    """The agents of one host, and the calls between them.

    Args:
        permit: Says whether an agent (first its id, then the tool's) may call a tool. There is no
            default: that agents are attached to one host does not say that they trust each other.
    """

    def __init__(self, permit: Callable[[str, str], bool]) -> None:
        self._permit = permit
        self._sessions: dict[str, Session] = {}
        self._calls: dict[str, _Routed] = {}
        """By the id under which the called agent has it."""

    @property
    def agent_ids(self) -> tuple[str, ...]:
        """The agents that are attached, in the order in which they came."""
        return tuple(self._sessions)

    @property
    def in_flight(self) -> int:
        """Calls between agents that have no result yet."""
        return len(self._calls)

    def attach(self, session: Session) -> None:
        """Offer the session's tools to the others, and theirs to it.

        Raises:
            ProtocolError: `protocol.unauthorized`: an agent with this id is attached.
        """
        if session.agent_id in self._sessions:
            raise ProtocolError(
                "protocol.unauthorized",
                f"An agent with the id {session.agent_id} is connected to this host already.",
            )
        self._sessions[session.agent_id] = session

    def detach(self, session: Session) -> None:
        """The session has ended."""
        if self._sessions.get(session.agent_id) is session:
            del self._sessions[session.agent_id]

    def tools_for(self, session: Session, query: ToolsQuery) -> list[ToolDescription]:
        """What the agent may call, of what it asks about."""
        return [
            tool
            for other in self._sessions.values()
            if other is not session
            for tool in other.tools.values()
            if (query.tool_ids is None or tool.tool_id in query.tool_ids)
            and self._permit(session.agent_id, tool.tool_id)
        ]

    async def call(self, caller: Session, call: DownstreamCall, context: CallContext) -> Json:
        """The result of a tool of another agent.

        Raises:
            FleetPromptError: the call could not be made, or the called agent went away.
        """
        from fleetprompt.session import CallOptions

        callee = self._callee(caller, call.tool_id)
        depth = self._depth(call)
        if any(
            routed.caller is caller and routed.caller_call_id == call.call_id
            for routed in self._calls.values()
        ):
            raise ProtocolError(
                "protocol.duplicate_id", f"A call with the id {call.call_id} is in flight."
            )
        call_id = new_id()
        self._calls[call_id] = _Routed(caller, callee, call.call_id, depth)

        def pass_on(chunk: dict[str, Json]) -> None:
            kept = {key: value for key, value in chunk.items() if key != "seq"}
            context.notify("core.tool.stream", {**kept, "call_id": call.call_id}, numbered=True)

        def pass_cancel() -> None:
            callee.cancel_call(call_id, "the caller gave it up")

        context.on_cancel(pass_cancel)
        meta = call.meta or Meta.parse({})
        ids = Correlation(
            meta.request_id or new_id(), meta.correlation_id or new_id(), meta.causation_id
        )
        options = CallOptions(
            timeout_ms=call.timeout_ms,
            idempotency_key=call.idempotency_key,
            actor={"type": "agent", "id": caller.agent_id},
            correlation=ids,
            context={"parent_call_id": call.call_id},
            call_id=call_id,
        )
        limit_s = None if call.timeout_ms is None else call.timeout_ms / 1000 + LATE_S
        try:
            async with asyncio.timeout(limit_s):
                outcome = await callee.call(call.tool_id, call.input, options, pass_on)
        except TimeoutError:
            callee.cancel_call(call_id, "its time is up")
            raise ProtocolError(
                "protocol.timeout",
                f"`{call.tool_id}` did not answer within its {call.timeout_ms} ms.",
            ) from None
        except asyncio.CancelledError:
            callee.cancel_call(call_id, "the caller has gone")
            raise
        finally:
            del self._calls[call_id]
        return _result(call.call_id, outcome)

    def cancel(self, caller: Session, call_id: str, reason: str) -> bool:
        """The caller gives up one of its calls, whose result says what became of it.

        Returns:
            False when there is no such call.
        """
        for own_id, routed in self._calls.items():
            if routed.caller is caller and routed.caller_call_id == call_id:
                routed.callee.cancel_call(own_id, reason)
                return True
        return False

    def _callee(self, caller: Session, tool_id: str) -> Session:
        agent_id = tool_id.rpartition("/")[0]
        callee = self._sessions.get(agent_id)
        if callee is None or callee is caller or tool_id not in callee.tools:
            raise RequestError(
                "tool.not_found",
                f"This host offers agents no tool `{tool_id[:200]}`. "
                "Connect the agent that has it.",
            )
        if not self._permit(caller.agent_id, tool_id):
            raise PolicyError("tool.denied", f"{caller.agent_id} may not call `{tool_id}`.")
        return callee

    def _depth(self, call: DownstreamCall) -> int:
        parent = self._calls.get(call.parent_call_id or "")
        depth = 1 if parent is None else parent.depth + 1
        if depth > MAX_DEPTH:
            raise PolicyError(
                "tool.denied",
                f"The call of `{call.tool_id}` lies {depth} calls deep; {MAX_DEPTH} are allowed. "
                "Look for agents that call each other in a circle.",
            )
        return depth


def _result(call_id: str, outcome: ToolOutcome) -> Json:
    error = None if outcome.error is None else ErrorInfo.parse(outcome.error.to_data())
    result = ToolResult(
        call_id=call_id,
        status=outcome.status,
        error=error,
        started_at=outcome.started_at,
        finished_at=outcome.finished_at,
        metrics=outcome.metrics,
    )
    return {**result.to_json(), "output": outcome.output}
