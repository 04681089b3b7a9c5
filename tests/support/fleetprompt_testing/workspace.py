"""A project on disk, and agents that are real subprocesses spoken to in plain JSON-RPC."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WAIT_S = 60.0
"""How long a test waits for one message: generous, since tests share the machine."""


class AgentEndedError(AssertionError):
    """The agent ended where a message of it was waited for."""


class AgentProcess:
    """`fleetprompt agent` as any host would spawn it: a pipe in, a pipe out."""

    def __init__(
        self,
        root: Path,
        home: Path,
        *flags: str,
        env: dict[str, str] | None = None,
        program: tuple[str, ...] = ("-m", "fleetprompt", "agent"),
    ) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-P", *program, "--root", str(root), *flags],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "FLEETPROMPT_HOME": str(home), **(env or {})},
        )
        self.next_id = 0
        self.chunks: list[dict[str, Any]] = []
        self.other: list[dict[str, Any]] = []
        self._stderr: list[bytes] = []
        self._drain = threading.Thread(target=self._read_stderr, daemon=True)
        self._drain.start()

    def _read_stderr(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._stderr.append(line)

    @property
    def log(self) -> str:
        """What it has written to stderr so far."""
        return b"".join(self._stderr).decode()

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(data)
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AgentEndedError(f"the agent ended: {self.process.wait()}\n{self.log}") from None

    def send(self, method: str, params: Any = None, **fields: Any) -> int:
        """Send a request; gives its id."""
        self.next_id += 1
        message = {"jsonrpc": "2.0", "id": self.next_id, "method": method, **fields}
        if params is not None:
            message["params"] = params
        self.write(json.dumps(message).encode() + b"\n")
        return self.next_id

    def read(self) -> dict[str, Any]:
        """The next message."""
        assert self.process.stdout is not None
        timer = threading.Timer(WAIT_S, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if not line:
            raise AgentEndedError(f"the agent ended: {self.process.wait()}\n{self.log}")
        message: dict[str, Any] = json.loads(line)
        return message

    def read_until(self, done: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first message that fulfils the condition; chunks before it are kept."""
        while True:
            message = self.read()
            if message.get("method") == "agent.tool.stream":
                self.chunks.append(message["params"])
            elif "method" in message:
                self.other.append(message)
            if done(message):
                return message

    def answer(self, request_id: int) -> dict[str, Any]:
        """The answer to a request."""
        return self.read_until(lambda message: message.get("id") == request_id)

    def call(self, method: str, params: Any = None) -> Any:
        """The result of a request."""
        answer = self.answer(self.send(method, params if params is not None else {}))
        assert "result" in answer, answer
        return answer["result"]

    def error(self, method: str, params: Any = None) -> dict[str, Any]:
        """The `data` of the error of a request."""
        answer = self.answer(self.send(method, params if params is not None else {}))
        assert "error" in answer, answer
        data: dict[str, Any] = answer["error"]["data"]
        return data

    def wait_for_state(self, step_path: str, state: str) -> dict[str, Any]:
        """The status chunk that says so."""
        message = self.read_until(
            lambda message: (
                message.get("method") == "agent.tool.stream"
                and message["params"]["channel"] == "status"
                and message["params"]["data"].get("step_path") == step_path
                and message["params"]["data"]["state"] == state
            )
        )
        data: dict[str, Any] = message["params"]["data"]
        return data

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    def close(self) -> int:
        """End of input; gives the exit code."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(WAIT_S)

    def dispose(self) -> None:
        """Nothing of it is left; the end of a test."""
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):
                    stream.close()
        self._drain.join(WAIT_S)
        if self.process.stderr is not None:
            self.process.stderr.close()


class Workspace:
    """A project with workflows, a state directory, and the agents that serve it."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.home = home
        self.agents: list[AgentProcess] = []
        (root / ".fleetprompt/workflows").mkdir(parents=True, exist_ok=True)

    def write(self, name: str, text: str) -> None:
        """A workflow file."""
        (self.root / ".fleetprompt/workflows" / name).write_text(text, encoding="utf-8")

    def agent(self, *flags: str, **options: Any) -> AgentProcess:
        """A new agent for the project; the options are those of `AgentProcess`."""
        agent = AgentProcess(self.root, self.home, *flags, **options)
        self.agents.append(agent)
        return agent

    def command(
        self, *arguments: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """What `fleetprompt` says in the project, without any terminal."""
        return subprocess.run(
            [sys.executable, "-P", "-m", "fleetprompt", *arguments],
            cwd=self.root,
            env={
                **os.environ, "FLEETPROMPT_HOME": str(self.home), "LANG": "C.UTF-8", **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            start_new_session=True,
        )  # fmt: skip

    def trusted(self, **options: Any) -> AgentProcess:
        """A new agent that may have side effects."""
        return self.agent("--allow-side-effects", **options)
