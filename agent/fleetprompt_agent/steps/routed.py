"""Tools of other agents, `<agent_id>/<tool>`: called through the host, never directly.

The host decides whether a call may be made and who answers it. What comes back is an outcome: an
error answer is known, and whatever leaves the answer open (a lost connection, a cancel that nobody
confirmed) is an effect that nobody can tell.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fleetprompt_agent.steps.contract import StepOutcome, StepStoppedError
from fleetprompt_protocol.errors import CODES, FleetPromptError
from fleetprompt_protocol.ids import new_id
from fleetprompt_protocol.wire import dumps

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.language.plan import Json
    from fleetprompt_agent.steps.contract import Effect, Progress, StepRequest
    from fleetprompt_protocol.ids import Correlation
    from fleetprompt_protocol.messages import ToolResult

CANCEL_GRACE_S = 2.0
"""How long a cancelled call may take to say how it ended (engine.md §3, Cancel)."""

MADE_OR_NOT = frozenset(
    {
        "protocol.closed",
        "protocol.timeout",
        "protocol.internal",
        "protocol.peer_error",
        "protocol.frame_too_large",
        "protocol.canceled",
    }
)
"""Errors after which nobody can tell whether the tool was called; any other says that it was not:
what a tool answers, failures included, is a result."""


@dataclass(frozen=True, slots=True)
class RoutedCall:
    """One call of a tool of another agent."""

    call_id: str
    run_id: str
    tool_id: str
    given: dict[str, Json]
    timeout_s: float | None
    idempotency_key: str
    correlation: Correlation


class Route(Protocol):
    """The way to the tools of others: a router session that was welcomed."""

    async def call(self, call: RoutedCall, progress: Progress) -> ToolResult:
        """The final result, after everything that was streamed.

        Raises:
            FleetPromptError: the call could not be made, or its answer was lost.
        """
        ...

    def cancel(self, call_id: str, reason: str) -> None:
        """Ask for the end of a call; its result still comes."""
        ...


class RoutedRunner:
    """Performs steps whose tool belongs to another agent.

    Args:
        find_route: Gives the way to the host, or None while there is none.
    """

    def __init__(self, find_route: Callable[[], Route | None]) -> None:
        self._find_route = find_route

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:
        """How the call ended; see `StepRunner.run`."""
        began = time.perf_counter()
        route = self._find_route()
        if route is None:
            return _failed(
                "tool.not_found",
                f"`{request.tool_id}` is a tool of another agent, and no host is connected that "
                "could route the call. Run the workflow under a router host.",
                "none",
                began,
            )
        call = RoutedCall(
            call_id=new_id(),
            run_id=request.run_id,
            tool_id=request.tool_id,
            given=_object(request.action.get("with")),
            timeout_s=request.timeout_s,
            idempotency_key=request.idempotency_key,
            correlation=request.correlation,
        )
        calling = asyncio.ensure_future(route.call(call, _bounded(progress, request)))
        try:
            await asyncio.wait((calling,))
        except asyncio.CancelledError as stop:
            route.cancel(call.call_id, "the step was stopped")
            with suppress(asyncio.CancelledError):  # once is enough: it is being stopped
                await asyncio.wait((calling,), timeout=CANCEL_GRACE_S)
            calling.cancel()
            raise stop from StepStoppedError(_stopped(calling, request, began))
        return _outcome(calling, request, began)

    def resolve_action(self, request: StepRequest) -> dict[str, Json]:
        """The tool and what it is given."""
        return {"tool": request.tool_id, "with": _object(request.action.get("with"))}


def _object(given: Json) -> dict[str, Json]:
    return given if isinstance(given, dict) else {}


def _bounded(progress: Progress, request: StepRequest) -> Progress:
    """Shows no more of a call's stream than the step may put out."""
    left = request.max_output_bytes

    def show(channel: str, text: str) -> None:
        nonlocal left
        left -= len(text)
        if left >= 0:
            progress(channel, text)

    return show


def _stopped(
    calling: asyncio.Future[ToolResult], request: StepRequest, began: float
) -> StepOutcome:
    """What a call had done that was cancelled by us."""
    if calling.done() and not calling.cancelled() and calling.exception() is None:
        return _outcome(calling, request, began)
    message = f"The call of `{request.tool_id}` was given up before it had answered."
    return _failed("step.interrupted", message, "unknown", began)


def _outcome(
    calling: asyncio.Future[ToolResult], request: StepRequest, began: float
) -> StepOutcome:
    try:
        answer = calling.result()
    except FleetPromptError as error:
        effect: Effect = "unknown" if error.code in MADE_OR_NOT else "none"
        return StepOutcome(False, {}, error.to_data(), effect, _since(began), {})
    result: dict[str, Json] = {"json": answer.output}
    metrics = answer.metrics or {}
    text = dumps(answer.output)
    if len(text) > request.max_output_bytes:
        cut = {"truncated": True, "bytes": len(text), "sha256": hashlib.sha256(text).hexdigest()}
        error_data = _error(
            "output.truncated",
            f"`{request.tool_id}` answered with {len(text)} bytes; the step keeps "
            f"{request.max_output_bytes}. Ask it for less, or raise `max_output_bytes`.",
        )
        result = {"truncated": {"json": cut}}
        return StepOutcome(False, result, error_data, "done", _since(began), metrics)
    if answer.status == "succeeded":
        return StepOutcome(True, result, None, "done", _since(began), metrics)
    if answer.status == "canceled":
        error_data = _error("tool.canceled", f"`{request.tool_id}` was cancelled by its agent.")
        return StepOutcome(False, result, error_data, "unknown", _since(began), metrics)
    return StepOutcome(False, result, _told(request, answer), "done", _since(began), metrics)


def _told(request: StepRequest, answer: ToolResult) -> dict[str, Json]:
    """The error that the tool answered with; a code that is not ours stands in the details."""
    told = answer.error
    if told is None:
        return _error("tool.failed", f"`{request.tool_id}` failed without saying why.")
    if told.code in CODES and told.code.partition(".")[0] != "protocol":
        data = told.to_json()
        data.setdefault("retryable", False)
        return data
    return {
        "code": "tool.failed",
        "message": f"`{request.tool_id}` failed: {told.message}",
        "details": {"code": told.code, **({"said": told.details} if told.details else {})},
        "retryable": told.retryable,
    }


def _failed(code: str, message: str, effect: Effect, began: float) -> StepOutcome:
    return StepOutcome(False, {}, _error(code, message), effect, _since(began), {})


def _error(code: str, message: str) -> dict[str, Json]:
    return {"code": code, "message": message, "retryable": False}


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000
