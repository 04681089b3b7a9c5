"""Runs of a concurrency group: one at a time, per project."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace


def write(workspace: Workspace, on_conflict: str) -> None:
    gate = workspace.root / "gate"
    os.mkfifo(gate)
    workspace.write(
        "w.yaml",
        f"concurrency: {{group: prod, on_conflict: {on_conflict}}}\n"
        f"steps:\n  - {{id: act, command: cli cat {gate}}}\n",
    )


def begin(agent: AgentProcess) -> tuple[int, str]:
    """A call whose run has begun to act."""
    call = agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    return call, agent.wait_for_state("act", "started")["run_id"]


def release(workspace: Workspace) -> None:
    (workspace.root / "gate").write_text("go\n")


def test_the_second_waits_for_the_end_of_the_first_of_another_agent(workspace: Workspace) -> None:
    write(workspace, "wait")
    first, second = workspace.trusted(), workspace.trusted()
    call, _ = begin(first)
    queued = second.call("fp_run_workflow", {"workflow": "w", "wait_ms": 50})
    assert (queued["status"], queued["steps"][0]["status"]) == ("pending", "pending")
    following = second.send("fp_resume_run", {"run_id": queued["run_id"]})
    release(workspace)
    assert first.answer(call)["result"]["status"] == "succeeded"
    release(workspace)
    assert second.answer(following)["result"]["status"] == "succeeded"


def test_the_second_waits_for_the_end_of_the_first_of_the_same_agent(workspace: Workspace) -> None:
    write(workspace, "wait")
    agent = workspace.trusted()
    call, _ = begin(agent)
    queued = agent.call("fp_run_workflow", {"workflow": "w", "wait_ms": 0})
    assert queued["status"] == "pending"
    release(workspace)
    assert agent.answer(call)["result"]["status"] == "succeeded"
    following = agent.send("fp_resume_run", {"run_id": queued["run_id"]})
    release(workspace)
    assert agent.answer(following)["result"]["status"] == "succeeded"


def test_the_second_is_refused(workspace: Workspace) -> None:
    write(workspace, "refuse")
    first, second = workspace.trusted(), workspace.trusted()
    call, run_id = begin(first)
    refused = second.error("fp_run_workflow", {"workflow": "w"})
    assert (refused["code"], refused["details"]["run_id"]) == ("run.conflict", run_id)
    release(workspace)
    assert first.answer(call)["result"]["status"] == "succeeded"
    again, _ = begin(second)
    release(workspace)
    assert second.answer(again)["result"]["status"] == "succeeded"


def test_the_second_replaces_the_first(workspace: Workspace) -> None:
    write(workspace, "cancel_running")
    first, second = workspace.trusted(), workspace.trusted()
    call, _ = begin(first)
    replacing, _ = begin(second)
    assert first.answer(call)["result"]["status"] == "canceled"
    release(workspace)
    assert second.answer(replacing)["result"]["status"] == "succeeded"


def test_a_run_that_nobody_drives_holds_the_next_one_up_and_is_named(workspace: Workspace) -> None:
    write(workspace, "wait")
    first, second = workspace.trusted(), workspace.trusted()
    _, before = begin(first)
    first.kill()
    held_up = second.call("fp_run_workflow", {"workflow": "w"})
    assert held_up["status"] == "pending"
    assert held_up["waits_for"] == {"run_id": before, "status": "interrupted"}
    following = second.send("fp_resume_run", {"run_id": held_up["run_id"], "wait_ms": 600_000})
    assert second.answer(following)["result"]["waits_for"]["run_id"] == before
    assert second.call("fp_cancel_execution", {"run_id": before})["accepted"] is True
    following = second.send("fp_resume_run", {"run_id": held_up["run_id"]})
    release(workspace)
    assert second.answer(following)["result"]["status"] == "succeeded"


def test_a_run_that_nobody_drives_is_named_to_one_that_does_not_wait(workspace: Workspace) -> None:
    write(workspace, "refuse")
    first, second = workspace.trusted(), workspace.trusted()
    _, before = begin(first)
    first.kill()
    refused = second.error("fp_run_workflow", {"workflow": "w"})
    assert refused["code"] == "run.conflict"
    assert refused["details"] == {"run_id": before, "status": "interrupted"}


def test_a_queued_run_can_be_cancelled(workspace: Workspace) -> None:
    write(workspace, "wait")
    agent = workspace.trusted()
    call, _ = begin(agent)
    queued = agent.call("fp_run_workflow", {"workflow": "w", "wait_ms": 0})
    assert agent.call("fp_cancel_execution", {"run_id": queued["run_id"]})["accepted"] is True
    release(workspace)
    assert agent.answer(call)["result"]["status"] == "succeeded"
