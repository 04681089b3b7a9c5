"""What the tests of this room share: a workspace, requests, and a real supervisor to run them."""

from __future__ import annotations

import asyncio
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from fleetprompt_agent.language.plan import Output
from fleetprompt_agent.steps.cli import CliRunner
from fleetprompt_agent.steps.contract import StepOutcome, StepRequest
from fleetprompt_agent.steps.spawner import Spawner
from fleetprompt_agent.steps.supervisor import start_supervisor
from fleetprompt_protocol.ids import Correlation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

T = TypeVar("T")

PATIENCE_S = 30.0
"""The bound of every wait: a failing test ends, a slow machine does not make it fail."""


class Bench:
    """Runs steps for real, in a workspace of the test's own."""

    python = (sys.executable, "-I", "-S", "-c")
    """The start of an argv that runs Python source."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environ = dict(os.environ)
        self.shown: list[tuple[str, str]] = []

    def request(self, *argv: str, **changes: Any) -> StepRequest:
        """A request for a program; `cwd env stdin tainted` go into its action.

        `run_cwd` is the working directory of the run.
        """
        action: dict[str, Any] = {"argv": list(argv), "cwd": None, "env": {}, "stdin": None}
        for name in ("cwd", "env", "stdin", "tainted"):
            if name in changes:
                action[name] = changes.pop(name)
        fields: dict[str, Any] = {
            "run_id": "run-1",
            "step_path": "step",
            "step_id": "step",
            "attempt": 1,
            "namespace": "cli",
            "tool_id": f"cli:{argv[0]}",
            "action": action,
            "root": self.root,
            "cwd": changes.pop("run_cwd", None),
            "output": Output(),
            "ok_exit_codes": (0,),
            "max_output_bytes": 512_000,
            "idempotency_key": "run-1/step",
            "correlation": Correlation("req-1", "cor-1", "cause-1"),
        }
        return StepRequest(**{**fields, **changes})

    def show(self, channel: str, text: str) -> None:
        """A progress callback that keeps what it was shown."""
        self.shown.append((channel, text))

    def with_runner(
        self, use: Callable[[CliRunner, Spawner], Awaitable[T]], grace_s: float = 2.0
    ) -> T:
        """What `use` gives, with a runner on a supervisor of its own."""

        async def main() -> T:
            spawner = Spawner(start_supervisor())
            try:
                async with asyncio.timeout(PATIENCE_S):
                    return await use(CliRunner(spawner, self.environ, grace_s), spawner)
            finally:
                await spawner.close()

        return asyncio.run(main())

    def run(self, *argv: str, **changes: Any) -> StepOutcome:
        """The outcome of one step."""
        request = self.request(*argv, **changes)
        return self.with_runner(lambda runner, _: runner.run(request, self.show))


class Roll:
    """A named pipe that the processes of a step hold open: its end is the end of the last one.

    A process enrols by opening `path` for writing and handing that down; it may write lines.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self._data = b""

    def read_line(self) -> str:
        """The next line that a process wrote."""
        while b"\n" not in self._data:
            assert self._more(), "every process ended before it wrote a line"
        line, _, self._data = self._data.partition(b"\n")
        return line.decode()

    async def line(self) -> str:
        """The same without holding up the event loop."""
        return await asyncio.to_thread(self.read_line)

    def wait_for_end(self) -> None:
        """Returns when no process holds the pipe any more."""
        while self._more():
            pass

    @property
    def is_empty(self) -> bool:
        """Whether nobody holds the pipe at this moment."""
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        events = dict(poll.poll(0)).get(self._fd, 0)
        return bool(events & select.POLLHUP)

    def close(self) -> None:
        os.close(self._fd)

    def _more(self) -> bool:
        ready, _, _ = select.select([self._fd], [], [], PATIENCE_S)
        assert ready, "processes are still alive"
        chunk = os.read(self._fd, 65536)
        self._data += chunk
        return bool(chunk)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    root = tmp_path / "workspace"
    root.mkdir()
    return Bench(root)


@pytest.fixture
def roll(tmp_path: Path) -> Iterator[Roll]:
    roll = Roll(tmp_path / "roll")
    yield roll
    roll.close()
