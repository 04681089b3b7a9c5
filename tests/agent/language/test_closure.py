from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.closure import ABSENT, close_plan
from fleetprompt_agent.language.loader import Compiled, load_workflow
from fleetprompt_agent.language.surroundings import Machine

if TYPE_CHECKING:
    from random import Random

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


def test_a_used_file_that_is_not_there_is_reported_at_its_place(root: Path) -> None:
    (root / "folder").mkdir()
    (root / "link").symlink_to("data.txt")
    text = "steps:\n  - {id: a, command: cli sh, uses: [data.txt, gone, folder, link]}\n"
    for more in ("", "  - {id: b, comand: cli sh}\n"):  # all is found in one pass
        found = load_workflow((text + more).encode(), format="yaml", file="w.yaml", root=root)
        assert found.plan is None
        assert [(one.code, one.path) for one in found.diagnostics][:3] == [
            ("file.missing", "steps[0].uses[1]"),
            ("file.not_regular", "steps[0].uses[2]"),
            ("file.symlink", "steps[0].uses[3]"),
        ]
    whole = text.replace(", gone, folder, link", "")
    assert load_workflow(whole.encode(), format="yaml", file="w.yaml", root=root).is_valid


DOCUMENT = {
    "type": "graph",
    "inputs": {"a": {"type": "string", "default": "x"}, "b": {"type": "integer", "default": 1}},
    "env": {"A": "1", "B": "${{ inputs.a }}"},
    "defaults": {"timeout": "30s", "cwd": "."},
    "outputs": {"one": "$second.stdout", "two": "$third.json.x"},
    "tools": {"allow": ["cli:*", "flow:*"], "deny": ["cli:rm"]},
    "steps": [
        {"id": "first", "command": "cli sh", "env": {"X": "1", "Y": "2"}},
        {"id": "second", "command": "cli sh", "timeout": "5s", "retry": {"max_attempts": 2}},
        {"id": "third", "tool": "flow:set", "with": {"x": "$second.text", "y": "$first.text"}},
        {
            "id": "last",
            "command": "cli sh ${{ steps.third.json.y }}",
            "env": {"P": "$first.text", "Q": "$second.text", "R": "$third.json.x"},
            "stdin": {"k": "$third.json", "l": "$first.text"},
            "approval": {"prompt": "Go?", "preview": "$first.text"},
        },
    ],
}


def written(node: object, order: Random, indent: int) -> Iterator[str]:
    """YAML with keys in any order, and comments anywhere."""
    pad = " " * indent
    if order.random() < 0.3:
        yield f"{pad}# {order.random()}"
    if isinstance(node, dict):
        for key in order.sample(sorted(node), len(node)):
            if isinstance(node[key], dict | list):
                yield f"{pad}{key}:  # a comment"
                yield from written(node[key], order, indent + 2)
            else:
                yield f"{pad}{key}: {json.dumps(node[key])}"
    elif isinstance(node, list):
        for item in node:
            if isinstance(item, dict):
                yield f"{pad}-"
                yield from written(item, order, indent + 2)
            else:
                yield f"{pad}- {json.dumps(item)}"


@settings(max_examples=60)
@given(st.randoms(use_true_random=False))
def test_the_digest_ignores_the_order_of_keys_and_comments(order: Random) -> None:
    text = "\n".join(written(DOCUMENT, order, 0)) + "\n"
    plan = load_workflow(text.encode(), format="yaml", file="w.yaml").raise_if_invalid()
    data = json.dumps(DOCUMENT).encode()
    assert (
        plan.digest == load_workflow(data, format="json", file="w.json").raise_if_invalid().digest
    )


def test_a_link_is_no_used_file(load: Load, root: Path) -> None:
    (root / "missing.txt").symlink_to("/etc/hostname")
    closure = close_plan(load(WORKFLOW).raise_if_invalid(), machine(root))
    assert {part.name: part.value for part in closure.parts}["missing.txt"] == ABSENT
