from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetprompt_agent.language.closure import ABSENT, close_plan
from fleetprompt_agent.language.loader import Compiled
from fleetprompt_agent.language.surroundings import Machine

Load = Callable[[str], Compiled]

WORKFLOW = """\
steps:
  - {id: a, command: ./run.sh x, uses: [data.txt, missing.txt]}
  - {id: b, command: cli sh -c true}
  - {id: c, command: cli no-such-program-here}
  - {id: d, command: mcp git.status}
  - {id: e, command: flow noop}
finally:
  - {id: z, command: cli sh -c true}
""".replace("./run.sh", "cli ./run.sh")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    program = tmp_path / "run.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "data.txt").write_text("one\n")
    return tmp_path


def machine(root: Path, **entries: object) -> Machine:
    named = {name.replace("__", ":").replace("_", "/"): value for name, value in entries.items()}
    return Machine(root, os.environ.get("PATH", os.defpath), named)


def test_it_covers_programs_files_and_entries(load: Load, root: Path) -> None:
    plan = load(WORKFLOW).raise_if_invalid()
    closure = close_plan(plan, machine(root))
    found = {(part.kind, part.name): part.value for part in closure.parts}
    assert found["plan", ""] == plan.digest
    assert found["program", "./run.sh"] == str(root / "run.sh")
    assert len(found["content", str(root / "run.sh")]) == 64
    assert Path(found["program", "sh"]).is_absolute()
    assert found["program", "no-such-program-here"] == ABSENT
    assert len(found["file", "data.txt"]) == 64
    assert found["file", "missing.txt"] == ABSENT
    assert found["entry", "mcp:git/status"] == ABSENT


def test_it_is_the_same_for_the_same(load: Load, root: Path) -> None:
    one = close_plan(load(WORKFLOW).raise_if_invalid(), machine(root))
    other = close_plan(load("# comment\n" + WORKFLOW).raise_if_invalid(), machine(root))
    assert one.digest == other.digest
    assert one.changes_from(other) == []


def test_every_change_shows(load: Load, root: Path) -> None:
    plan = load(WORKFLOW).raise_if_invalid()
    before = close_plan(plan, machine(root))
    (root / "run.sh").write_text("#!/bin/sh\nrm -rf /\n")
    (root / "data.txt").unlink()
    after = close_plan(plan, machine(root, mcp__git_status={"command": "mcp-git"}))
    assert after.digest != before.digest
    assert after.changes_from(before) == [
        f"content {root}/run.sh: changed",
        "entry mcp:git/status: changed",
        "file data.txt: changed",
    ]
    changed = load(WORKFLOW.replace("run.sh x", "run.sh y")).raise_if_invalid()
    assert close_plan(changed, machine(root)).changes_from(after)[-1] == "plan: changed"


def test_a_link_is_no_used_file(load: Load, root: Path) -> None:
    (root / "missing.txt").symlink_to("/etc/hostname")
    closure = close_plan(load(WORKFLOW).raise_if_invalid(), machine(root))
    assert {part.name: part.value for part in closure.parts}["missing.txt"] == ABSENT
