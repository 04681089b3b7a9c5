"""A cancel in every phase of a run: it ends, once, and leaves nothing behind."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace


def begin(agent: AgentProcess) -> int:
    return agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})


def cancelled(agent: AgentProcess, call: int, run_id: str) -> dict[str, Any]:
    """The result of the call, after a cancel by the run's id was accepted."""
    cancel = agent.send("fp_cancel_execution", {"run_id": run_id, "reason": "enough"})
    answers: dict[int, Any] = {}
    while len(answers) < 2:
        message = agent.read_until(lambda message: message.get("id") in (call, cancel))
        answers[message["id"]] = message["result"]
    assert answers[cancel]["accepted"] is True
    result: dict[str, Any] = answers[call]
    return result


def statuses(result: dict[str, Any]) -> dict[str, str]:
    return {step["step_path"]: step["status"] for step in result["steps"]}


@pytest.mark.parametrize(
    "program",
    [
        "sleep 1000",
        "trap '' TERM; sleep 1000",
        "setsid sh -c 'trap \"\" TERM; sleep 1000' & sleep 1000",
    ],
    ids=["obeys", "ignores SIGTERM", "leaves its session"],
)
def test_while_a_step_runs(workspace: Workspace, program: str) -> None:
    pids = workspace.root / "pids"
    workspace.write(
        "w.yaml",
        "steps:\n  - id: a\n    tool: cli:sh\n    with:\n      args:\n        - -c\n        - |\n"
        f"          echo $$ > {pids}; echo ready\n          {program}\n"
        "  - {id: b, command: cli true}\n",
    )
    agent = workspace.trusted()
    call = begin(agent)
    run_id = agent.wait_for_state("a", "started")["run_id"]
    agent.read_until(lambda message: message.get("params", {}).get("channel") == "stdout")
    result = cancelled(agent, call, run_id)
    assert (result["status"], result["error"]["code"]) == ("canceled", "tool.canceled")
    assert statuses(result) == {"a": "canceled", "b": "canceled"}
    with pytest.raises(ProcessLookupError):
        os.kill(int(pids.read_text()), 0)


def test_in_the_pause_before_a_retry(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n  - id: a\n    command: cli false\n"
        "    retry: {max_attempts: 3, initial: 60s, max: 60s}\n",
    )
    agent = workspace.trusted()
    call = begin(agent)
    run_id = agent.wait_for_state("a", "retrying")["run_id"]
    assert cancelled(agent, call, run_id)["status"] == "canceled"


def test_at_a_gate(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli true, approval: required}\n")
    agent = workspace.trusted()
    waiting = agent.call("fp_run_workflow", {"workflow": "w"})
    token = waiting["gates"][0]["token"]
    done = agent.call("fp_cancel_execution", {"run_id": waiting["run_id"]})
    assert (done["accepted"], done["status"]) == (True, "canceled")
    refused = agent.error("fp_resume_run", {"token": token, "approve": True})
    assert refused["code"] == "gate.closed"


def test_in_finally_which_goes_on_until_a_second_cancel(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: a, command: cli true}\n"
        "finally:\n  - {id: tidy, command: cli sleep 1000}\n",
    )
    agent = workspace.trusted()
    call = begin(agent)
    run_id = agent.wait_for_state("tidy", "started")["run_id"]
    first = agent.call("fp_cancel_execution", {"run_id": run_id})
    assert (first["accepted"], first["status"]) == (True, "running")
    result = cancelled(agent, call, run_id)
    assert result["status"] == "canceled"
    assert statuses(result) == {"a": "succeeded", "tidy": "canceled"}


def test_after_the_end(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = workspace.trusted()
    done = agent.call("fp_run_workflow", {"workflow": "w"})
    late = agent.call("fp_cancel_execution", {"run_id": done["run_id"]})
    assert (late["accepted"], late["status"]) == (False, "succeeded")


def test_an_interrupted_run_by_an_agent_that_never_drove_it(workspace: Workspace) -> None:
    log = workspace.root / "log"
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: a, command: cli sleep 1000}\n"
        f"finally:\n  - {{id: tidy, command: cli sh -c 'echo tidy >> {log}'}}\n",
    )
    first = workspace.trusted()
    begin(first)
    run_id = first.wait_for_state("a", "started")["run_id"]
    first.kill()
    second = workspace.agent()
    following = second.send("fp_cancel_execution", {"run_id": run_id})
    assert second.answer(following)["result"]["accepted"] is True
    ended = second.call("fp_resume_run", {"run_id": run_id})
    assert ended["status"] == "canceled"
    assert log.read_text() == "tidy\n"
