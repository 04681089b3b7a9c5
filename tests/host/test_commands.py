"""The command, as scripts use it: no terminal, a real agent."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("repository")

TIME = r"\d\d:\d\d:\d\d"


def test_a_run_prints_its_outputs_alone_on_standard_output(fleetprompt: Command) -> None:
    done = fleetprompt("run", "hello", "--allow-side-effects", "--input", "times=2")
    assert (done.returncode, done.stdout) == (0, "hello-world-3\n")
    lines = done.stderr.splitlines()
    assert re.fullmatch(rf"{TIME} step greet started", lines[0])
    assert re.fullmatch(rf"{TIME} step greet completed in .*", lines[1])
    assert lines[-2].startswith("✓ succeeded in ")
    assert lines[-1].startswith("run ")


def test_inputs_come_from_a_file_and_arguments_win(fleetprompt: Command) -> None:
    done = fleetprompt(
        "run", "hello", "--allow-side-effects", "--inputs", "-", "--input", "who=you",
        stdin='{"who": "me", "times": 8}',
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "hello-you-9\n")


def test_json_is_one_document_with_the_result_and_without_tokens(fleetprompt: Command) -> None:
    done = fleetprompt("run", "release", "--json")
    assert done.returncode == 5
    result = json.loads(done.stdout)
    assert result["status"] == "waiting"
    (gate,) = result["gates"]
    assert gate["kind"] == "effects"
    assert "token" not in gate
    assert f"fleetprompt approve {result['run_id']}" in done.stderr


def test_a_run_that_waits_shows_its_gate_and_says_how_to_approve(
    repository: Path, fleetprompt: Command
) -> None:
    done = fleetprompt("run", "release")
    assert (done.returncode, done.stdout) == (5, "")
    assert "Steps with side effects:" in done.stderr
    assert "sh publish.sh v1" in done.stderr
    assert re.search(r"next: fleetprompt approve \S+\n$", done.stderr)
    assert not (repository / "published").exists()


def test_nobody_can_decide_without_a_terminal(repository: Path, fleetprompt: Command) -> None:
    fleetprompt("run", "release")
    for command in (["approve"], ["deny"], ["resume", "--retry", "publish"]):
        done = fleetprompt(*command, stdin="y\ny\ny\n")
        assert (done.returncode, "decision.no_terminal" in done.stderr) == (3, True)
    assert not (repository / "published").exists()


def test_a_failed_run_shows_what_the_step_wrote(fleetprompt: Command) -> None:
    done = fleetprompt("run", "failing", "--allow-side-effects")
    assert (done.returncode, done.stdout) == (1, "")
    assert "broken wrote to its standard error:" in done.stderr
    assert "/nonexistent/file" in done.stderr
    assert "step.exit_code" in done.stderr


def test_an_invalid_workflow_is_shown_with_its_source(fleetprompt: Command) -> None:
    for command in (["run", "invalid"], ["validate", "invalid"]):
        done = fleetprompt(*command)
        shown = done.stdout + done.stderr
        assert done.returncode == 2
        assert ".fleetprompt/workflows/invalid.yaml:3:" in shown
        assert "  - {id: a, comand: cli true}" in shown
        assert "^^^^^^" in shown
        assert "code: field.unknown" in shown


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["run", "hello", "--input", "times=many"], 2, "inputs.invalid"),
        (["run", "hello", "--inputs", "/nonexistent"], 2, "inputs.invalid"),
        (["show"], 4, "run.not_found"),
        (["list", "--root", "/nonexistent"], 4, "root.not_found"),
    ],
)
def test_an_error_is_a_sentence_with_its_code(
    fleetprompt: Command, arguments: list[str], code: int, error: str
) -> None:
    done = fleetprompt(*arguments)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.endswith(f"  code: {error}\n")


def test_an_error_is_a_document_for_programs(fleetprompt: Command) -> None:
    done = fleetprompt("run", "helo", "--json")
    answer: dict[str, Any] = json.loads(done.stdout)
    assert (done.returncode, answer["ok"]) == (4, False)
    assert answer["error"]["code"] == "workflow.not_found"


def test_runs_can_be_listed_shown_and_told(fleetprompt: Command) -> None:
    run_id = json.loads(fleetprompt("run", "release", "--json").stdout)["run_id"]
    listed = fleetprompt("runs")
    assert run_id in listed.stdout
    assert "waiting" in listed.stdout
    shown = fleetprompt("show", run_id[:-4])
    assert shown.stdout.startswith("release ")
    assert "This run wants to change things" in shown.stdout
    events = json.loads(fleetprompt("timeline", run_id, "--json").stdout)["events"]
    assert events[0]["type"] == "run.created"
    assert {event["correlation_id"] for event in events} == {run_id}


def test_a_waiting_run_can_be_canceled(fleetprompt: Command) -> None:
    fleetprompt("run", "release")
    first = fleetprompt("cancel", "--reason", "not today")
    assert (first.returncode, "canceled" in first.stdout) == (0, True)


def test_every_workflow_is_validated_when_none_is_named(fleetprompt: Command) -> None:
    done = fleetprompt("validate", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["valid"]) == (2, False)
    valid = {item["workflow_id"]: item["valid"] for item in found["workflows"]}
    assert valid.pop("invalid") is False
    assert all(valid.values())


def test_a_workflow_may_be_named_by_its_path_from_here(fleetprompt: Command) -> None:
    done = fleetprompt("validate", ".fleetprompt/workflows/hello.yaml")
    assert (done.returncode, done.stdout) == (0, "✓ hello is valid\n")


def test_a_workflow_is_described_without_running_it(fleetprompt: Command) -> None:
    done = fleetprompt("describe", "hello", env={"COLUMNS": "60"})
    assert done.returncode == 0
    for part in ("Says hello", "times", "integer", "cli:printf", "process:exec:printf"):
        assert part in done.stdout
    assert all(len(line) <= 60 for line in done.stdout.splitlines())


def test_the_list_needs_no_agent_and_fits(fleetprompt: Command) -> None:
    done = fleetprompt("list", env={"COLUMNS": "60", "FLEETPROMPT_HOME": "/nonexistent"})
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == ["WORKFLOW", "STATUS", "ABOUT"]
    assert "Says hello" in done.stdout
    assert all(len(line) <= 60 for line in done.stdout.splitlines())
    listed = json.loads(fleetprompt("list", "--json").stdout)
    assert [item["workflow_id"] for item in listed["workflows"]][:2] == ["blocked", "branches"]


def test_a_detached_run_goes_on_by_itself(barrier: Any, fleetprompt: Command) -> None:
    done = fleetprompt("run", "blocked", "--allow-side-effects", "--detach")
    assert done.returncode == 0, done.stderr
    barrier.wait()
    barrier.release("through")
    followed = fleetprompt("resume", done.stdout.strip())
    assert (followed.returncode, followed.stdout) == (0, "through\n")


def test_a_detached_run_that_cannot_start_says_why(fleetprompt: Command) -> None:
    done = fleetprompt("run", "helo", "--detach")
    assert (done.returncode, done.stdout) == (4, "")
    assert "workflow.not_found" in done.stderr


def test_output_that_is_not_shown_to_a_person_is_left_as_it_is(fleetprompt: Command) -> None:
    done = fleetprompt("run", "hostile", "--allow-side-effects")
    assert done.stdout == "\x1b[2Jred\u202e\n"
    assert "\x1b" not in done.stderr


def test_the_catalog_is_brought_up_to_date(
    repository: Path, fleetprompt: Command, home: Path
) -> None:
    first = fleetprompt("index")
    assert first.returncode == 0
    assert re.match(r"7 workflows in 1 repository: 7 new, 0 changed, 0 removed\.\n", first.stdout)
    assert (home / "catalog.db").exists()
    (repository / ".fleetprompt" / "workflows" / "hello.yaml").unlink()
    second = json.loads(fleetprompt("index", str(repository), "--json").stdout)
    assert (second["found"], second["removed"]) == (6, 1)
    missing = fleetprompt("index", "/nonexistent")
    assert (missing.returncode, "root.not_found" in missing.stderr) == (4, True)


def test_a_large_output_is_printed_whole_and_many_steps_in_part(
    repository: Path, fleetprompt: Command
) -> None:
    write = (repository / ".fleetprompt" / "workflows" / "long.yaml").write_text
    write(
        "inputs: {items: {type: array, items: {type: integer}, required: true}}\n"
        "outputs: {text: $large.stdout}\n"
        "steps:\n"
        "  - id: large\n"
        "    command: cli sh -c \"yes 'a line of text' | head -c 3000000\"\n"
        "    max_output_bytes: 4000000\n"
        "  - {id: work, for_each: inputs.items, tool: flow:noop}\n"
    )
    items = json.dumps(list(range(300)))
    done = fleetprompt("run", "long", "--allow-side-effects", "--input", f"items={items}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ("a line of text\n" * 200_000)[:3_000_000]
    assert re.search(r"work\[…\] +✓ succeeded +300 items", done.stderr)
    shown = json.loads(fleetprompt("show", "--json").stdout)
    assert shown["outputs"] == {"text": done.stdout}
    assert len(shown["steps"]) == 302
    assert "left_out" not in shown
