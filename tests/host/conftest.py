"""Workspaces, scripted agents and the command itself, for the host's tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from fleetprompt.client import Client

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPTED_AGENT = Path(__file__).parent / "scripted_agent.py"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository without workflows."""
    path = tmp_path / "repository"
    (path / ".fleetprompt" / "workflows").mkdir(parents=True)
    return path


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
