from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleetprompt_agent.language.loader import Compiled, load_workflow
from fleetprompt_agent.language.plan import plan_digest

if TYPE_CHECKING:
    from pathlib import Path

BUILD = "inputs: {pr: {type: integer, required: true}, tag: {default: x}}\nsteps:\n"
BUILD += "  - {id: make, command: 'cli make ${{ inputs.pr }}'}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / ".fleetprompt" / "workflows").mkdir(parents=True)
    return tmp_path


def write(root: Path, name: str, text: str) -> None:
    (root / ".fleetprompt" / "workflows" / f"{name}.yaml").write_text(text)


def load(root: Path, text: str, every_field: frozenset[str]) -> Compiled:
    return load_workflow(
        text.encode(), format="yaml", file="main.yaml", root=root, also_supported=every_field
    )


def found(compiled: Compiled) -> list[tuple[str, str]]:
    return [(one.code, one.path) for one in compiled.diagnostics]


def test_a_workflow_within_a_workflow_is_embedded(root: Path, every_field: frozenset[str]) -> None:
    write(root, "build", BUILD)
    text = "steps:\n  - {id: sub, workflow: build, with: {pr: 1}}\n  - {id: b, command: cli x}\n"
    plan = load(root, text, every_field).raise_if_invalid()
    sub = plan.steps[0]
    assert (sub.kind, sub.workflow, sub.arguments) == ("workflow", "build", {"pr": 1})
    assert [step.id for step in plan.workflows["build"].steps] == ["make"]
    assert [one.permission for one in plan.permissions] == ["process:exec:make", "process:exec:x"]


def test_the_digest_covers_what_is_embedded(root: Path, every_field: frozenset[str]) -> None:
    text = "steps:\n  - {id: sub, workflow: build, with: {pr: 1}}\n"
    write(root, "build", BUILD)
    before = load(root, text, every_field).raise_if_invalid()
    write(root, "build", "# moved\n" + BUILD)
    assert load(root, text, every_field).raise_if_invalid().digest == before.digest
    write(root, "build", BUILD.replace("make ", "make -B "))
    after = load(root, text, every_field).raise_if_invalid()
    assert after.digest != before.digest
    assert plan_digest(after) == after.digest


def test_what_a_workflow_takes_is_checked(root: Path, every_field: frozenset[str]) -> None:
    write(root, "build", BUILD)
    compiled = load(
        root,
        "steps:\n"
        "  - {id: a, workflow: build}\n"
        "  - {id: b, workflow: build, with: {pr: one, tagg: 1}}\n"
        "  - {id: c, workflow: build, with: {pr: $a.json}}\n",
        every_field,
    )
    assert found(compiled) == [
        ("command.arguments", "steps[0].workflow"),
        ("command.arguments", "steps[1].with.pr"),
        ("command.arguments", "steps[1].with.tagg"),
    ]
    assert compiled.diagnostics[2].hint == "did you mean `tag`?"


def test_workflows_that_contain_each_other_are_refused(
    root: Path, every_field: frozenset[str]
) -> None:
    write(root, "one", "steps: [{id: a, workflow: two}]\n")
    write(root, "two", "steps: [{id: a, workflow: one}]\n")
    own = load(root, "id: main\nsteps: [{id: a, workflow: main}]\n", every_field)
    assert found(own) == [("workflow.cycle", "steps[0].workflow")]
    other = load(root, "steps: [{id: a, workflow: one}]\n", every_field)
    assert found(other) == [("workflow.has_errors", "steps[0].workflow")]
    assert "one → two → one" in str(
        load_workflow(
            (root / ".fleetprompt/workflows/one.yaml").read_bytes(),
            format="yaml",
            file="one.yaml",
            root=root,
            also_supported=every_field,
        ).diagnostics[0].message
    )  # fmt: skip


def test_the_first_error_of_an_inner_workflow_is_told(
    root: Path, every_field: frozenset[str]
) -> None:
    write(root, "bad", "steps:\n  - {id: a, comand: cli x}\n")
    compiled = load(root, "steps:\n  - {id: a, workflow: bad}\n", every_field)
    (only,) = compiled.diagnostics
    assert only.code == "workflow.has_errors"
    assert "bad.yaml:2: a step has no `comand`" in only.message


def test_nesting_has_a_limit(root: Path, every_field: frozenset[str]) -> None:
    for number in range(12):
        write(root, f"w{number}", f"steps: [{{id: a, workflow: w{number + 1}}}]\n")
    write(root, "w12", "steps: [{id: a, command: cli x}]\n")
    compiled = load(root, "steps: [{id: a, workflow: w0}]\n", every_field)
    assert found(compiled) == [("workflow.has_errors", "steps[0].workflow")]
    assert load(root, "steps: [{id: a, workflow: w8}]\n", every_field).is_valid


def test_a_missing_workflow_is_told_with_what_was_meant(
    root: Path, every_field: frozenset[str]
) -> None:
    write(root, "deploy", "steps: [{id: a, command: cli x}]\n")
    compiled = load(root, "steps: [{id: a, workflow: deplyo}]\n", every_field)
    assert found(compiled) == [("workflow.not_found", "steps[0].workflow")]
    assert "`deploy`" in compiled.diagnostics[0].message


def test_a_gate_inside_cannot_stand_in_finally(root: Path, every_field: frozenset[str]) -> None:
    write(root, "asks", "steps: [{id: a, approval: required}]\n")
    text = "steps: [{id: a, command: cli x}]\nfinally: [{id: z, workflow: asks}]\n"
    compiled = load(root, text, every_field)
    assert found(compiled) == [("approval.in_finally", "finally[0].workflow")]


def test_tool_rules_hold_for_what_is_embedded(root: Path, every_field: frozenset[str]) -> None:
    write(root, "build", BUILD)
    text = "tools: {{deny: ['cli:make'], enforce: {}}}\nsteps:\n"
    text += "  - {{id: a, workflow: build, with: {{pr: 1}}}}\n"
    denied = load(root, text.format("true"), every_field)
    assert found(denied) == [("tool.not_allowed", "steps[0].workflow")]
    assert not denied.is_valid
    warned = load(root, text.format("false"), every_field)
    assert found(warned) == [("tool.not_allowed", "steps[0].workflow")]
    assert warned.is_valid


def test_nor_can_one_that_asks_a_model(root: Path, every_field: frozenset[str]) -> None:
    write(root, "asks", "steps: [{id: a, command: llm prompt=x}]\n")
    text = "steps: [{id: a, command: cli x}]\nfinally: [{id: z, workflow: asks}]\n"
    compiled = load(root, text, every_field)
    assert found(compiled) == [("approval.in_finally", "finally[0].workflow")]
