"""Runs that lose their agent: killed at any moment, they go on from what is durable."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from fleetprompt_testing.survivors import survivors, wait_until_gone

if TYPE_CHECKING:
    from pathlib import Path

    from fleetprompt_testing.workspace import AgentProcess, Workspace


def fifo(path: Path) -> Path:
    """A named pipe: a step that reads it runs until the test writes."""
    os.mkfifo(path)
    return path


def release(path: Path) -> None:
    """Let the step that reads the pipe go on."""
    path.write_bytes(b"go\n")


def test_a_killed_run_resumes_without_running_finished_steps_again(workspace: Workspace) -> None:
    done = workspace.root / "done"
    gate = fifo(workspace.root / "gate")
    workspace.write(
        "w.yaml",
        f"steps:\n"
        f"  - {{id: first, command: cli sh -c 'echo x >> {done}; echo one'}}\n"
        f"  - {{id: second, command: cli sh -c 'cat {gate}; echo $0', idempotent: true}}\n"
        f"outputs:\n  both: ${{{{ [steps.first.text, steps.second.text] }}}}\n",
    )
    first = workspace.trusted()
    first.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    run_id = first.wait_for_state("second", "started")["run_id"]
    first.kill()
    second = workspace.agent()
    assert second.call("fp_get_run", {"run_id": run_id})["status"] == "interrupted"
    resumed = second.send("fp_resume_run", {"run_id": run_id})
    release(gate)
    result = second.answer(resumed)["result"]
    assert result["status"] == "succeeded"
    assert result["outputs"] == {"both": ["one", "go\nsh"]}
    assert done.read_text() == "x\n"
    assert [step["attempt"] for step in result["steps"]] == [1, 2]


def test_a_side_effect_in_flight_becomes_a_question(workspace: Workspace) -> None:
    done = workspace.root / "done"
    gate = fifo(workspace.root / "gate")
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: act, command: cli sh -c 'echo x >> {done}; echo acted; cat {gate}'}}\n"
        f"  - {{id: after, tool: flow:noop}}\n",
    )
    run_id = killed_at(workspace.trusted(), "act")
    agent = workspace.trusted()
    waiting = agent.call("fp_resume_run", {"run_id": run_id})
    assert waiting["status"] == "waiting"
    (gate_shown,) = waiting["gates"]
    assert (gate_shown["kind"], gate_shown["step_path"]) == ("unknown_outcome", "act")
    assert done.read_text() == "x\n"
    told = agent.call(
        "fp_resume_run", {"token": gate_shown["token"], "succeed_with": {"seen": True}}
    )
    assert told["status"] == "succeeded"
    assert done.read_text() == "x\n"


def test_a_person_may_have_it_done_again(workspace: Workspace) -> None:
    done = workspace.root / "done"
    gate = fifo(workspace.root / "gate")
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: act, command: cli sh -c 'echo x >> {done}; echo acted; cat {gate}'}}\n",
    )
    run_id = killed_at(workspace.trusted(), "act")
    agent = workspace.agent()
    (gate_shown,) = agent.call("fp_resume_run", {"run_id": run_id})["gates"]
    again = agent.send("fp_resume_run", {"token": gate_shown["token"], "retry": True})
    release(gate)
    assert agent.answer(again)["result"]["status"] == "succeeded"
    assert done.read_text() == "x\nx\n"


def killed_at(agent: AgentProcess, step: str) -> str:
    """The run whose agent was killed while the step ran, after it has printed something."""
    agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    run_id: str = agent.wait_for_state(step, "started")["run_id"]
    agent.read_until(lambda message: message.get("params", {}).get("channel") == "stdout")
    agent.kill()
    return run_id


def test_nothing_that_a_step_started_outlives_a_killed_agent(workspace: Workspace) -> None:
    mark = f"FP_MARK={workspace.root}"
    started = fifo(workspace.root / "started")
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - id: daemon\n"
        "    tool: cli:sh\n"
        "    env: {FP_MARK: '" + str(workspace.root) + "'}\n"
        "    with:\n"
        "      args:\n"
        "        - -c\n"
        "        - |\n"
        "          trap '' TERM\n"
        f"          (setsid sh -c '(sleep 1000 & echo up > {started}; sleep 1000)' &)\n"
        "          sleep 1000\n",
    )
    agent = workspace.trusted()
    agent.send("fp_run_workflow", {"workflow": "w"})
    assert started.read_text() == "up\n"
    assert len(survivors(mark)) >= 3
    agent.process.send_signal(signal.SIGKILL)
    agent.process.wait()
    wait_until_gone(mark)


def test_the_end_of_input_leaves_a_run_interrupted_and_nothing_behind(
    workspace: Workspace,
) -> None:
    mark = f"FP_MARK={workspace.root}"
    workspace.write(
        "w.yaml",
        "env: {FP_MARK: '" + str(workspace.root) + "'}\n"
        "steps:\n  - {id: act, command: cli sleep 1000, idempotent: true}\n",
    )
    agent = workspace.trusted()
    agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    run_id = agent.wait_for_state("act", "started")["run_id"]
    assert agent.close() == 0
    assert survivors(mark) == []
    events = workspace.agent().call("fp_get_timeline", {"run_id": run_id})["events"]
    assert events[-1]["type"] == "step.interrupted"


def test_sigterm_answers_the_call_and_leaves_the_run_resumable(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: act, command: cli sleep 1000, idempotent: true}\n")
    agent = workspace.trusted()
    call = agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    agent.wait_for_state("act", "started")
    agent.process.terminate()
    assert agent.answer(call)["result"]["status"] == "interrupted"
    assert agent.process.wait(60) == 128 + signal.SIGTERM


def test_a_run_that_another_agent_drives_cannot_be_taken(workspace: Workspace) -> None:
    gate = fifo(workspace.root / "gate")
    workspace.write("w.yaml", f"steps:\n  - {{id: act, command: cli cat {gate}}}\n")
    owner, other = workspace.trusted(), workspace.agent()
    call = owner.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    run_id = owner.wait_for_state("act", "started")["run_id"]
    assert other.call("fp_get_run", {"run_id": run_id})["status"] == "running"
    following = other.send("fp_resume_run", {"run_id": run_id})
    release(gate)
    assert owner.answer(call)["result"]["status"] == "succeeded"
    assert other.answer(following)["result"]["status"] == "succeeded"


def test_a_cancel_from_another_process_reaches_the_owner(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: act, command: cli sleep 1000}\n")
    owner, other = workspace.trusted(), workspace.agent()
    call = owner.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    run_id = owner.wait_for_state("act", "started")["run_id"]
    assert other.call("fp_cancel_execution", {"run_id": run_id})["accepted"] is True
    assert owner.answer(call)["result"]["status"] == "canceled"
    assert other.call("fp_cancel_execution", {"run_id": run_id}) | {"meta": 0} == {
        "run_id": run_id, "accepted": False, "status": "canceled", "meta": 0,
    }  # fmt: skip
