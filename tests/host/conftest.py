"""Workspaces, scripted agents and the command itself, for the host's tests."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from fleetprompt.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCRIPTED_AGENT = Path(__file__).parent / "scripted_agent.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository without workflows."""
    path = tmp_path / "repository"
    (path / ".fleetprompt" / "workflows").mkdir(parents=True)
    return path


WORKFLOWS = {
    "hello": """
        description: Says hello
        inputs:
          who: {type: string, default: world}
          times: {type: integer, default: 1}
        outputs:
          said: $greet.text
        steps:
          - {id: greet, command: "cli printf hello-${{ inputs.who }}-${{ inputs.times + 1 }}"}
        """,
    "release": """
        outputs: {said: $publish.text}
        steps:
          - {id: collect, command: cli echo three commits}
          - id: publish
            command: cli sh publish.sh v1
            approval: {prompt: Ship it?, preview: $collect.stdout}
        """,
    "branches": """
        type: graph
        steps:
          - {id: left, command: cli sh publish.sh left, approval: required}
          - {id: right, command: cli sh publish.sh right, approval: required}
        """,
    "failing": """
        steps:
          - {id: fine, command: cli true}
          - {id: broken, command: cli ls /nonexistent/file}
        """,
    "blocked": """
        steps:
          - {id: before, command: cli true}
          - {id: block, command: cli sh block.sh}
        """,
    "invalid": """
        steps:
          - {id: a, comand: cli true}
        """,
    "hostile": r"""
        outputs: {said: $print.text}
        steps:
          - {id: print, command: "cli printf '\\033[2Jred\\342\\200\\256'"}
        """,
}
"""What the tests run; the scripts are those of `repository` and `Barrier`."""


@pytest.fixture
def repository(root: Path) -> Path:
    """A repository with the workflows above; `publish.sh` appends a line to `published`."""
    for name, text in WORKFLOWS.items():
        file = root / ".fleetprompt" / "workflows" / f"{name}.yaml"
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    (root / "publish.sh").write_text('echo "$1" >> published\necho "published $1"\n')
    return root


class Barrier:
    """A place in the workflow `blocked` where its step waits for the test.

    Args:
        root: The repository.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        for name in ("reached", "released"):
            os.mkfifo(root / name)
        # Both ends are held here, so that no open ever waits for a partner.
        self._reached = os.open(root / "reached", os.O_RDWR | os.O_NONBLOCK)
        self._released = os.open(root / "released", os.O_RDWR | os.O_NONBLOCK)
        self.set_step()

    def set_step(self, before: str = "") -> None:
        """Let the step do this first, in shell."""
        script = f'{before}\necho > reached\nread line < released\necho "$line"\n'
        (self._root / "block.sh").write_text(script)

    def wait(self) -> None:
        """Return once the step is there."""
        if not select.select([self._reached], [], [], 30)[0]:
            pytest.fail("the step was not reached")
        os.read(self._reached, 100)

    def release(self, line: str) -> None:
        """Let the step go on; it prints the line."""
        os.write(self._released, f"{line}\n".encode())

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._reached)
        os.close(self._released)


@pytest.fixture
def barrier(repository: Path) -> Iterator[Barrier]:
    """The place where the workflow `blocked` waits."""
    barrier = Barrier(repository)
    yield barrier
    barrier.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A state directory of the test's own."""
    return tmp_path / "state"


@pytest.fixture
def environ(home: Path) -> dict[str, str]:
    """What a command is run with: the caller's path, nothing of its terminal."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return {**kept, "FLEETPROMPT_HOME": str(home), "LANG": "C.UTF-8", "TZ": "UTC"}


class Scripted(Protocol):
    """Gives a client for an agent that follows this script; `options` are the client's own."""

    def __call__(self, options: dict[str, Any] | None = None, **script: Any) -> Client: ...


@pytest.fixture
def scripted(root: Path, tmp_path: Path) -> Scripted:
    """Gives a client whose agent follows a script (`scripted_agent.py`)."""

    def client(options: dict[str, Any] | None = None, **script: Any) -> Client:
        script.setdefault("heard", str(tmp_path / "heard"))
        command = [sys.executable, "-P", str(SCRIPTED_AGENT), json.dumps(script)]
        return Client(root, command=command, **(options or {}))

    return client


@pytest.fixture
def heard(tmp_path: Path) -> Callable[[], list[dict[str, Any]]]:
    """Gives what a scripted agent has received."""

    def read() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (tmp_path / "heard").read_text().splitlines()]

    return read


class Command(Protocol):
    """Runs `fleetprompt` with arguments, in the repository, and gives what became of it."""

    def __call__(
        self, *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]: ...


@pytest.fixture
def fleetprompt(root: Path, environ: dict[str, str]) -> Command:
    """The command as a real subprocess without any terminal."""

    def run(
        *arguments: str, stdin: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "fleetprompt", *arguments],
            cwd=root,
            env={**environ, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,
        )

    return run


_TAKE_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


class Terminal:
    """A process at a terminal of its own, as a person in front of it sees it.

    Args:
        command: What is run.
        cwd: Where.
        env: With which environment.
        columns: How wide the terminal is.
        stdout: Where its standard output goes instead of the terminal.
    """

    def __init__(
        self,
        command: list[str],
        *,
        cwd: Path,
        env: dict[str, str],
        columns: int = 60,
        stdout: int | None = None,
    ) -> None:
        self._master, slave = pty.openpty()
        size = struct.pack("HHHH", 24, columns, 0, 0)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *command],
            cwd=cwd,
            env={"TERM": "xterm", **env},
            stdin=slave,
            stdout=slave if stdout is None else stdout,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.seen = ""
        """Everything that was shown so far."""
        self._read_to = 0

    def expect(self, text: str) -> str:
        """Wait until the text is shown after what was expected before; gives all up to it."""
        deadline = time.monotonic() + 30
        while (at := self.seen.find(text, self._read_to)) < 0:
            if not self._read(deadline - time.monotonic()):
                pytest.fail(f"{text!r} was not shown; shown was {self.seen!r}")
        begin, self._read_to = self._read_to, at + len(text)
        return self.seen[begin : self._read_to]

    def send(self, text: str) -> None:
        """Type this."""
        os.write(self._master, text.encode())

    def end(self) -> int:
        """Wait for the process to end, showing the rest; gives its exit code."""
        deadline = time.monotonic() + 30
        while self._read(deadline - time.monotonic()):
            if time.monotonic() > deadline:
                break
        try:
            return self.process.wait(timeout=max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pytest.fail(f"the command did not end; shown was {self.seen!r}")

    def close(self) -> None:
        """End the process if it is still there."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(timeout=30)
        os.close(self._master)

    def _read(self, timeout_s: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(0.0, timeout_s))
        data = b""
        if readable:
            with contextlib.suppress(OSError):  # EIO: nobody has the terminal open any more
                data = os.read(self._master, 65_536)
        self.seen += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    @property
    def screen(self) -> list[str]:
        """The lines as they stand now, after all movements of the cursor; not empty ones."""
        lines = [""]
        row = 0
        for part in re.split(r"(\x1b\[[0-9;]*[A-Za-z]|\n|\r)", self.seen):
            if part == "\n":
                row += 1
                lines += [""] * (row + 1 - len(lines))
            elif part.endswith("A") and part.startswith("\x1b["):
                row = max(0, row - int(part[2:-1]))
            elif part == "\x1b[J":
                lines = [*lines[:row], ""]
            elif part and not part.startswith("\x1b[") and part != "\r":
                lines[row] += part
        return [line for line in lines if line]


class AtTerminal(Protocol):
    """Runs `fleetprompt` with arguments at a terminal of its own."""

    def __call__(
        self,
        *arguments: str,
        columns: int = 60,
        env: dict[str, str] | None = None,
        stdout: int | None = None,
    ) -> Terminal: ...


@pytest.fixture
def at_terminal(root: Path, environ: dict[str, str]) -> Iterator[AtTerminal]:
    """The command at a terminal; whatever is left of it in the end is ended."""
    opened: list[Terminal] = []

    def run(
        *arguments: str,
        columns: int = 60,
        env: dict[str, str] | None = None,
        stdout: int | None = None,
    ) -> Terminal:
        command = [sys.executable, "-P", "-m", "fleetprompt", *arguments]
        terminal = Terminal(
            command, cwd=root, env={**environ, **(env or {})}, columns=columns, stdout=stdout
        )
        opened.append(terminal)
        return terminal

    yield run
    for terminal in opened:
        terminal.close()


@pytest.fixture
def python_at_terminal(tmp_path: Path, environ: dict[str, str]) -> Iterator[PythonAtTerminal]:
    """A piece of Python at a terminal of its own, for parts that need one."""
    opened: list[Terminal] = []

    def run(code: str, *, columns: int = 60, env: dict[str, str] | None = None) -> Terminal:
        command = [sys.executable, "-P", "-c", code]
        env = {**environ, **(env or {})}
        opened.append(Terminal(command, cwd=tmp_path, env=env, columns=columns))
        return opened[-1]

    yield run
    for terminal in opened:
        terminal.close()


class PythonAtTerminal(Protocol):
    """Runs Python code at a terminal."""

    def __call__(
        self, code: str, *, columns: int = 60, env: dict[str, str] | None = None
    ) -> Terminal: ...
