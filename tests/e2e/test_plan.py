"""What a run would do: planned without doing any of it, and against what a run has done."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_testing.workspace import AgentProcess, Workspace

RELEASE = """\
name: Release
inputs:
  tag: {type: string, required: true}
  loud: {type: boolean, default: false}
outputs:
  said: $collect.text
steps:
  - {id: collect, command: "cli printf 'notes for %s' ${{ inputs.tag }}"}
  - {id: shape, tool: flow:set, with: {text: "${{ steps.collect.text.upper() }}"}}
  - {id: tests, command: cli make test, needs: [collect], if: inputs.loud}
  - id: publish
    command: cli printf %s ${{ steps.shape.json.text }}
    approval: {prompt: Publish?, preview: $collect.text}
    timeout: 90s
    retry: {max_attempts: 2, on: [step.exit_code]}
finally:
  - {id: clean, command: cli true}
"""


def by_path(planned: dict[str, Any], name: str = "steps") -> dict[str, dict[str, Any]]:
    """The entries of a listing by step."""
    return {entry.get("step_path") or entry["step_id"]: entry for entry in planned[name]}


def plan(agent: AgentProcess, **given: Any) -> dict[str, Any]:
    planned: dict[str, Any] = agent.call("fp_plan_workflow", {"workflow": "release", **given})
    return planned


def finished(workspace: Workspace, text: str = RELEASE, **inputs: Any) -> AgentProcess:
    """An agent with a run of the workflow that has ended."""
    workspace.write("release.yaml", text)
    agent = workspace.trusted()
    result = agent.call("fp_run_workflow", {"workflow": "release", "inputs": inputs})
    while result["status"] == "waiting":
        token = result["gates"][0]["token"]
        result = agent.call("fp_resume_run", {"token": token, "approve": True})
    assert result["status"] == "succeeded", result
    return agent


def changes(agent: AgentProcess, text: str, **given: Any) -> dict[str, Any]:
    """What the edited workflow changes for the latest run."""
    (workflow,) = agent.call("fp_list_workflows")["workflows"]
    assert workflow["workflow_id"] == "release"
    planned = plan(agent, against="", **given)
    assert planned["valid"] is True, text
    against: dict[str, Any] = planned["against"]
    return against


# The plan itself


def test_a_plan_has_the_shape_of_the_protocol(workspace: Workspace) -> None:
    workspace.write("release.yaml", RELEASE)
    planned = plan(workspace.agent(), inputs={"tag": "v1"})
    assert {"workflow_id", "sha256", "digest", "steps", "permissions", "problems"} <= set(planned)
    assert planned["levels"] == [["collect"], ["shape", "tests"], ["publish"]]
    assert planned["problems"] == []
    steps = by_path(planned)
    assert steps["collect"]["action"]["argv"] == ["printf", "notes for %s", "v1"]
    assert steps["publish"]["action"]["argv"] == ["printf", "%s", "⟨steps.shape.json.text⟩"]
    assert (steps["collect"]["namespace"], steps["collect"]["tool_id"]) == ("cli", "cli:printf")
    assert steps["publish"]["needs"] == ["tests", "shape"]
    assert steps["publish"]["gate"]["prompt"] == "Publish?"
    assert steps["publish"]["retry"]["max_attempts"] == 2
    assert (steps["tests"]["if"], steps["tests"]["will_run"]) == ("inputs.loud", False)
    permissions = {one["permission"]: one for one in planned["permissions"]}
    assert "code that this plan cannot see" in permissions["process:exec:make"]["why"]
    assert [step["step_id"] for step in planned["finally"]] == ["clean"]


def test_missing_inputs_are_placeholders_and_wrong_ones_are_refused(workspace: Workspace) -> None:
    workspace.write("release.yaml", RELEASE)
    agent = workspace.agent()
    planned = plan(agent)
    assert by_path(planned)["collect"]["action"]["argv"][2] == "⟨inputs.tag⟩"
    assert [problem["path"] for problem in planned["problems"]] == ["inputs.tag"]
    for wrong in ({"tag": 1}, {"tga": "v1"}, {"tag": "v1", "loud": "yes"}):
        error = agent.error("fp_plan_workflow", {"workflow": "release", "inputs": wrong})
        assert error["code"] == "inputs.invalid"


def test_an_invalid_workflow_has_problems_and_no_plan(workspace: Workspace) -> None:
    workspace.write("release.yaml", "steps:\n  - {id: a, comand: cli true}\n")
    planned = plan(workspace.agent())
    assert (planned["valid"], planned["digest"], planned["steps"]) == (False, None, [])
    assert {problem["code"] for problem in planned["problems"]} >= {"field.unknown"}


def test_the_closure_covers_programs_and_used_files(workspace: Workspace) -> None:
    text = "steps:\n  - {id: a, command: cli ./tool.sh, uses: [data.txt]}\n"
    tool, data = workspace.root / "tool.sh", workspace.root / "data.txt"
    workspace.write("release.yaml", text)
    agent = workspace.agent()
    missing = plan(agent)
    assert (missing["valid"], missing["closure"]) == (False, None)
    assert [(one["code"], one["path"]) for one in missing["problems"]] == [
        ("file.missing", "steps[0].uses[0]")
    ]
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    data.write_text("one")
    first = plan(agent)
    assert [(part["kind"], part["name"]) for part in first["closure"]["parts"]] == [
        ("content", str(tool)),
        ("file", "data.txt"),
        ("program", "./tool.sh"),
    ]
    workspace.write("release.yaml", "# the same\n" + text)
    assert plan(agent)["closure"] == first["closure"]
    data.write_text("two")
    second = plan(agent)
    assert second["digest"] == first["digest"]
    tool.write_text("#!/bin/sh\necho\n")
    third = plan(agent)
    assert len({one["closure"]["digest"] for one in (first, second, third)}) == 3


@pytest.mark.parametrize(("kind", "start"), [("mermaid", "flowchart TD"), ("dot", "digraph")])
def test_a_plan_can_be_had_as_a_graph(workspace: Workspace, kind: str, start: str) -> None:
    workspace.write("release.yaml", RELEASE)
    assert plan(workspace.agent(), graph=kind)["graph"].startswith(start)


_STARTS = re.compile(r"\b(execve|execveat|fork|vfork|clone3?|connect)\((.*)")


def traced(agent: AgentProcess, log: Path, act: Callable[[], object]) -> list[str]:
    """What the agent and its supervisor start, and connect to, while something is done."""
    agent.call("fp_list_workflows")  # the supervisor runs by now
    pid = agent.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    pids = [word for each in (str(pid), *children) for word in ("-p", each)]
    tracing = subprocess.Popen(
        ["strace", "-f", "-e", "trace=%process,connect", "-o", str(log), *pids],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracing.stderr is not None
    for _ in pids[::2]:
        line = tracing.stderr.readline()
        if "attached" not in line:
            tracing.kill()
            tracing.communicate()
            pytest.skip(f"this machine does not allow tracing: {line.strip()}")
    act()
    tracing.send_signal(signal.SIGINT)
    tracing.communicate(timeout=30)
    found = (_STARTS.search(line) for line in log.read_text().splitlines())
    # A thread is no process.
    return [call[0] for call in found if call is not None and "CLONE_THREAD" not in call[2]]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_planning_starts_no_process_and_connects_to_nothing(
    workspace: Workspace, tmp_path: Path
) -> None:
    finished(workspace, tag="v1").close()
    agent = workspace.trusted()

    def look() -> None:
        plan(agent)
        plan(agent, inputs={"tag": "v2"}, graph="dot")
        assert plan(agent, against="", inputs={"tag": "v2"})["against"]["steps"]
        agent.call("fp_validate_project_resources")

    def run() -> None:
        agent.call("fp_run_workflow", {"workflow": "release", "inputs": {"tag": "v1"}})

    assert traced(agent, tmp_path / "looking", look) == []
    assert any("printf" in call for call in traced(agent, tmp_path / "running", run)), (
        "the trace sees what a run starts"
    )


# Against a run


def test_an_unchanged_workflow_changes_nothing(workspace: Workspace) -> None:
    agent = finished(workspace, tag="v1")
    against = changes(agent, RELEASE)
    assert against["counts"] == {"same": 5, "changed": 0, "new": 0, "gone": 0}
    assert against["status"] == {"before": "succeeded", "after": "succeeded"}
    assert {gate["change"] for gate in against["gates"]} == {"same"}
    assert against["outputs"] == {"said": {"change": "same"}}
    steps = by_path(against)
    assert steps["collect"]["basis"] == "recorded"
    assert steps["shape"]["basis"] == "computed"
    assert steps["tests"]["status"] == {"before": "skipped", "after": "skipped"}


def test_a_changed_action_is_shown_as_it_was_and_as_it_is(workspace: Workspace) -> None:
    agent = finished(workspace, tag="v1")
    edited = RELEASE.replace("notes for %s", "changes in %s")
    workspace.write("release.yaml", edited)
    collect = by_path(changes(agent, edited))["collect"]
    assert (collect["change"], collect["fields"], collect["basis"]) == (
        "changed", ["with"], "assumed",
    )  # fmt: skip
    assert collect["action"]["before"]["argv"] == ["printf", "notes for %s", "v1"]
    assert collect["action"]["after"]["argv"] == ["printf", "changes in %s", "v1"]


def test_other_inputs_change_what_is_rendered_from_them(workspace: Workspace) -> None:
    agent = finished(workspace, tag="v1")
    against = changes(agent, RELEASE, inputs={"tag": "v2", "loud": True})
    steps = by_path(against)
    assert against["inputs_changed"] is True
    assert steps["collect"]["action"]["after"]["argv"][2] == "v2"
    assert steps["tests"]["status"] == {"before": "skipped", "after": "unknown"}
    assert steps["tests"]["action"] == {"after": {"argv": ["make", "test"]}}


def test_what_rests_on_a_new_step_says_so(workspace: Workspace) -> None:
    agent = finished(workspace, tag="v1")
    edited = RELEASE.replace(
        "  - {id: tests,",
        "  - {id: sign, command: cli date}\n"
        '  - {id: tell, command: "cli echo ${{ steps.sign.text }} ${{ steps.shape.json.text }}"}\n'
        "  - {id: maybe, tool: flow:noop, if: steps.sign.exit_code == 5}\n"
        "  - {id: tests,",
    )
    workspace.write("release.yaml", edited)
    against = changes(agent, edited)
    steps = by_path(against)
    assert [path for path, step in steps.items() if step["change"] == "new"] == [
        "sign", "tell", "maybe",
    ]  # fmt: skip
    assert steps["sign"]["status"]["after"] == "unknown"
    assert steps["tell"]["rests_on"] == steps["maybe"]["rests_on"] == ["sign"]
    assert steps["tell"]["action"]["after"]["argv"] == [
        "echo", "⟨steps.sign.text⟩", "NOTES FOR V1",
    ]  # fmt: skip
    assert steps["publish"]["change"] == "same", "the chain's implicit edge is no change"


def test_gates_that_appear_change_and_go_are_named(workspace: Workspace) -> None:
    agent = finished(workspace, tag="v1")
    edited = RELEASE.replace("Publish?", "Really publish?").replace(
        "  - {id: tests,", "  - {id: sure, approval: {prompt: Sure?}}\n  - {id: tests,"
    )
    workspace.write("release.yaml", edited)
    gates = {gate["step_path"]: gate for gate in changes(agent, edited)["gates"]}
    assert gates["sure"]["change"] == "new"
    assert gates["publish"]["prompt"] == {"before": "Publish?", "after": "Really publish?"}
    edited = re.sub(r"    approval:.*\n", "", RELEASE)
    workspace.write("release.yaml", edited)
    against = changes(agent, edited)
    assert [(gate["step_path"], gate["change"]) for gate in against["gates"]] == [
        ("publish", "gone")
    ]


def test_a_recorded_outcome_is_read_as_the_plan_now_says(workspace: Workspace) -> None:
    text = "steps:\n  - {id: probe, command: cli sh -c 'echo 7; exit 3', ok_exit_codes: [3]}\n"
    agent = finished(workspace, text)
    for edited, status in (
        (text.replace("[3]", "[0]"), "failed"),
        (text.replace("[3]", "[3], postcondition: result.exit_code == 0"), "failed"),
        (text.replace("[3]", "[3], output: json, postcondition: result.json == 7"), "succeeded"),
        (text.replace("[3]", "[3], output: {type: json, schema: {type: string}}"), "failed"),
    ):
        workspace.write("release.yaml", edited)
        against = changes(agent, edited)
        assert against["status"] == {"before": "succeeded", "after": status}, edited


def test_items_and_embedded_workflows_are_compared_by_their_paths(workspace: Workspace) -> None:
    inner = (
        "inputs: {n: {type: integer}}\nsteps:\n  - {id: say, command: 'cli echo ${{ inputs.n }}'}\n"
    )
    text = (
        "steps:\n"
        "  - {id: each, for_each: '[1, 2]', command: 'cli echo item ${{ item }}'}\n"
        "  - {id: sub, workflow: inner, with: {n: 5}}\n"
    )
    workspace.write("inner.yaml", inner)
    workspace.write("release.yaml", text)
    agent = workspace.trusted()
    agent.call("fp_run_workflow", {"workflow": "release"})
    edited = text.replace("[1, 2]", "[1, 3, 4]").replace("n: 5", "n: 6")
    workspace.write("release.yaml", edited)
    steps = by_path(plan(agent, against="")["against"])
    assert {path: step["change"] for path, step in steps.items()} == {
        "each": "changed", "each[0]": "same", "each[1]": "changed", "each[2]": "new",
        "sub": "changed", "sub/say": "changed",
    }  # fmt: skip
    assert steps["sub/say"]["action"]["after"]["argv"] == ["echo", "6"]


def test_a_run_that_waits_is_compared_as_far_as_it_came(workspace: Workspace) -> None:
    workspace.write("release.yaml", RELEASE)
    agent = workspace.trusted()
    agent.call("fp_run_workflow", {"workflow": "release", "inputs": {"tag": "v1"}})
    against = plan(agent, against="")["against"]
    assert against["status"] == {"before": "waiting", "after": "waiting"}
    assert against["counts"]["changed"] == 0


def test_comparing_needs_a_run_and_its_required_inputs(workspace: Workspace) -> None:
    workspace.write("release.yaml", RELEASE)
    agent = workspace.trusted()
    for reference in ("", "nope"):
        error = agent.error("fp_plan_workflow", {"workflow": "release", "against": reference})
        assert error["code"] == "run.not_found"
    workspace.write("release.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent.call("fp_run_workflow", {"workflow": "release"})
    workspace.write("release.yaml", RELEASE)
    error = agent.error("fp_plan_workflow", {"workflow": "release", "against": ""})
    assert error["code"] == "inputs.invalid"


# All workflows


def test_every_workflow_of_the_root_is_checked(workspace: Workspace) -> None:
    workspace.write("release.yaml", RELEASE)
    workspace.write("broken.yaml", "steps:\n  - {id: a, comand: cli true}\n")
    workspace.write("twin.yaml", "id: release\nsteps:\n  - {id: a, tool: flow:noop}\n")
    folder = workspace.root / ".fleetprompt/workflows"
    (folder / "linked.yaml").symlink_to("/etc/hostname")
    answer = workspace.agent().call("fp_validate_project_resources")
    found = {item["file_path"].rpartition("/")[2]: item for item in answer["workflows"]}
    assert answer["valid"] is False
    assert {name: item["valid"] for name, item in found.items()} == dict.fromkeys(
        ("release.yaml", "broken.yaml", "twin.yaml", "linked.yaml"), False
    )
    codes = {name: [one["code"] for one in item["diagnostics"]] for name, item in found.items()}
    assert codes["release.yaml"] == codes["twin.yaml"] == ["workflow.ambiguous"]
    assert codes["linked.yaml"] == ["file.symlink"]
    assert "field.unknown" in codes["broken.yaml"]


def test_many_findings_come_in_pages(workspace: Workspace) -> None:
    keys = "\n".join(f"odd{number}: 1" for number in range(300))
    for number in range(6):
        workspace.write(f"w{number}.yaml", keys)
    agent = workspace.agent()
    first = agent.call("fp_validate_project_resources")
    assert (len(first["workflows"]), first["workflows"][0]["omitted"] > 100) == (5, True)
    rest = agent.call("fp_validate_project_resources", {"cursor": first["next_cursor"]})
    assert [item["workflow_id"] for item in rest["workflows"]] == ["w5"]
    assert "next_cursor" not in rest


# At the command line


def test_the_command_shows_plans_within_sixty_columns(workspace: Workspace) -> None:
    workspace.write("release.yaml", RELEASE)
    shown = workspace.command("plan", "release", "--input", "tag=v1", env={"COLUMNS": "60"})
    assert shown.returncode == 0, shown.stderr
    assert all(len(line) <= 60 for line in shown.stdout.splitlines())
    assert "printf 'notes for %s' v1" in shown.stdout
    assert "if inputs.loud: will not run" in shown.stdout
    assert "asks first: Publish?" in shown.stdout
    graph = workspace.command("plan", "release", "--graph", "mermaid")
    assert graph.stdout.startswith("flowchart TD\n")
    data = json.loads(workspace.command("plan", "release", "--json").stdout)
    assert data["steps"][0]["step_id"] == "collect"


def test_the_command_shows_what_an_edit_changes(workspace: Workspace) -> None:
    finished(workspace, tag="v1").close()
    workspace.write("release.yaml", RELEASE.replace("notes for", "changes in"))
    shown = workspace.command("plan", "release", "--against", env={"COLUMNS": "60"})
    assert all(len(line) <= 60 for line in shown.stdout.splitlines())
    assert "~ collect" in shown.stdout
    assert "was printf 'notes for %s' v1" in shown.stdout
    assert "now printf 'changes in %s' v1" in shown.stdout


def test_the_command_checks_all_and_prints_sarif(workspace: Workspace) -> None:
    workspace.write("release.yaml", RELEASE)
    assert workspace.command("validate").returncode == 0
    workspace.write("é b.yaml", "id: b\nsteps:\n  - {id: é, comand: cli true}\n")
    shown = workspace.command("validate", "--sarif")
    assert shown.returncode == 2
    log = json.loads(shown.stdout)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    unknown = next(item for item in run["results"] if item["ruleId"] == "field.unknown")
    assert rules[unknown["ruleIndex"]]["id"] == "field.unknown"
    place = unknown["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == ".fleetprompt/workflows/%C3%A9%20b.yaml"
    assert place["region"] == {"startLine": 3, "startColumn": 13, "endLine": 3, "endColumn": 19}
