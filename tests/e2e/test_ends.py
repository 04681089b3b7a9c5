"""An agent that ends in the middle of something, whatever it is: in time, with nothing left behind.

What it was in the middle of goes on later, from what is durable.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest
from fleetprompt_testing.router_host import answer, greeted, request_of, tool_call
from fleetprompt_testing.survivors import wait_until_gone

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_testing.workspace import AgentProcess, Workspace

END_S = 5.0
"""From the reason to the exit (protocol.md §1)."""
SLACK_S = 15.0
"""For a machine that has much else to do."""


def mark_of(workspace: Workspace) -> str:
    return f"mark-of-{workspace.root}"


def begin(workspace: Workspace, text: str) -> AgentProcess:
    """An agent with a call of this workflow under way, whose chunks are wanted."""
    workspace.write("w.yaml", f"env: {{MARK: '{mark_of(workspace)}'}}\n{text}")
    agent = workspace.trusted()
    agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    return agent


def silence(workspace: Workspace) -> AgentProcess:
    return workspace.trusted()


def half_a_line(workspace: Workspace) -> AgentProcess:
    agent = workspace.trusted()
    agent.call("fp_list_workflows")
    agent.write(b'{"jsonrpc": "2.0", "id": 1, "method": "fp_run_wor')
    return agent


def half_a_long_message(workspace: Workspace) -> AgentProcess:
    agent = workspace.trusted(env={"FLEETPROMPT_FRAMING": "content-length"})
    agent.write(b"Content-Length: 3000000\r\n\r\n" + b"[" * 100_000)
    return agent


def an_unanswered_hello(workspace: Workspace) -> AgentProcess:
    agent = workspace.trusted(env={"FLEETPROMPT_SESSION_TOKEN": "token"})
    agent.read_until(lambda message: message.get("method") == "agent.hello")
    return agent


def a_step(workspace: Workspace) -> AgentProcess:
    agent = begin(workspace, "steps: [{id: a, command: cli sleep 1000}]\n")
    agent.wait_for_state("a", "started")
    return agent


def a_gate(workspace: Workspace) -> AgentProcess:
    agent = begin(workspace, "steps: [{id: a, approval: required}]\n")
    agent.wait_for_state("a", "waiting")
    return agent


def a_pause(workspace: Workspace) -> AgentProcess:
    agent = begin(
        workspace,
        "steps: [{id: a, command: cli false, retry: {max_attempts: 2, initial: 1h, max: 1h}}]\n",
    )
    agent.wait_for_state("a", "retrying")
    return agent


def the_last_steps(workspace: Workspace) -> AgentProcess:
    agent = begin(
        workspace,
        "steps: [{id: a, command: cli false}]\nfinally: [{id: z, command: cli sleep 1000}]\n",
    )
    agent.wait_for_state("z", "started")
    return agent


def many_calls(workspace: Workspace) -> AgentProcess:
    agent = begin(
        workspace, "steps: [{id: a, for_each: '${{ [1, 2, 3] }}', command: cli sleep 1000}]\n"
    )
    agent.wait_for_state("a[0]", "started")
    for _ in range(300):
        agent.send("fp_run_workflow", {"workflow": "w"})
    return agent


def output_that_nobody_reads(workspace: Workspace) -> AgentProcess:
    agent = begin(
        workspace,
        "steps:\n"
        "  - {id: a, command: cli yes, max_output_bytes: 50000000}\n"
        "  - {id: b, needs: [], command: cli yes no, max_output_bytes: 50000000}\n",
    )
    agent.wait_for_state("a", "started")
    for _ in range(200):
        agent.send("fp_list_workflows", {})
    return agent


def a_tool_of_another_agent(workspace: Workspace) -> AgentProcess:
    workspace.write("w.yaml", "steps: [{id: a, tool: com.example.other/act, with: {x: 1}}]\n")
    agent = greeted(workspace, "--allow-side-effects")
    agent.send("core.tool.call", tool_call("fp_run_workflow", {"workflow": "w"}))
    found = {"tool_id": "com.example.other/act", "name": "act"}
    answer(agent, request_of(agent, "agent.tools.query"), {"tools": [found]})
    request_of(agent, "agent.tool.call")
    return agent


MOMENTS: dict[Callable[[Workspace], AgentProcess], set[str]] = {
    silence: set(),
    half_a_line: set(),
    half_a_long_message: set(),
    an_unanswered_hello: set(),
    a_step: {"interrupted"},
    a_gate: {"waiting"},
    a_pause: {"interrupted"},
    the_last_steps: {"interrupted"},
    many_calls: {"interrupted"},
    output_that_nobody_reads: {"interrupted"},
    a_tool_of_another_agent: {"interrupted", "waiting"},
}
"""How runs that were in the middle of it stand afterwards."""


def end_input(agent: AgentProcess) -> int:
    assert agent.process.stdin is not None
    agent.process.stdin.close()
    return agent.process.wait(END_S + SLACK_S)


def terminate(agent: AgentProcess) -> int:
    agent.process.terminate()
    return agent.process.wait(END_S + SLACK_S)


def kill(agent: AgentProcess) -> int:
    agent.process.kill()
    return agent.process.wait(END_S + SLACK_S)


ENDS: dict[Callable[[AgentProcess], int], int] = {
    end_input: 0,
    terminate: 128 + signal.SIGTERM,
    kill: -signal.SIGKILL,
}
"""With their exit codes."""


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("moment", MOMENTS)
def test_an_end_in_the_middle_of(
    workspace: Workspace,
    moment: Callable[[Workspace], AgentProcess],
    end: Callable[[AgentProcess], int],
) -> None:
    agent = moment(workspace)
    code = end(agent)
    if end is terminate and moment in (silence, half_a_long_message):
        assert code in (128 + signal.SIGTERM, -signal.SIGTERM)  # it may not have begun
    else:
        assert code == ENDS[end], agent.log[-2000:]
    assert "Traceback" not in agent.log
    wait_until_gone(mark_of(workspace))
    after = workspace.agent()
    runs = after.call("fp_list_runs", {"limit": 200})["runs"]
    assert {run["status"] for run in runs} <= MOMENTS[moment]
    assert bool(runs) == bool(MOMENTS[moment])
    for run in runs[:3]:
        assert after.call("fp_replay_run", {"run_id": run["run_id"]})["ok"]
