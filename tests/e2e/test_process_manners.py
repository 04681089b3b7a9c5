"""How the agent ends: whatever happens to it, nothing of a run is lost or left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.survivors import survivors
from fleetprompt_testing.workspace import AgentEndedError

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace

END_S = 5.0
"""From the reason to the exit (protocol.md §1)."""
SLACK_S = 10.0
"""For a machine that has much else to do."""

STUBBORN = """\
trap '' TERM
(trap '' TERM; setsid sh -c 'trap "" TERM; echo $0 >> started; sleep 1000' deep & wait) &
echo shallow >> started
sleep 1000
"""
"""A step that ignores SIGTERM, with a descendant in a session of its own."""


@pytest.fixture
def stubborn(workspace: Workspace) -> AgentProcess:
    """An agent whose run is in the middle of the stubborn step, descendants and all."""
    (workspace.root / "stubborn.sh").write_text(STUBBORN)
    os.mkfifo(workspace.root / "reached")
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: first, command: cli sh -c 'echo x >> done'}\n"
        f"  - {{id: stay, command: cli sh stubborn.sh, env: {{MARK: '{mark_of(workspace)}'}}}}\n",
    )
    agent = workspace.trusted()
    agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    agent.wait_for_state("stay", "started")
    wait_for_lines(workspace.root / "started", 2)
    return agent


def mark_of(workspace: Workspace) -> str:
    """What the environment of every process of the step holds."""
    return f"mark-of-{workspace.root}"


def wait_for_lines(path: Path, count: int) -> None:
    """Wait until the file has so many lines: the processes that write them tell nobody else."""
    for _ in range(3000):
        if path.exists() and path.read_text().count("\n") >= count:
            return
        select.select([], [], [], 0.01)
    pytest.fail(f"{path} has not {count} lines")


def assert_orderly(workspace: Workspace, agent: AgentProcess, *, effects: str = "x\n") -> None:
    """Nothing of the step lives, nothing was printed that is no log, and the run can go on."""
    assert survivors(mark_of(workspace)) == []
    assert "Traceback" not in agent.log
    again = workspace.agent()
    (run,) = again.call("fp_list_runs")["runs"]
    assert run["status"] == "interrupted"
    (gate,) = again.call("fp_resume_run", {"run_id": run["run_id"]})["gates"]
    assert (gate["kind"], gate["step_path"]) == ("unknown_outcome", "stay")
    assert (workspace.root / "done").read_text() == effects


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_runs_and_every_descendant_of_their_steps(
    workspace: Workspace, stubborn: AgentProcess, number: signal.Signals
) -> None:
    stubborn.process.send_signal(number)
    assert stubborn.process.wait(END_S + SLACK_S) == 128 + number
    assert_orderly(workspace, stubborn)


def test_the_end_of_input_does_the_same(workspace: Workspace, stubborn: AgentProcess) -> None:
    assert stubborn.process.stdin is not None
    stubborn.process.stdin.close()
    assert stubborn.process.wait(END_S + SLACK_S) == 0
    assert_orderly(workspace, stubborn)


def test_a_host_that_no_longer_reads_is_an_end_and_no_traceback(
    workspace: Workspace, stubborn: AgentProcess
) -> None:
    assert stubborn.process.stdout is not None
    stubborn.process.stdout.close()
    stubborn.send("fp_list_workflows")
    assert stubborn.process.wait(END_S + SLACK_S) == 0
    assert_orderly(workspace, stubborn)


PARENT = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:])
os.write(2, b"%d\\n" % child.pid)
os.read(int(os.environ["DIE"]), 1)
os._exit(0)
"""
"""Spawns the agent on its own pipes, and dies when it is told to."""


def test_an_agent_whose_parent_has_died_ends_although_its_pipes_are_open(
    workspace: Workspace,
) -> None:
    die_out, die_in = os.pipe()
    to_agent, ours_in = os.pipe()
    ours_out, from_agent = os.pipe()
    command = [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", str(workspace.root)]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *command],
        stdin=to_agent,
        stdout=from_agent,
        stderr=subprocess.PIPE,
        pass_fds=(die_out,),
        env={**os.environ, "FLEETPROMPT_HOME": str(workspace.home), "DIE": str(die_out)},
    )
    for descriptor in (die_out, to_agent, from_agent):
        os.close(descriptor)
    assert parent.stderr is not None
    agent = os.pidfd_open(int(parent.stderr.readline()))
    os.write(ours_in, b'{"jsonrpc":"2.0","id":1,"method":"fp_list_workflows"}\n')
    assert b'"workflows":[]' in os.read(ours_out, 65_536)
    os.write(die_in, b"x")
    assert parent.wait(SLACK_S) == 0
    assert select.select([agent], [], [], END_S + SLACK_S)[0], "the agent lives on"
    for descriptor in (die_in, ours_in, ours_out, agent):
        os.close(descriptor)
    parent.stderr.close()


def test_a_signal_is_heard_while_the_host_reads_nothing(workspace: Workspace) -> None:
    """Requests and output are more than pipes and marks hold; the agent still ends in time."""
    (workspace.root / "talk.sh").write_text("while :; do printf '%4000s\\n' x; done\n")
    workspace.write(
        "w.yaml", "steps:\n  - {id: talk, command: cli sh talk.sh, max_output_bytes: 10000000}\n"
    )
    agent = workspace.trusted()
    agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    agent.wait_for_state("talk", "started")
    before = resident_mb(agent.process.pid)
    for _ in range(400):
        agent.send("fp_list_runs", {"limit": 1})
    assert resident_mb(agent.process.pid) - before < 200
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(END_S + SLACK_S) == 128 + signal.SIGTERM
    assert "Traceback" not in agent.log


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def test_standard_output_is_taken_before_anything_heavy_is_imported(workspace: Workspace) -> None:
    """Whatever a library prints while it is imported goes to standard error."""
    code = (
        "import builtins, sys\n"
        "real, claimed = builtins.__import__, []\n"
        "def watch(name, *rest, **more):\n"
        "    if name.split('.')[0] in HEAVY: print('imported', name, flush=True)\n"
        "    return real(name, *rest, **more)\n"
        "HEAVY = {'asyncio', 'pydantic', 'jsonrpcserver', 'yaml', 'sqlite3', 'structlog'}\n"
        "builtins.__import__ = watch\n"
        "from fleetprompt.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "agent", "--root", str(workspace.root)],
        input=b'{"jsonrpc":"2.0","id":1,"method":"fp_list_workflows"}\n',
        capture_output=True,
        env={**os.environ, "FLEETPROMPT_HOME": str(workspace.home)},
        timeout=60,
    )
    assert b"imported asyncio" in done.stderr
    assert b"imported" not in done.stdout
    assert done.stdout.startswith(b'{"jsonrpc":"2.0"')


@pytest.mark.parametrize("arguments", [["agent", "--root", "/nonexistent"], ["agent", "--odd"]])
def test_an_agent_that_cannot_start_says_why_in_a_sentence(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fleetprompt", *arguments],
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_framing_that_does_not_exist_is_refused_wherever_it_is_asked_for(
    workspace: Workspace,
) -> None:
    for agent in (
        workspace.agent("--framing", "xml"),
        workspace.agent(env={"FLEETPROMPT_FRAMING": "xml"}),
    ):
        with pytest.raises(AgentEndedError):
            agent.read()
        assert agent.process.returncode == 2
    # What the command line says is not asked of the environment.
    agent = workspace.agent("--framing", "newline", env={"FLEETPROMPT_FRAMING": "xml"})
    assert agent.call("fp_list_workflows")["workflows"] == []


def test_a_state_directory_that_cannot_be_used_is_no_traceback(workspace: Workspace) -> None:
    workspace.home.mkdir()
    workspace.home.chmod(0o777)
    agent = workspace.agent("--auto-resume")
    assert agent.process.wait(60) == 2
    assert "state.unsafe" in agent.log
    assert "Traceback" not in agent.log


def test_a_welcomed_agent_says_goodbye_when_it_is_told_to_end(workspace: Workspace) -> None:
    agent = workspace.agent(env={"FLEETPROMPT_SESSION_TOKEN": "token"})

    def answer(method: str, result: dict[str, Any]) -> None:
        import json

        asked = agent.read_until(lambda message: message.get("method") == method)
        reply = {"jsonrpc": "2.0", "id": asked["id"], "result": result}
        agent.write(json.dumps(reply).encode() + b"\n")

    server = {"core_version": "1", "instance_id": "i"}
    answer("agent.hello", {"accepted_version": "1", "session_id": "s", "server": server})
    answer("agent.tools.register", {"registered": []})
    agent.call("core.ping")
    agent.process.send_signal(signal.SIGTERM)
    goodbye = agent.read_until(lambda message: message.get("method") == "core.goodbye")
    assert goodbye["params"] == {"reason": "SIGTERM"}
    assert agent.process.wait(60) == 128 + signal.SIGTERM
