"""A failed run goes on from the step that failed; what succeeded stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace


def failed(workspace: Workspace) -> tuple[AgentProcess, dict[str, Any]]:
    """An agent and the result of a run whose second step failed; a file named `ok` mends it."""
    root = workspace.root
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: first, command: cli sh -c 'echo first >> {root}/log'}}\n"
        f"  - {{id: second, command: cli test -e {root}/ok, approval: required}}\n"
        f"finally:\n  - {{id: tidy, command: cli sh -c 'echo tidy >> {root}/log'}}\n",
    )
    agent = workspace.trusted()
    asked = agent.call("fp_run_workflow", {"workflow": "w"})
    token = asked["gates"][0]["token"]
    result = agent.call("fp_resume_run", {"token": token, "approve": True})
    assert result["status"] == "failed"
    return agent, result


def test_what_succeeded_and_what_was_approved_stays(workspace: Workspace) -> None:
    agent, result = failed(workspace)
    (workspace.root / "ok").touch()
    again = agent.call("fp_resume_run", {"run_id": result["run_id"], "from_step": "second"})
    assert again["status"] == "succeeded"
    assert (workspace.root / "log").read_text().split() == ["first", "tidy", "tidy"]
    assert {step["step_id"]: step["attempt"] for step in again["steps"]} == {
        "first": 1, "second": 2, "tidy": 1,
    }  # fmt: skip


def test_only_a_failed_run_is_reopened_and_only_from_what_did_not_succeed(
    workspace: Workspace,
) -> None:
    agent, result = failed(workspace)
    run = {"run_id": result["run_id"]}
    assert agent.error("fp_resume_run", {**run, "from_step": "first"})["code"] == "run.conflict"
    assert agent.error("fp_resume_run", {**run, "from_step": "none"})["code"] == "run.conflict"
    (workspace.root / "ok").touch()
    agent.call("fp_resume_run", {**run, "from_step": "second"})
    refused = agent.error("fp_resume_run", {**run, "from_step": "second"})
    assert refused["code"] == "run.not_resumable"
