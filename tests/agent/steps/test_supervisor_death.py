"""Whoever dies, by SIGKILL too, takes the steps along; and the rest learns of it."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.agent.steps.conftest import Roll

PATIENCE_S = 30.0

AGENT = """
import asyncio, ctypes, json, os, sys
from fleetprompt_agent.steps.supervisor import start_supervisor
supervisor = start_supervisor()
from pathlib import Path
from fleetprompt_agent.language.plan import Output
from fleetprompt_agent.steps.cli import CliRunner
from fleetprompt_agent.steps.contract import StepRequest
from fleetprompt_agent.steps.spawner import Spawner
from fleetprompt_protocol.ids import Correlation

def say(**what):
    sys.stdout.write(json.dumps(what) + "\\n")
    sys.stdout.flush()

async def step(runner, name, argv):
    request = StepRequest(
        "run", name, name, 1, "cli", "cli:" + argv[0],
        {"argv": argv, "cwd": None, "env": {}, "stdin": None}, Path.cwd(), None, Output(),
        (0,), 1000, "run/" + name, Correlation("r", "c"))
    outcome = await runner.run(request, lambda *_: None)
    code = outcome.error and outcome.error["code"]
    say(step=name, code=code, effect=outcome.effect, exit_code=outcome.result.get("exit_code"))

async def main():
    runner = CliRunner(Spawner(supervisor))
    say(supervisor=supervisor.pid, dumpable=ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
    loop = asyncio.get_running_loop()
    tasks = []
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        name, *argv = json.loads(line)
        tasks.append(asyncio.create_task(step(runner, name, argv)))
    if "wait" in sys.argv:
        await asyncio.gather(*tasks)
    os._exit(0)

asyncio.run(main())
"""

DAEMON = """
import os, signal, sys, time
os.open(sys.argv[1], os.O_WRONLY)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(3, b"daemon\\n")
        time.sleep(1000)
    os._exit(0)
os.wait()
os.write(3, b"keeper %d\\n" % os.getppid())
time.sleep(1000)
"""
"""Two processes deaf to SIGTERM, one of them a daemon in a session of its own."""


class Agent:
    """A process that runs steps as the agent does."""

    def __init__(self, cwd: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", AGENT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            bufsize=0,
        )
        self._data = b""
        first = self.hear()
        self.supervisor_pid: int = first["supervisor"]
        self.dumpable: int = first["dumpable"]

    def start(self, name: str, *argv: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, *argv]).encode() + b"\n")

    def start_daemon(self, roll: Roll) -> int:
        """Starts two stubborn processes; gives the pid of their keeper."""
        self.start("daemon", sys.executable, "-I", "-S", "-c", DAEMON, str(roll.path))
        lines = {roll.read_line(), roll.read_line()}
        lines.discard("daemon")
        return int(lines.pop().removeprefix("keeper "))

    def hear(self) -> dict[str, Any]:
        """The next thing that the agent says."""
        while b"\n" not in self._data:
            chunk = self._read(self.process.stdout)
            assert chunk, self._read(self.process.stderr).decode()
            self._data += chunk
        line, _, self._data = self._data.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said

    def wait_for_silence(self) -> None:
        """Returns when nobody holds the agent's stdout and stderr: a host sees its end."""
        for stream in (self.process.stdout, self.process.stderr):
            while self._read(stream):
                pass

    def end(self) -> None:
        self.process.kill()
        with self.process:  # closes the pipes and waits
            pass

    def _read(self, stream: Any) -> bytes:
        ready, _, _ = select.select([stream], [], [], PATIENCE_S)
        assert ready, "the agent is silent"
        return os.read(stream.fileno(), 65536)


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path)
    yield agent
    agent.end()


def _wait_for_death(pid: int) -> None:
    """Returns when a process that may not be our child is gone or a zombie."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([handle], [], [], PATIENCE_S)
        assert ready, f"process {pid} is still alive"
    finally:
        os.close(handle)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_nothing_outlives_the_agent(agent: Agent, roll: Roll, signum: int) -> None:
    keeper = agent.start_daemon(roll)

    agent.process.send_signal(signum)

    roll.wait_for_end()
    agent.wait_for_silence()
    _wait_for_death(keeper)
    _wait_for_death(agent.supervisor_pid)


def test_guards_that_were_held_up_still_end_everything(agent: Agent, roll: Roll) -> None:
    keeper = agent.start_daemon(roll)
    os.kill(keeper, signal.SIGSTOP)
    os.kill(agent.supervisor_pid, signal.SIGSTOP)

    agent.process.kill()

    roll.wait_for_end()
    _wait_for_death(keeper)
    _wait_for_death(agent.supervisor_pid)


def test_nothing_outlives_an_agent_that_exits(agent: Agent, roll: Roll) -> None:
    keeper = agent.start_daemon(roll)

    assert agent.process.stdin is not None
    agent.process.stdin.close()

    roll.wait_for_end()
    _wait_for_death(keeper)
    _wait_for_death(agent.supervisor_pid)
    assert agent.process.wait(PATIENCE_S) == 0


def test_a_killed_keeper_takes_its_step_along(agent: Agent, roll: Roll) -> None:
    keeper = agent.start_daemon(roll)

    os.kill(keeper, signal.SIGKILL)

    said = agent.hear()
    assert (said["code"], said["effect"]) == ("supervisor.lost", "unknown")
    roll.wait_for_end()
    agent.start("next", "true")
    assert agent.hear() == {"step": "next", "code": None, "effect": "done", "exit_code": 0}


def test_without_a_supervisor_steps_go_on_but_none_starts(
    agent: Agent, roll: Roll, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "go")
    script = f"exec 3>{roll.path}; echo here >&3; read code < go; exit $code"
    agent.start("long", "sh", "-c", script)
    assert roll.read_line() == "here"

    os.kill(agent.supervisor_pid, signal.SIGKILL)
    _wait_for_death(agent.supervisor_pid)
    agent.start("next", "true")

    said = agent.hear()
    assert (said["step"], said["code"], said["effect"]) == ("next", "supervisor.lost", "none")
    (tmp_path / "go").write_text("3\n")
    said = agent.hear()
    assert (said["step"], said["code"], said["exit_code"]) == ("long", "step.exit_code", 3)


def test_nothing_outlives_supervisor_and_agent(agent: Agent, roll: Roll) -> None:
    keeper = agent.start_daemon(roll)

    os.kill(agent.supervisor_pid, signal.SIGKILL)
    agent.process.kill()

    roll.wait_for_end()
    _wait_for_death(keeper)


@pytest.mark.parametrize("keeper_first", [True, False])
def test_nothing_outlives_supervisor_and_keeper(
    agent: Agent, roll: Roll, keeper_first: bool
) -> None:
    """The agent, a subreaper as well, inherits the step's processes and kills them."""
    keeper = agent.start_daemon(roll)

    pids = [keeper, agent.supervisor_pid] if keeper_first else [agent.supervisor_pid, keeper]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    roll.wait_for_end()
    said = agent.hear()
    assert said["effect"] == "unknown"


def test_nothing_outlives_keeper_and_agent(agent: Agent, roll: Roll) -> None:
    keeper = agent.start_daemon(roll)

    os.kill(keeper, signal.SIGKILL)
    agent.process.kill()

    roll.wait_for_end()
    _wait_for_death(agent.supervisor_pid)


HARMLESS = [
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGUSR1,
    signal.SIGUSR2, signal.SIGALRM, signal.SIGXCPU, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
]  # fmt: skip


def test_signals_that_end_other_programs_do_not_end_the_guards(agent: Agent, roll: Roll) -> None:
    keeper = agent.start_daemon(roll)

    for signum in HARMLESS:
        os.kill(agent.supervisor_pid, signum)
        os.kill(keeper, signum)

    agent.start("next", "true")
    assert agent.hear()["code"] is None
    assert not roll.is_empty


def test_the_agent_cannot_be_read_by_its_steps(agent: Agent) -> None:
    assert agent.dumpable == 0


def test_the_guards_show_names_of_their_own(agent: Agent, roll: Roll) -> None:
    """So that `pkill -f fleetprompt` ends the agent but not those who clean up after it."""
    keeper = agent.start_daemon(roll)

    for pid, name in ((agent.supervisor_pid, "fp-supervisor"), (keeper, "fp-keeper")):
        assert Path(f"/proc/{pid}/comm").read_text() == f"{name}\n"
        assert Path(f"/proc/{pid}/cmdline").read_bytes().strip(b"\0") == name.encode()


def test_the_guards_hold_nothing_of_the_agents(agent: Agent, roll: Roll) -> None:
    """Their null device, socket, wake-up pipe and the root directory; no pipe of the host's."""
    keeper = agent.start_daemon(roll)
    host_pipes = {Path(f"/proc/{agent.process.pid}/fd/{fd}").readlink() for fd in (0, 1, 2)}

    for pid in (agent.supervisor_pid, keeper):
        held = {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()}
        assert not held & host_pipes
        assert len([link for link in held if str(link).startswith("socket:")]) == 1
