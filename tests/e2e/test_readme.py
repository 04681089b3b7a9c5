"""What the README shows is run as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def block(language: str) -> str:
    """The first code block of the language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    workflows = root / ".fleetprompt/workflows"
    workflows.mkdir(parents=True)
    (workflows / "hello.yaml").write_text(block("yaml"), encoding="utf-8")
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "One"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    return root


def shown(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "FLEETPROMPT_HOME": str(root.parent / "home"),
    }
    return subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        timeout=120,
    )  # fmt: skip


def test_the_first_workflow_is_valid_and_runs(repository: Path) -> None:
    assert shown(repository, "fleetprompt", "validate", "hello").returncode == 0
    asked = shown(repository, "fleetprompt", "run", "hello", "--input", "who=you")
    assert asked.returncode == 5
    done = shown(repository, "fleetprompt", "run", "hello", "--allow-side-effects")
    assert done.returncode == 0
    assert "hello world, this repository has 1 commits" in done.stdout


def test_the_client_of_ten_lines_works(repository: Path) -> None:
    done = shown(repository, sys.executable, "-W", "ignore", "-c", block("python"))
    assert done.returncode == 0, done.stderr
    assert "'workflow_id': 'hello'" in done.stdout
    assert "'status': 'waiting'" in done.stdout


def test_every_make_target_that_it_names_exists() -> None:
    makefile = (Path(__file__).parents[2] / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z][a-z-]*)", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
