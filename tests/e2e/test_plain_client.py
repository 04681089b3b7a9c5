"""What a raw client of ten lines sees."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import Workspace

GREET = """\
name: Greet
inputs:
  who: {type: string, required: true}
outputs:
  said: ${{ steps.say.text }}
steps:
  - id: say
    command: cli printf "hello %s" ${{ inputs.who }}
  - id: shout
    tool: flow:set
    with: {text: "${{ steps.say.text.upper() }}!"}
"""

TRANSCRIPT = Path(__file__).with_name("plain_transcript.ndjson")

_VOLATILE = [
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+Z"), "<time>"),
    (re.compile(r'("(?:duration_ms|active_ms|cpu_ms|max_rss_kb)": )[\d.]+'), r"\1<n>"),
    (re.compile(r'("(?:digest|sha256|plan_digest)": )"[0-9a-f]{64}"'), r"\1<hash>"),
    (re.compile(r"fpg_[\w:.<>-]+"), "<token>"),
]


def masked(message: dict[str, Any]) -> str:
    text = json.dumps(message, sort_keys=True)
    for pattern, name in _VOLATILE:
        text = pattern.sub(name, text)
    return text


def test_list_validate_run_and_cancel_give_the_golden_transcript(workspace: Workspace) -> None:
    """Set `TRANSCRIPT` anew by deleting the file, and read what changed before committing it."""
    workspace.write("greet.yaml", GREET)
    workspace.write("slow.yaml", "steps:\n  - {id: nap, command: cli sleep 600}\n")
    agent = workspace.trusted()
    lines = []

    def exchange(method: str, params: dict[str, Any]) -> None:
        answer = agent.answer(agent.send(method, params))
        lines.append(masked({"send": {"method": method, "params": params}}))
        lines.extend(masked(chunk) for chunk in agent.chunks if chunk["channel"] == "status")
        lines.append(masked(answer))
        agent.chunks.clear()

    exchange("fp_list_workflows", {})
    exchange("fp_validate_workflow", {"workflow": "greet"})
    exchange("fp_describe_workflow", {"workflow": "greet"})
    exchange(
        "fp_run_workflow",
        {"workflow": "greet", "inputs": {"who": "x; rm -rf /"}, "meta": {"stream": True}},
    )
    slow = agent.send("fp_run_workflow", {"workflow": "slow", "meta": {"stream": True}})
    started = agent.wait_for_state("nap", "started")
    cancel = agent.send("fp_cancel_execution", {"run_id": started["run_id"], "reason": "enough"})
    both: dict[int, dict[str, Any]] = {}
    while len(both) < 2:
        message = agent.read_until(lambda message: message.get("id") in (slow, cancel))
        both[message["id"]] = message
    lines += [masked(both[cancel]["result"]["accepted"]), masked(both[slow])]
    text = "\n".join(lines) + "\n"
    if not TRANSCRIPT.exists():
        TRANSCRIPT.write_text(text, encoding="utf-8")
        pytest.fail("there was no golden transcript; it has been written: read it")
    assert text == TRANSCRIPT.read_text(encoding="utf-8")
    assert agent.close() == 0


def test_the_ids_of_a_call_are_echoed_on_every_chunk_and_in_the_result(
    workspace: Workspace,
) -> None:
    workspace.write("greet.yaml", GREET)
    agent = workspace.trusted()
    ids = {"request_id": "req:1", "correlation_id": "line-7", "causation_id": "why_3"}
    result = agent.call(
        "fp_run_workflow",
        {"workflow": "greet", "inputs": {"who": "me"}, "meta": {**ids, "stream": True}},
    )
    assert result["run_id"] == result["correlation_id"] == "line-7"
    assert result["meta"]["request_id"] == "req:1"
    assert [chunk["seq"] for chunk in agent.chunks] == list(range(1, len(agent.chunks) + 1))
    assert {chunk["meta"]["request_id"] for chunk in agent.chunks} == {"req:1"}
    assert {chunk["meta"]["correlation_id"] for chunk in agent.chunks} == {"line-7"}
    assert agent.chunks[-1]["done"] is True
    events = agent.call("fp_get_timeline", {"correlation_id": "line-7"})["events"]
    assert events[0]["causation_id"] == "why_3"
    started = {e["step_path"]: e["event_id"] for e in events if e["type"] == "step.started"}
    for event in events:
        assert (event["request_id"], event["correlation_id"]) == ("req:1", "line-7")
        if event["type"] == "step.succeeded":
            assert event["causation_id"] == started[event["step_path"]]


def test_a_second_run_under_a_correlation_has_an_id_of_its_own(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = workspace.agent()
    params = {"workflow": "w", "meta": {"correlation_id": "line"}}
    first, second = agent.call("fp_run_workflow", params), agent.call("fp_run_workflow", params)
    assert first["run_id"] == "line"
    assert second["run_id"] != "line"
    assert second["correlation_id"] == "line"


@pytest.mark.parametrize(
    ("method", "params", "number", "code"),
    [
        ("nonsense", {}, -32601, "protocol.method_not_found"),
        ("fp_run_workflow", {"workflow": "nowhere"}, -32000, "workflow.not_found"),
        ("fp_run_workflow", {"workflow": "greet"}, -32000, "inputs.invalid"),
        ("fp_run_workflow", {"workflow": "greet", "inputs": {"who": 7}}, -32000, "inputs.invalid"),
        ("fp_run_workflow", {"workflow": "broken"}, -32000, "workflow.invalid"),
        ("fp_run_workflow", {"workflow": "greet", "inptus": {}}, -32602, "tool.invalid_input"),
        ("fp_run_workflow", {"workflow": "greet", "wait_ms": "1"}, -32602, "tool.invalid_input"),
        ("fp_run_workflow", {"workflow": "../../etc/passwd"}, -32000, "workflow.not_found"),
        ("fp_get_run", {"run_id": "nope"}, -32000, "run.not_found"),
        ("fp_resume_run", {"token": "forged", "approve": True}, -32000, "gate.token_invalid"),
        ("fp_list_runs", {"cursor": "rubbish"}, -32602, "tool.invalid_input"),
        ("fp_list_runs", {"meta": {"request_id": "no spaces"}}, -32602, "protocol.invalid_params"),
        ("fp_list_workflows", {"meta": {"stream": True}}, -32602, "tool.invalid_input"),
        ("fp_get_timeline", {"correlation_id": "no spaces"}, -32602, "tool.invalid_input"),
    ],
)
def test_a_bad_request_gets_its_documented_error_and_the_agent_lives_on(
    workspace: Workspace, method: str, params: dict[str, Any], number: int, code: str
) -> None:
    workspace.write("greet.yaml", GREET)
    workspace.write("broken.yaml", "steps:\n  - {id: a, commnad: cli true}\n")
    agent = workspace.agent()
    answer = agent.answer(agent.send(method, params))
    assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (number, code)
    assert "Traceback" not in json.dumps(answer)
    assert agent.call("fp_list_workflows")["workflows"]


def test_bad_json_is_answered_and_the_agent_lives_on(workspace: Workspace) -> None:
    agent = workspace.agent()
    agent.write(b'{"jsonrpc": "2.0", "id": 1, \n')
    answer = agent.read()
    assert (answer["id"], answer["error"]["code"]) == (None, -32700)
    assert agent.call("fp_list_workflows") is not None


def test_a_failing_step_fails_the_run_and_says_where(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: bad, command: cli sh -c 'echo out; echo why >&2; exit 3'}\n"
        "  - {id: next, tool: flow:noop}\n",
    )
    result = workspace.trusted().call("fp_run_workflow", {"workflow": "w"})
    assert (result["ok"], result["status"]) == (False, "failed")
    assert result["error"]["code"] == "step.exit_code"
    assert result["error"]["step_path"] == "bad"
    bad, after = result["steps"]
    assert (bad["exit_code"], bad["stderr_tail"]) == (3, "why\n")
    assert after["status"] == "skipped"


def test_a_call_returns_at_wait_ms_and_the_run_goes_on(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: nap, command: cli cat, stdin: x}\n")
    workspace.write("slow.yaml", "steps:\n  - {id: nap, command: cli sleep 600}\n")
    agent = workspace.trusted()
    result = agent.call("fp_run_workflow", {"workflow": "slow", "wait_ms": 0})
    assert result["status"] == "running"
    assert agent.call("fp_get_run", {"run_id": result["run_id"]})["status"] == "running"
    assert agent.call("fp_cancel_execution", {"run_id": result["run_id"]})["accepted"] is True


def test_a_list_says_what_was_validated_while_the_file_stays(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    assert workspace.command("index").returncode == 0
    agent = workspace.agent()
    (listed,) = agent.call("fp_list_workflows")["workflows"]
    assert listed["status"] == "unvalidated"
    assert agent.call("fp_validate_workflow", {"workflow": "w"})["valid"] is True
    (listed,) = agent.call("fp_list_workflows", {"status": "valid"})["workflows"]
    assert listed["workflow_id"] == "w"
    workspace.write("w.yaml", "steps:\n  - {id: b, tool: flow:noop}\n")
    assert agent.call("fp_list_workflows", {"status": "valid"})["workflows"] == []
