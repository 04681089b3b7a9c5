"""A host with several agents: a workflow's steps call tools of another one through it."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import fleetprompt_testing.reviewer_agent
import pytest

from fleetprompt.agent_process import AgentProcess, agent_command
from fleetprompt.client import Client
from fleetprompt.router import Router
from fleetprompt.session import CallOptions, Session
from fleetprompt_protocol.errors import FleetPromptError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from fleetprompt_testing.workspace import Workspace

    from fleetprompt.results import RunResult
    from fleetprompt.session import ToolOutcome

REVIEWER = Path(fleetprompt_testing.reviewer_agent.__file__)


def reviewer(name: str = "reviewer") -> list[str]:
    """The command line of the agent `com.example.<name>`."""
    return [sys.executable, "-P", str(REVIEWER), name]


def run(workspace: Workspace, text: str) -> RunResult:
    """The run of a workflow with this text, under a host that has the reviewer too."""
    workspace.write("w.yaml", text)
    environ = {**os.environ, "FLEETPROMPT_HOME": str(workspace.home)}

    async def go() -> RunResult:
        client = Client(
            workspace.root, environ=environ, agents=[reviewer()], allow_side_effects=True
        )
        async with client:
            return await client.run("w")

    return asyncio.run(go())


def test_a_workflow_uses_the_tool_of_another_agent(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n"
        "  - {id: ask, command: com.example.reviewer/echo depth:=2}\n"
        "outputs:\n  given: ${{ steps.ask.json.given }}\n"
        "  line: ${{ steps.ask.json.meta.correlation_id }}\n",
    )
    assert result.outputs == {"given": {"depth": 2}, "line": result.correlation_id}


def test_an_agent_that_ends_in_the_middle_leaves_a_question(workspace: Workspace) -> None:
    result = run(workspace, "steps:\n  - {id: ask, tool: com.example.reviewer/exit}\n")
    assert result.status == "waiting"
    assert [gate.kind for gate in result.gates] == ["unknown_outcome"]


def test_a_tool_that_no_agent_has_fails_the_step_without_an_effect(workspace: Workspace) -> None:
    result = run(workspace, "steps:\n  - {id: ask, tool: com.example.reviewer/nothing}\n")
    assert (result.status, result.error and result.error.code) == ("failed", "tool.not_found")


def test_an_agent_that_was_brought_in_cannot_call_back(workspace: Workspace) -> None:
    ask = "{tool: com.fleetprompt.core/fp_list_runs}"
    result = run(workspace, f"steps:\n  - {{id: a, tool: com.example.reviewer/ask, with: {ask}}}\n")
    assert (result.status, result.error and result.error.code) == ("failed", "tool.denied")


def at_terminal(workspace: Workspace, *words: str) -> subprocess.CompletedProcess[str]:
    return workspace.command(*words, "--json")


def test_the_command_line_brings_other_agents_in(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: ask, command: com.example.reviewer/echo depth:=2}\n"
        "outputs:\n  given: ${{ steps.ask.json.given }}\n",
    )
    agent = ("--agent", shlex.join(reviewer()))
    assert at_terminal(workspace, "validate", "w", *agent).returncode == 0
    assert at_terminal(workspace, "plan", "w", *agent).returncode == 0
    alone = at_terminal(workspace, "run", "w", "--allow-side-effects")
    assert (alone.returncode, json.loads(alone.stdout)["error"]["code"]) == (1, "tool.not_found")
    result = at_terminal(workspace, "run", "w", "--allow-side-effects", *agent)
    assert json.loads(result.stdout)["outputs"] == {"given": {"depth": 2}}
    again = at_terminal(workspace, "run", "w", "--allow-side-effects", "--detach", *agent)
    followed = at_terminal(workspace, "resume", json.loads(again.stdout)["run_id"])
    assert json.loads(followed.stdout)["outputs"] == {"given": {"depth": 2}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reviewer 'a", "Close the quotes."),
        (" ", "needs the command line of an agent"),
        ("no-such-program --stdio", "`no-such-program` cannot be started"),
        ("true", "`true` cannot be used. It ended with exit code 0 before it was ready."),
    ],
)
def test_an_agent_that_cannot_be_brought_in_is_named(
    workspace: Workspace, text: str, told: str
) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    result = at_terminal(workspace, "run", "w", "--agent", text)
    assert result.returncode != 0
    assert told in json.loads(result.stdout)["error"]["message"], result


class Host:
    """Two agents behind one router."""

    def __init__(self, permit: Callable[[str, str], bool] = lambda _caller, _tool: True) -> None:
        self.router = Router(permit)
        self.processes: list[AgentProcess] = []
        self.sessions: list[Session] = []

    async def __aenter__(self) -> Self:
        for name in ("one", "two"):
            await self.attach(name)
        return self

    async def attach(self, name: str) -> Session:
        process = AgentProcess(reviewer(name), environ=os.environ)
        self.processes.append(process)
        self.sessions.append(Session(process.transport, process.token, router=self.router))
        await self.sessions[-1].open()
        return self.sessions[-1]

    async def __aexit__(self, *_: object) -> None:
        for session, process in zip(self.sessions, self.processes, strict=True):
            await session.close()
            await process.end()

    async def ask(self, tool: str, given: Any = None) -> ToolOutcome:
        """What the first agent gets when it calls the tool."""
        request = {"tool": tool, "with": given or {}}
        return await self.sessions[0].call("ask", request, CallOptions())


async def asked(tool: str, given: Any = None) -> ToolOutcome:
    async with Host() as host:
        return await host.ask(tool, given)


def test_an_agent_is_offered_the_tools_of_the_others() -> None:
    answer = asyncio.run(asked("com.example.two/echo", {"a": 1})).output
    assert (answer["status"], answer["output"]["given"]) == ("succeeded", {"a": 1})


def test_a_failure_of_the_other_agent_is_passed_on_as_a_result() -> None:
    answer = asyncio.run(asked("com.example.two/fail")).output
    assert (answer["status"], answer["error"]["code"]) == ("failed", "tool.failed")


@pytest.mark.parametrize(
    ("tool", "code"),
    [("com.example.one/echo", "tool.not_found"), ("com.example.three/echo", "tool.not_found")],
)
def test_its_own_tools_and_those_of_nobody_are_not_found(tool: str, code: str) -> None:
    with pytest.raises(FleetPromptError) as caught:
        asyncio.run(asked(tool))
    assert caught.value.code == code


def test_agents_that_call_each_other_in_a_circle_are_stopped() -> None:
    innermost: dict[str, Any] = {"tool": "com.example.two/echo"}
    call = innermost
    for number in range(9):
        call = {"tool": f"com.example.{('two', 'one')[number % 2]}/ask", "with": call}

    async def go() -> ToolOutcome:
        async with Host() as host:
            return await host.sessions[0].call("ask", call, CallOptions())

    with pytest.raises(FleetPromptError) as caught:
        asyncio.run(go())
    assert caught.value.code == "tool.denied"


def test_a_second_agent_with_the_same_id_is_not_welcome() -> None:
    async def go() -> None:
        async with Host() as host:
            await host.attach("two")

    with pytest.raises(FleetPromptError) as caught:
        asyncio.run(go())
    assert caught.value.code == "protocol.unauthorized"


def test_a_rule_of_the_host_keeps_agents_apart() -> None:
    async def denied() -> ToolOutcome:
        async with Host(lambda caller, _tool: caller != "com.example.one") as host:
            return await host.ask("com.example.two/echo")

    with pytest.raises(FleetPromptError) as caught:
        asyncio.run(denied())
    assert caught.value.code == "tool.denied"


def test_a_call_is_streamed_and_cancelled_through_the_host(workspace: Workspace) -> None:
    """The chunk says that the other agent has the call; then the run is cancelled."""
    workspace.write("w.yaml", "steps:\n  - {id: ask, tool: com.example.two/wait}\n")
    environ = {**os.environ, "FLEETPROMPT_HOME": str(workspace.home)}
    command = agent_command(workspace.root, allow_side_effects=True)

    async def go() -> ToolOutcome:
        async with Host() as host:
            process = AgentProcess(command, environ=environ)
            session = Session(process.transport, process.token, router=host.router)
            host.processes.append(process)
            host.sessions.append(session)
            await session.open()

            def on_chunk(chunk: dict[str, Any]) -> None:
                if chunk["channel"] == "stdout":
                    assert chunk["data"] == {"text": "waiting", "step_path": "ask"}
                    session.cancel_call("mine", "enough")

            options = CallOptions(call_id="mine")
            return await session.call("fp_run_workflow", {"workflow": "w"}, options, on_chunk)

    outcome = asyncio.run(go())
    assert (outcome.status, outcome.output["status"]) == ("canceled", "canceled")
    assert [step["status"] for step in outcome.output["steps"]] == ["canceled"]
