"""Calls that go the other way: a step of a run calls a tool through the host (protocol.md §4).

`agent.tool.call` is a request like any other; what the host streams of it comes as
`core.tool.stream`, and it is cancelled by `agent.tool.cancel`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.errors import FleetPromptError, RequestError
from fleetprompt_protocol.log import get_logger
from fleetprompt_protocol.meta import meta_json
from fleetprompt_protocol.wire import dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.steps.contract import Progress
    from fleetprompt_agent.steps.routed import RoutedCall
    from fleetprompt_protocol.messages import ToolDescription, ToolResult
    from fleetprompt_protocol.peer import Peer

log = get_logger("router")

QUERY_TIMEOUT_S = 30.0
"""A host knows what it offers."""
LATE_S = 5.0
"""A host that was told a time limit answers, if only with a timeout, so much after it."""
_MINIMAL = "protocol.method_not_found"


class Downstream:
    """The calls in flight from this agent to tools of others.

    Args:
        peer: The session with the host.
        parent_of: Gives the id of the call that a run belongs to, while there is one.
    """

    def __init__(self, peer: Peer, parent_of: Callable[[str], str | None]) -> None:
        self._peer = peer
        self._parent_of = parent_of
        self._tools: dict[str, ToolDescription] = {}
        self._listening: dict[str, _Stream] = {}
        self._knows_query = True

    @property
    def in_flight(self) -> int:
        """Calls that have no answer yet."""
        return len(self._listening)

    async def call(self, call: RoutedCall, progress: Progress) -> ToolResult:
        """See `Route.call`."""
        from fleetprompt_protocol.messages import ToolResult

        await self._check(call.tool_id, call.given)
        params = self._params(call)
        size = len(dumps(params))
        if size > self._peer.max_send_bytes - 256:  # what JSON-RPC itself adds
            raise RequestError(
                "inputs.too_large",
                f"The call of {call.tool_id} has {size} bytes; the host takes "
                f"{self._peer.max_send_bytes}. Pass a path or an id in place of the data.",
            )
        limit_s = None if call.timeout_s is None else call.timeout_s + LATE_S
        self._listening[call.call_id] = _Stream(progress)
        try:
            answer = await self._peer.request(
                "agent.tool.call", params, timeout_s=limit_s, send_cancel=False
            )
        finally:
            del self._listening[call.call_id]
        return ToolResult.parse_answer(answer, f"the call of {call.tool_id}")

    def cancel(self, call_id: str, reason: str) -> None:
        """See `Route.cancel`."""
        if call_id in self._listening:
            self._peer.notify("agent.tool.cancel", {"call_id": call_id, "reason": reason})

    def take_chunk(self, params: dict[str, Any]) -> None:
        """A `core.tool.stream` of the host: shown with the step that made the call."""
        call_id, seq, data = params.get("call_id"), params.get("seq"), params.get("data")
        stream = self._listening.get(call_id) if isinstance(call_id, str) else None
        if stream is not None and isinstance(seq, int) and isinstance(data, dict):
            stream.take(seq, params.get("channel"), data)

    def _params(self, call: RoutedCall) -> dict[str, Any]:
        params: dict[str, Any] = {
            "call_id": call.call_id,
            "tool_id": call.tool_id,
            "input": call.given,
            "idempotency_key": call.idempotency_key,
            "meta": {**meta_json(call.correlation), "stream": True},
        }
        parent = self._parent_of(call.run_id)
        if parent is not None:
            params["parent_call_id"] = parent
        if call.timeout_s is not None:
            params["timeout_ms"] = round(call.timeout_s * 1000)
        return params

    async def _check(self, tool_id: str, given: dict[str, Any]) -> None:
        """Refuse what cannot succeed, before the call is made.

        Raises:
            RequestError: `tool.not_found`, or `tool.invalid_input` with every problem.
        """
        if not self._knows_query:
            return
        known = self._tools.get(tool_id)
        if known is not None and not _problems(known, given):
            return
        # Not known yet, or the schema that was kept may be an old one.
        found = await self._query(tool_id)
        if not self._knows_query:  # the query may have found out that the host has none
            return  # type: ignore[unreachable]  # mypy does not see that `_query` sets it
        if found is None:
            self._tools.pop(tool_id, None)
            raise RequestError(
                "tool.not_found",
                f"The host offers this agent no tool `{tool_id}`. Connect the agent that has it.",
            )
        self._tools[tool_id] = found
        problems = _problems(found, given)
        if problems:
            raise RequestError(
                "tool.invalid_input",
                f"`{tool_id}` does not take this input: {'; '.join(problems[:3])}.",
                details={"problems": problems},
            )

    async def _query(self, tool_id: str) -> ToolDescription | None:
        from fleetprompt_protocol.messages import ToolsFound

        try:
            answer = await self._peer.request(
                "agent.tools.query", {"tool_ids": [tool_id]}, timeout_s=QUERY_TIMEOUT_S
            )
            tools = ToolsFound.parse_answer(answer, "agent.tools.query").tools
        except FleetPromptError as error:
            if error.code != _MINIMAL:
                raise RequestError("tool.not_found", error.message) from None
            self._knows_query = False
            return None
        return next((tool for tool in tools if tool.tool_id == tool_id), None)


class _Stream:
    """What the host streams of one call."""

    __slots__ = ("_last_seq", "_progress")

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._last_seq = 0

    def take(self, seq: int, channel: object, data: dict[str, Any]) -> None:
        if seq <= self._last_seq:
            return
        self._last_seq = seq
        if channel == "partial_result":
            self._progress("partial_result", dumps(data.get("json")).decode())
            return
        text = data.get("text")
        if isinstance(text, str) and isinstance(channel, str):
            # A transition of another's run is news of this step, not a transition of it.
            self._progress(channel if channel in ("stdout", "stderr") else "log", text)


def _problems(tool: ToolDescription, given: dict[str, Any]) -> list[str]:
    if not tool.input_schema:
        return []
    from fleetprompt_agent.language.schemas import schema_fault, schema_problems

    if schema_fault(tool.input_schema) is not None:
        log.warning("router.schema_unusable", tool_id=tool.tool_id)
        return []  # its own agent will check
    return schema_problems(tool.input_schema, given)
