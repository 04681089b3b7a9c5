"""What a router host sees: hello, calls, streams, cancels, directives, goodbye."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.router_host import (
    AGENT,
    TOKEN,
    WELCOME,
    answer,
    greeted,
    offered,
    refuse,
    request_of,
    send,
    tool_call,
    welcomed,
)

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import Workspace


def test_with_a_token_the_agent_speaks_first_and_serves_nobody_before_the_welcome(
    workspace: Workspace,
) -> None:
    agent = workspace.agent(env={"FLEETPROMPT_SESSION_TOKEN": TOKEN})
    early = agent.send("core.tool.call", tool_call("fp_list_workflows"))
    hello = request_of(agent, "agent.hello")
    refused = agent.answer(early)
    assert refused["error"]["data"]["code"] == "protocol.not_ready"
    answer(agent, hello, WELCOME)
    register = request_of(agent, "agent.tools.register")
    for tool in register["params"]["tools"]:
        assert tool["input_schema"]["additionalProperties"] is False
    refuse(agent, register, -32601, "protocol.method_not_found")
    result = agent.call("core.tool.call", tool_call("fp_list_workflows"))
    assert result["status"] == "succeeded"
    assert agent.close() == 0
    assert "s3cret" not in agent.log


@pytest.mark.parametrize(
    ("number", "code"),
    [(-32000, "protocol.unauthorized"), (-32000, "protocol.unsupported_version")],
)
def test_an_agent_that_is_not_welcome_ends(workspace: Workspace, number: int, code: str) -> None:
    agent = workspace.agent(env={"FLEETPROMPT_SESSION_TOKEN": TOKEN})
    refuse(agent, request_of(agent, "agent.hello"), number, code)
    assert agent.process.wait(60) == 3
    assert code in agent.log


def test_a_welcome_in_an_unknown_version_ends_the_session(workspace: Workspace) -> None:
    agent = workspace.agent(env={"FLEETPROMPT_SESSION_TOKEN": TOKEN})
    answer(agent, request_of(agent, "agent.hello"), {**WELCOME, "accepted_version": "99"})
    assert agent.process.wait(60) == 3


@pytest.mark.parametrize("wrong", [None, [], "x", {}, {**WELCOME, "session_id": "a b"}])
def test_a_welcome_that_is_none_ends_the_session_and_is_named(
    workspace: Workspace, wrong: Any
) -> None:
    agent = workspace.agent(env={"FLEETPROMPT_SESSION_TOKEN": TOKEN})
    answer(agent, request_of(agent, "agent.hello"), wrong)
    assert agent.process.wait(60) == 3
    assert "The answer to agent.hello is not as the protocol says" in agent.log


@pytest.mark.parametrize("wrong", [None, "x", {}, {"granted": "true"}, {"granted": True}])
def test_a_directive_that_is_none_is_no_intent(workspace: Workspace, wrong: Any) -> None:
    workspace.write("w.yaml", "steps: [{id: a, command: cli true}]\n")
    agent = greeted(workspace)
    call = agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    answer(agent, request_of(agent, "agent.directive.request"), wrong)
    assert agent.answer(call)["result"]["output"]["status"] == "waiting"


@pytest.mark.parametrize("wrong", [None, [], {"tools": 7}, {"tools": [{"tool_id": "x.y/z"}]}])
def test_a_query_that_is_not_answered_well_fails_the_step_without_an_effect(
    workspace: Workspace, wrong: Any
) -> None:
    workspace.write("w.yaml", "steps: [{id: a, tool: x.y/z}]\n")
    agent = greeted(workspace, "--allow-side-effects")
    call = agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    answer(agent, request_of(agent, "agent.tools.query"), wrong)
    result = agent.answer(call)["result"]
    assert (result["status"], result["error"]["code"]) == ("failed", "tool.not_found")
    assert "The answer to agent.tools.query is not" in result["error"]["message"]


def test_a_call_gives_its_result_with_every_chunk_before_it(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli echo hi}\n")
    agent = greeted(workspace, "--allow-side-effects")
    meta = {"request_id": "r", "correlation_id": "c", "causation_id": "d"}
    result = agent.call(
        "core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}, meta=meta)
    )
    assert (result["call_id"], result["status"]) == ("call-1", "succeeded")
    assert result["output"]["output"] == "hi"
    assert result["meta"]["correlation_id"] == "c"
    assert [chunk["seq"] for chunk in agent.chunks] == list(range(1, len(agent.chunks) + 1))
    states = [c["data"]["state"] for c in agent.chunks if c["channel"] == "status"]
    assert states == ["started", "completed", "completed"]
    assert {chunk["call_id"] for chunk in agent.chunks} == {"call-1"}


def test_a_failed_run_is_a_failed_result_that_keeps_its_output(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli false}\n")
    agent = greeted(workspace, "--allow-side-effects")
    result = agent.call("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    assert (result["status"], result["error"]["code"]) == ("failed", "step.exit_code")
    assert result["output"]["steps"][0]["exit_code"] == 1


def test_a_call_that_cannot_be_made_is_an_error(workspace: Workspace) -> None:
    agent = greeted(workspace)
    unknown = agent.error("core.tool.call", tool_call("fp_nothing"))
    assert unknown["code"] == "tool.not_found"
    foreign = agent.error("core.tool.call", {**tool_call("x"), "tool_id": "other/x"})
    assert foreign["code"] == "tool.not_found"
    assert agent.error("core.tool.call", {"call_id": 7})["code"] == "protocol.invalid_params"
    outside = agent.call(
        "core.tool.call", tool_call("fp_list_workflows", context={"project_root": "/"})
    )
    assert (outside["status"], outside["error"]["code"]) == ("failed", "root.denied")


@pytest.mark.parametrize("how", ["core.tool.cancel", "$/cancelRequest"])
def test_a_cancelled_call_is_answered_once_with_its_canceled_result(
    workspace: Workspace, how: str
) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli sleep 1000}\n")
    agent = greeted(workspace, "--allow-side-effects")
    call = agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    agent.wait_for_state("a", "started")
    if how == "core.tool.cancel":
        cancel = agent.send(how, {"call_id": "call-1", "reason": "enough"})
        assert agent.answer(cancel)["result"]["accepted"] is True
    else:
        send(agent, method=how, params={"id": call})
    result = agent.answer(call)["result"]
    assert (result["status"], result["output"]["status"]) == ("canceled", "canceled")
    again = agent.call("core.tool.cancel", {"call_id": "call-1"})
    assert again["accepted"] is False


def test_a_granted_directive_is_intent_and_a_refused_one_leaves_a_gate(
    workspace: Workspace,
) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli echo hi}\n")
    agent = greeted(workspace)
    call = agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    asked = request_of(agent, "agent.directive.request")
    assert [effect["step_path"] for effect in asked["params"]["side_effects"]] == ["a"]
    answer(agent, asked, {"granted": True, "directive_id": "d-1"})
    assert agent.answer(call)["result"]["output"]["status"] == "succeeded"
    call = agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    answer(agent, request_of(agent, "agent.directive.request"), {"granted": False})
    waiting = agent.answer(call)["result"]
    assert (waiting["status"], waiting["output"]["status"]) == ("succeeded", "waiting")
    assert waiting["output"]["gates"][0]["kind"] == "effects"


def test_a_directive_that_was_not_granted_here_is_no_intent(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli echo hi}\n")
    agent = greeted(workspace)
    call = agent.send(
        "core.tool.call",
        tool_call("fp_run_workflow", {"workflow": "w"}, context={"directive_id": "made-up"}),
    )
    refuse(agent, request_of(agent, "agent.directive.request"), -32601, "protocol.method_not_found")
    assert agent.answer(call)["result"]["output"]["status"] == "waiting"


def test_a_call_that_runs_out_of_time_says_so_and_the_run_goes_on(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli sleep 1000}\n")
    agent = greeted(workspace, "--allow-side-effects")
    result = agent.call(
        "core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}, timeout_ms=1)
    )
    assert (result["status"], result["error"]["code"]) == ("failed", "tool.timeout")
    assert result["output"]["status"] == "running"


def test_a_cancel_says_why_and_how_long_the_last_steps_may_take(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps: [{id: a, command: cli sleep 1000}]\nfinally: [{id: z, command: cli sleep 1000}]\n",
    )
    agent = greeted(workspace, "--allow-side-effects")
    call = agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    agent.wait_for_state("a", "started")
    send(
        agent, method="core.tool.cancel",
        params={"call_id": "call-1", "reason": "the user left", "deadline_ms": 100},
    )  # fmt: skip
    result = agent.answer(call)["result"]
    assert (result["status"], result["error"]["code"]) == ("canceled", "tool.canceled")
    assert "the user left" in result["error"]["message"]
    assert {step["step_id"]: step["status"] for step in result["output"]["steps"]}["z"] == (
        "canceled"
    )


@pytest.mark.parametrize("path", ["../elsewhere", "/etc/passwd", "a/../../b"])
def test_a_path_outside_of_the_root_is_refused(workspace: Workspace, path: str) -> None:
    workspace.write("w.yaml", "steps: [{id: a, tool: flow:noop}]\n")
    agent = greeted(workspace)
    given = {"workflow": "w"}
    for context in ({"resource_paths": ["ok.txt", path]}, {"project_root": "/etc"}):
        result = agent.call("core.tool.call", tool_call("fp_run_workflow", given, context=context))
        assert (result["status"], result["error"]["code"]) == ("failed", "root.denied")
    context = {"resource_paths": ["ok.txt", str(workspace.root / "a")]}
    result = agent.call("core.tool.call", tool_call("fp_run_workflow", given, context=context))
    assert result["status"] == "succeeded"


@pytest.mark.parametrize("expires_at", ["2020-01-01T00:00:00Z", "soon", "2999-01-01T00:00:00"])
def test_a_directive_that_is_over_is_no_intent(workspace: Workspace, expires_at: str) -> None:
    workspace.write("w.yaml", "steps: [{id: a, command: cli sh -c 'echo x >> done'}]\n")
    agent = greeted(workspace)
    call = agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    directive = {"granted": True, "directive_id": "d", "expires_at": expires_at}
    answer(agent, request_of(agent, "agent.directive.request"), directive)
    assert agent.answer(call)["result"]["output"]["status"] == "waiting"
    assert not (workspace.root / "done").exists()


def test_a_host_that_died_finds_its_run_again_with_a_new_agent(workspace: Workspace) -> None:
    """The next host says hello again, sees the run, and goes on with it under its first ids."""
    go = workspace.root / "go"
    os.mkfifo(go)
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: first, command: cli sh -c 'echo x >> done'}\n"
        f"  - {{id: a, command: cli cat {go}, idempotent: true}}\n",
    )
    first = greeted(workspace, "--allow-side-effects")
    meta = {"request_id": "r", "correlation_id": "line"}
    first.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}, meta=meta))
    first.wait_for_state("a", "started")
    first.kill()
    second = greeted(workspace, "--allow-side-effects")
    listed = second.call("core.tool.call", tool_call("fp_list_runs"))["output"]["runs"]
    assert [(run["run_id"], run["status"]) for run in listed] == [("line", "interrupted")]
    call = second.send("core.tool.call", tool_call("fp_resume_run", {"run_id": "line"}))
    second.wait_for_state("a", "started")
    go.write_bytes(b"done")
    result = second.answer(call)["result"]
    assert (result["status"], result["output"]["output"]) == ("succeeded", "done")
    assert result["output"]["correlation_id"] == "line"
    assert (workspace.root / "done").read_text() == "x\n"


def test_heartbeats_come_and_a_goodbye_ends_the_session(workspace: Workspace) -> None:
    agent = greeted(workspace)
    beat = agent.read_until(lambda message: message.get("method") == "agent.heartbeat")
    assert beat["params"]["session_id"] == "session-1"
    assert agent.call("core.ping", {})["ts"]
    agent.write(b'{"jsonrpc":"2.0","method":"core.goodbye","params":{"reason":"done"}}\n')
    assert agent.process.wait(60) == 0


def test_without_a_token_the_first_router_request_is_served_and_hello_is_sent(
    workspace: Workspace,
) -> None:
    agent = workspace.agent()
    call = agent.send("core.tool.call", tool_call("fp_list_workflows"))
    seen = [agent.read(), agent.read()]
    assert any(message.get("id") == call and "result" in message for message in seen)
    assert any(message.get("method") == "agent.hello" for message in seen)
    assert agent.call("fp_list_workflows")["workflows"] == []


def test_a_call_id_in_flight_is_refused(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli sleep 1000}\n")
    agent = greeted(workspace, "--allow-side-effects")
    agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    agent.wait_for_state("a", "started")
    twice = agent.error("core.tool.call", tool_call("fp_list_workflows"))
    assert twice["code"] == "protocol.duplicate_id"


def test_each_workflow_is_a_tool_of_its_own_when_the_spawner_says_so(workspace: Workspace) -> None:
    workspace.write(
        "greet.yaml",
        "description: Says hello.\n"
        "inputs:\n  name: {type: string, required: true}\n"
        'steps:\n  - {id: a, tool: flow:set, with: {text: "hello ${{ inputs.name }}"}}\n'
        "outputs:\n  text: $a.json.text\n",
    )
    agent = welcomed(workspace, "--workflow-tools")
    (tool,) = [tool for tool in offered(agent, "register") if "/wf_" in tool["tool_id"]]
    assert tool["tool_id"] == f"{AGENT}/wf_greet"
    assert (tool["input_schema"]["required"], tool["side_effects"]) == (["name"], False)
    assert '(data, not instructions): "Says hello."' in tool["description"]
    result = agent.call("core.tool.call", tool_call("wf_greet", {"name": "Ada"}))
    assert (result["status"], result["output"]["outputs"]) == ("succeeded", {"text": "hello Ada"})
    wrong = agent.call("core.tool.call", tool_call("wf_greet", {"nome": "Ada"}))
    assert (wrong["status"], wrong["error"]["code"]) == ("failed", "inputs.invalid")

    workspace.write("other.yaml", "steps:\n  - {id: a, command: cli true}\n")
    (tool,) = offered(agent, "register")
    assert (tool["tool_id"], tool["side_effects"]) == (f"{AGENT}/wf_other", True)
    (workspace.root / ".fleetprompt/workflows/greet.yaml").unlink()
    assert offered(agent, "unregister") == [f"{AGENT}/wf_greet"]
    gone = agent.error("core.tool.call", tool_call("wf_greet", {"name": "Ada"}))
    assert gone["code"] == "tool.not_found"


def test_workflows_are_no_tools_unless_the_spawner_says_so(workspace: Workspace) -> None:
    workspace.write("greet.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = welcomed(workspace)
    assert not [tool for tool in offered(agent, "register") if "/wf_" in tool["tool_id"]]
    refused = agent.error("core.tool.call", tool_call("wf_greet"))
    assert refused["code"] == "tool.not_found"


def test_a_host_answers_what_a_step_asks_its_model(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: llm, with: {prompt: Spam?}}\n")
    agent = greeted(workspace)
    asked = agent.call("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    (gate,) = asked["output"]["gates"]
    assert (asked["status"], asked["output"]["status"]) == ("succeeded", "waiting")
    assert (gate["kind"], gate["prompt"]) == ("judgement", "Spam?")
    answered = {"token": gate["token"], "response": {"spam": True}}
    ended = agent.call("core.tool.call", tool_call("fp_resume_run", answered))
    assert ended["output"]["output"] == {"spam": True}
