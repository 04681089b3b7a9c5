"""Steps whose tool belongs to another agent, as a raw router host sees them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.router_host import greeted, notification, request_of, send

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace

REVIEW = "com.example.reviewer/review"
TOOL = {
    "tool_id": REVIEW,
    "name": "review",
    "input_schema": {
        "type": "object",
        "properties": {"depth": {"type": "integer"}},
        "additionalProperties": False,
    },
}
META = {"request_id": "r", "correlation_id": "line"}
WORKFLOW = f"""\
steps:
  - {{id: ask, tool: {REVIEW}, with: {{depth: 2}}}}
outputs:
  said: ${{{{ steps.ask.json }}}}
"""


def run(agent: AgentProcess, **fields: Any) -> int:
    """Run the workflow; gives the id of the request."""
    params = {
        "call_id": "call-1",
        "tool_id": "com.fleetprompt.core/fp_run_workflow",
        "input": {"workflow": "w"},
        "meta": META,
        **fields,
    }
    return agent.send("core.tool.call", params)


def routed(agent: AgentProcess, *tools: dict[str, Any]) -> dict[str, Any]:
    """The `agent.tool.call` of the step, after its query was answered."""
    query = request_of(agent, "agent.tools.query")
    assert query["params"] == {"tool_ids": [REVIEW]}
    send(agent, id=query["id"], result={"tools": list(tools or (TOOL,))})
    return request_of(agent, "agent.tool.call")


def step_of(agent: AgentProcess, request_id: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """The output of the run's call, and its only step."""
    output = agent.answer(request_id)["result"]["output"]
    (step,) = output["steps"]
    return output, step


def test_a_step_calls_a_tool_through_the_host_with_everything_that_belongs_to_it(
    workspace: Workspace,
) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    call = routed(agent)
    params = call["params"]
    assert (params["tool_id"], params["input"]) == (REVIEW, {"depth": 2})
    assert params["parent_call_id"] == "call-1"
    assert params["idempotency_key"] == "line/ask"
    assert (params["meta"]["request_id"], params["meta"]["correlation_id"]) == ("r", "line")
    call_id = params["call_id"]
    chunks: list[dict[str, Any]] = [
        {"channel": "stdout", "data": {"text": "looking"}},
        {"channel": "status", "data": {"text": "half way", "state": "started"}},
        {"channel": "partial_result", "data": {"json": {"found": 1}}},
    ]
    for seq, chunk in enumerate(chunks, 1):
        send(agent, method="core.tool.stream", params={"call_id": call_id, "seq": seq, **chunk})
    send(agent, method="core.tool.stream", params={"call_id": "other", "seq": 1, **chunks[0]})
    answer = {"call_id": call_id, "status": "succeeded", "output": {"verdict": "fine"}}
    send(agent, id=call["id"], result=answer)
    output, step = step_of(agent, request)
    assert output["outputs"] == {"said": {"verdict": "fine"}}
    assert step["status"] == "succeeded"
    shown = [(c["channel"], c["data"]) for c in agent.chunks if c["channel"] != "status"]
    assert shown == [
        ("stdout", {"text": "looking", "step_path": "ask"}),
        ("log", {"text": "half way", "step_path": "ask"}),
        ("partial_result", {"json": {"found": 1}, "step_path": "ask"}),
    ]
    assert [chunk["seq"] for chunk in agent.chunks] == list(range(1, len(agent.chunks) + 1))
    timeline = agent.call("fp_get_timeline", {"correlation_id": "line"})["events"]
    (started,) = [event for event in timeline if event["type"] == "step.started"]
    assert params["meta"]["causation_id"] == started["event_id"]


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        ({"status": "failed", "error": {"code": "tool.denied", "message": "no"}},
         "failed", "tool.denied"),
        ({"status": "failed", "error": {"code": "their.own", "message": "no"}},
         "failed", "tool.failed"),
        ({"status": "failed"}, "failed", "tool.failed"),
        ({"status": "canceled"}, "unknown", "tool.canceled"),
        ({"status": "odd"}, "unknown", "protocol.peer_error"),
    ],
)  # fmt: skip
def test_what_the_tool_answers_is_known_and_what_is_left_open_is_a_question(
    workspace: Workspace, answer: dict[str, Any], status: str, code: str
) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    call = routed(agent)
    send(agent, id=call["id"], result={"call_id": call["params"]["call_id"], **answer})
    output, step = step_of(agent, request)
    assert (step["status"], step["error"]["code"]) == (status, code)
    assert [gate["kind"] for gate in output["gates"]] == ["unknown_outcome"] * (status == "unknown")


@pytest.mark.parametrize(
    ("code", "status"), [("tool.denied", "failed"), ("protocol.internal", "unknown")]
)
def test_a_call_that_could_not_be_made_has_no_effect_unless_nobody_can_tell(
    workspace: Workspace, code: str, status: str
) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    error = {"code": -32000, "message": "no", "data": {"code": code, "message": "no"}}
    send(agent, id=routed(agent)["id"], error=error)
    _, step = step_of(agent, request)
    assert (step["status"], step["error"]["code"]) == (status, code)


def test_a_tool_that_is_not_offered_or_takes_other_input_is_never_called(
    workspace: Workspace,
) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    send(agent, id=request_of(agent, "agent.tools.query")["id"], result={"tools": []})
    _, step = step_of(agent, request)
    assert step["error"]["code"] == "tool.not_found"
    request = run(agent, call_id="call-2")
    strict = {**TOOL, "input_schema": {"type": "object", "required": ["path"]}}
    send(agent, id=request_of(agent, "agent.tools.query")["id"], result={"tools": [strict]})
    _, step = step_of(agent, request)
    assert step["error"]["code"] == "tool.invalid_input"
    assert not [message for message in agent.other if message["method"] == "agent.tool.call"]


def test_a_minimal_host_that_knows_no_query_is_called_all_the_same(workspace: Workspace) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    error = {"code": -32601, "message": "no such method"}
    send(agent, id=request_of(agent, "agent.tools.query")["id"], error=error)
    call = request_of(agent, "agent.tool.call")
    answer = {"call_id": call["params"]["call_id"], "status": "succeeded", "output": 7}
    send(agent, id=call["id"], result=answer)
    output, _ = step_of(agent, request)
    assert output["outputs"] == {"said": 7}


def test_without_a_host_such_a_step_fails_and_says_what_it_needs(workspace: Workspace) -> None:
    workspace.write("w.yaml", WORKFLOW)
    result = workspace.trusted().call("fp_run_workflow", {"workflow": "w"})
    assert result["error"]["code"] == "tool.not_found"
    assert "host" in result["error"]["message"]


def test_a_cancel_goes_down_to_the_tool_and_its_last_word_is_kept(workspace: Workspace) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    call = routed(agent)
    call_id = call["params"]["call_id"]
    agent.send("core.tool.cancel", {"call_id": "call-1"})
    cancel = notification(agent, "agent.tool.cancel")
    assert cancel["call_id"] == call_id
    send(agent, id=call["id"], result={"call_id": call_id, "status": "canceled"})
    output, step = step_of(agent, request)
    assert (output["status"], step["status"]) == ("canceled", "canceled")


def test_the_time_limit_of_a_step_travels_with_its_call_and_ends_it(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml", f"steps:\n  - {{id: ask, tool: {REVIEW}, with: {{depth: 2}}, timeout: 300ms}}\n"
    )
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    call = routed(agent)
    assert call["params"]["timeout_ms"] == 300
    call_id = call["params"]["call_id"]
    assert notification(agent, "agent.tool.cancel")["call_id"] == call_id
    send(agent, id=call["id"], result={"call_id": call_id, "status": "canceled"})
    output, step = step_of(agent, request)
    assert (step["status"], step["error"]["code"]) == ("unknown", "step.timeout")
    assert [gate["kind"] for gate in output["gates"]] == ["unknown_outcome"]


def test_a_host_that_goes_away_leaves_a_run_that_asks_what_became_of_the_call(
    workspace: Workspace,
) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    run(agent)
    routed(agent)
    assert agent.close() == 0
    again = workspace.agent()
    waiting = again.call("fp_resume_run", {"run_id": "line"})
    assert [gate["kind"] for gate in waiting["gates"]] == ["unknown_outcome"]


def test_an_answer_longer_than_the_step_keeps_is_not_consumed(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: ask, tool: {REVIEW}, with: {{depth: 2}}}}\n",
    )
    agent = greeted(workspace, "--allow-side-effects")
    request = run(agent)
    call = routed(agent)
    answer = {"call_id": call["params"]["call_id"], "status": "succeeded", "output": "x" * 600_000}
    send(agent, id=call["id"], result=answer)
    _, step = step_of(agent, request)
    assert step["error"]["code"] == "output.truncated"


def workflow_signal(agent: AgentProcess, what: str) -> dict[str, Any]:
    """The data of the next signal of this kind."""
    while (found := notification(agent, "agent.signal"))["type"] != f"fleetprompt.workflow.{what}":
        pass
    data: dict[str, Any] = found["data"]
    return data


def test_runs_and_workflow_files_become_signals(workspace: Workspace) -> None:
    agent = greeted(workspace, "--allow-side-effects", capabilities=("workflow_signals",))
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    found = notification(agent, "agent.signal")
    assert found["type"] == "fleetprompt.workflow.discovered"
    assert found["data"]["workflow_id"] == "w"
    # A file that is being written may be seen before it is whole, so there may be more signals.
    workspace.write("other.yaml", "steps: []\n")
    assert workflow_signal(agent, "discovered")["workflow_id"] == "other"
    workspace.write("other.yaml", "steps: [ ]\n")
    assert workflow_signal(agent, "changed")["sha256"] is not None
    (workspace.root / ".fleetprompt" / "workflows" / "other.yaml").unlink()
    assert workflow_signal(agent, "removed")["workflow_id"] == "other"
    request = run(agent, call_id="call-2")
    signals: list[dict[str, Any]] = []
    while len(signals) < 2:
        signals.append(notification(agent, "agent.signal"))
    assert [signal["type"] for signal in signals] == [
        "fleetprompt.execution.started",
        "fleetprompt.execution.finished",
    ]
    assert signals[1]["data"] == {"run_id": "line", "workflow_id": "w", "status": "succeeded"}
    assert {signal["meta"]["correlation_id"] for signal in signals} == {"line"}
    assert agent.answer(request)["result"]["status"] == "succeeded"


def test_a_heartbeat_tells_what_is_under_way(workspace: Workspace) -> None:
    workspace.write("w.yaml", WORKFLOW)
    agent = greeted(workspace, "--allow-side-effects")
    run(agent)
    routed(agent)
    beat = notification(agent, "agent.heartbeat")
    assert (beat["status"], beat["inflight_calls"]) == ("ok", 1)
    assert (beat["details"]["active_runs"], beat["details"]["downstream_calls"]) == (1, 1)
