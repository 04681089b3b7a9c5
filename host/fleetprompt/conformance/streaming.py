"""What must be so of a call that streams: numbers, ids, order, one result, one cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from fleetprompt.conformance.subject import Violation
from fleetprompt_protocol.errors import FleetPromptError
from fleetprompt_protocol.messages import ToolResult

if TYPE_CHECKING:
    from fleetprompt.conformance.subject import Subject

Json: TypeAlias = Any
CallCheck: TypeAlias = Callable[["Subject", str, dict[str, Any]], None]

IDS = {"request_id": "req-1", "correlation_id": "line-1", "causation_id": "cause-1"}


def _begin(subject: Subject, tool_id: str, given: dict[str, Json], call_id: str) -> Json:
    meta = {**IDS, "stream": True}
    params = {"call_id": call_id, "tool_id": tool_id, "input": given, "meta": meta}
    return subject.request("core.tool.call", params)


def _result(subject: Subject, request_id: Json, call_id: str) -> ToolResult:
    answer = subject.answer(request_id)
    if "error" in answer:
        raise Violation(f"the call could not be made: {answer['error']['message']}")
    try:
        result = ToolResult.parse(answer["result"])
    except FleetPromptError as error:
        raise Violation(f"the result is not as defined: {error.message}") from None
    if result.call_id != call_id:
        raise Violation("the result is that of another call")
    return result


def _chunks(subject: Subject, call_id: str) -> list[Json]:
    return [
        message["params"]
        for message in subject.messages
        if message.get("method") == "agent.tool.stream" and message["params"]["call_id"] == call_id
    ]


def check_stream(subject: Subject, tool_id: str, given: dict[str, Json]) -> None:
    """Chunks are numbered from 1 without gaps, carry the call's ids, and end with the result."""
    _result(subject, _begin(subject, tool_id, given, "call-1"), "call-1")
    subject.ask("core.ping", {})
    chunks = _chunks(subject, "call-1")
    if [chunk["seq"] for chunk in chunks] != list(range(1, len(chunks) + 1)):
        raise Violation(f"the chunks have the numbers {[chunk['seq'] for chunk in chunks]}")
    for chunk in chunks:
        meta = chunk.get("meta") or {}
        for name in ("request_id", "correlation_id"):
            if meta.get(name) != IDS[name]:
                raise Violation(f"chunk {chunk['seq']} does not echo the {name}")
    answered = False
    for message in subject.messages:
        result = message.get("result")
        answered = answered or (isinstance(result, dict) and result.get("call_id") == "call-1")
        if answered and message.get("method") == "agent.tool.stream":
            raise Violation("a chunk came after the result")


def check_result(subject: Subject, tool_id: str, given: dict[str, Json]) -> None:
    """The result echoes the ids of the call, and comes once."""
    request_id = _begin(subject, tool_id, given, "call-1")
    result = _result(subject, request_id, "call-1")
    if result.meta is None or result.meta.correlation_id != IDS["correlation_id"]:
        raise Violation("the result does not echo the correlation_id")
    subject.ask("core.ping", {})
    answers = [m for m in subject.messages if "method" not in m and m.get("id") == request_id]
    if len(answers) != 1:
        raise Violation(f"the call was answered {len(answers)} times")


def check_cancel(subject: Subject, tool_id: str, given: dict[str, Json]) -> None:
    """A cancel, by either way and at any moment, leaves one answer to the call."""
    first = _begin(subject, tool_id, given, "call-1")
    cancel = subject.ask("core.tool.cancel", {"call_id": "call-1", "reason": "enough"})
    if not isinstance(cancel.get("result", {}).get("accepted"), bool):
        raise Violation("the cancel was not answered with `accepted`")
    subject.answer(first)
    second = _begin(subject, tool_id, given, "call-2")
    subject.send(method="$/cancelRequest", params={"id": second})
    subject.answer(second)
    again = subject.ask("core.tool.cancel", {"call_id": "call-1"})
    if again.get("result", {}).get("accepted") is not False:
        raise Violation("a cancel of a call that has ended was accepted")
    for request_id in (first, second):
        answers = [m for m in subject.messages if "method" not in m and m.get("id") == request_id]
        if len(answers) != 1:
            raise Violation(f"a cancelled call was answered {len(answers)} times")


CHECKS: tuple[tuple[str, str, CallCheck], ...] = (
    ("stream", "chunks are numbered without gaps, carry the ids and precede the result",
     check_stream),
    ("result", "the result is as defined, echoes the ids and comes once", check_result),
    ("cancel", "a cancelled call is answered once", check_cancel),
)  # fmt: skip
