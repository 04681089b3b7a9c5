"""An agent as a child process: spawned with a token of its own, ended within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import subprocess
import sys
from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import OperatorError
from fleetprompt_protocol.stdio import ChildPipes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TOKEN_VARIABLE = "FLEETPROMPT_SESSION_TOKEN"  # noqa: S105  # the name of it, not one
"""How the token reaches the agent: its command line would show it to every process."""

END_TIMEOUT_S = 5.0
"""How long an agent has to end once its session is over (protocol.md §1)."""


def agent_command(root: Path, *, allow_side_effects: bool = False) -> list[str]:
    """The command line of this distribution's own agent for a root.

    `-P` keeps the working directory off the agent's import path: nothing that a repository holds
    is ever imported.
    """
    command = [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", str(root)]
    command += ["--protocol", "router", "--framing", "newline"]
    return [*command, "--allow-side-effects"] if allow_side_effects else command


class AgentProcess:
    """A spawned agent.

    It gets a session, hence a process group, of its own: Ctrl-C at the terminal reaches the host
    alone, and no step of a workflow has a terminal to write decisions into.

    Args:
        command: Its command line.
        environ: Its environment, the token aside.
        stderr: A descriptor for what it logs; None for this process's standard error.

    Raises:
        OperatorError: the command cannot be started.
    """

    def __init__(
        self, command: Sequence[str], *, environ: Mapping[str, str], stderr: int | None = None
    ) -> None:
        self.token = secrets.token_urlsafe(32)
        """What the agent must show in its hello: 256 random bits."""
        pipes = ChildPipes()
        try:
            self._process = subprocess.Popen(
                command,
                stdin=pipes.child_stdin,
                stdout=pipes.child_stdout,
                stderr=stderr,
                env={**environ, TOKEN_VARIABLE: self.token},
                start_new_session=True,
            )
        except OSError as error:
            pipes.transport.close()
            raise OperatorError(
                "agent.not_started",
                f"The agent `{command[0]}` cannot be started: {error.strerror}.",
            ) from None
        finally:
            pipes.close_child_ends()
        self.transport = pipes.transport
        """Our ends of the pipes; whoever speaks with the agent closes them."""
        self._exit: asyncio.Future[int] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    async def wait(self) -> int:
        """The exit code, once the agent has ended; negative for a signal."""
        if self._exit is None:
            # waitpid in a thread: polling would add up to 50 ms to every command.
            self._exit = asyncio.ensure_future(asyncio.to_thread(self._process.wait))
        return await asyncio.shield(self._exit)

    async def end(self, timeout_s: float = END_TIMEOUT_S) -> int:
        """The exit code, after at most this long: an agent that stays is killed.

        Close its pipes first. Its supervisor ends every step when the agent is gone.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()

    def kill(self) -> None:
        """End the agent at once; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
