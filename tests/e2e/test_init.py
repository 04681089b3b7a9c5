"""The first minutes: a repository gets a workflow that runs, and its editor knows the language."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest
from fleetprompt_testing.editor import SERVER, Editor
from fleetprompt_testing.workspace import Workspace

from fleetprompt_indexer.document import compose

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATES = ("review", "release", "triage")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A git repository with two commits, and no workflows."""
    root = tmp_path / "repository"
    root.mkdir()
    code = root / "code.py"
    for message, text in (("Begin", "x = 1\n"), ("Go on", "x = 1  \n# FIXME now\n# TODO later\n")):
        code.write_text(text)
        git(root, "add", "-A") if (root / ".git").exists() else git(root, "init", "-q")
        git(root, "add", "-A")
        git(root, "commit", "-q", "-m", message)
    return root


def git(root: Path, *arguments: str) -> str:
    """What git prints, with an identity and no configuration of this machine."""
    names = {
        f"GIT_{who}_{what}": "test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    environ = {**os.environ, **names, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *arguments], cwd=root, env=environ, capture_output=True, text=True, check=True
    )
    return done.stdout


def command(
    root: Path, *arguments: str, inside: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """What `fleetprompt` says, without any terminal, and `inside` another program's hold."""
    environ = {name: value for name, value in os.environ.items() if "TOKEN" not in name}
    return subprocess.run(
        [*inside, sys.executable, "-P", "-m", "fleetprompt", *arguments],
        cwd=root,
        env={**environ, "FLEETPROMPT_HOME": str(root.parent / "home"), "LANG": "C.UTF-8"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )


def ran(root: Path, workflow: str, *answers: dict[str, Any], **inputs: Any) -> dict[str, Any]:
    """The run of a template, with what a person answers."""
    made = Workspace(root, root.parent / "home")
    agent = made.trusted()
    try:
        result: dict[str, Any] = agent.call(
            "fp_run_workflow", {"workflow": workflow, "inputs": inputs}
        )
        for answer in answers:
            assert result["status"] == "waiting", result
            token = result["gates"][0]["token"]
            result = agent.call("fp_resume_run", {"token": token, **answer})
        return result
    finally:
        agent.dispose()


@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_is_valid_and_plans_without_a_run(repository: Path, template: str) -> None:
    made = command(repository, "init", "--template", template)
    assert made.returncode == 0, made.stderr
    assert f"wrote .fleetprompt/workflows/{template}.yaml" in made.stdout
    assert command(repository, "validate").returncode == 0
    inputs = ("--input", "tag=v1.0.0") if template == "release" else ()
    planned = command(repository, "plan", template, *inputs)
    assert (planned.returncode, planned.stderr) == (0, "")
    document = compose_file(repository / f".fleetprompt/workflows/{template}.yaml")
    schema = json.loads((repository / ".fleetprompt/workflow.schema.json").read_text())
    jsonschema_rs.validator_for(schema).validate(document)


def compose_file(path: Path) -> Any:
    return compose(path.read_bytes(), format="yaml", file=path.name).to_python()


def test_the_review_runs_and_reports(repository: Path) -> None:
    command(repository, "init")
    done = command(repository, "run", "review", "--allow-side-effects")
    assert done.returncode == 0, done.stderr
    head = git(repository, "rev-parse", "--short", "HEAD").strip()
    assert done.stdout.startswith(f"# {head} Go on\n")
    assert "- code.py: 3 added, 1 removed" in done.stdout
    assert "1 files, 1 whitespace problems, 1 files with markers" in done.stdout
    first = command(repository, "run", "review", "--allow-side-effects", "--input", "commit=HEAD~1")
    assert "Begin" in first.stdout
    odd = command(repository, "run", "review", "--allow-side-effects", "--input", "commit=--all")
    assert odd.returncode == 2


WITHOUT_NETWORK = ("unshare", "--map-root-user", "--net")


def has_no_network() -> bool:
    """Whether this machine can start a program without any network."""
    try:
        return subprocess.run([*WITHOUT_NETWORK, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not has_no_network(), reason="unshare cannot take the network away here")
@pytest.mark.parametrize(
    ("template", "given", "code", "says"),
    [
        ("review", (), 0, "1 whitespace problems"),
        ("release", ("--input", "tag=v1.0.0"), 5, "Go on"),
        ("triage", (), 5, "fix now"),
    ],
)
def test_each_template_runs_without_a_token_or_a_network(
    repository: Path, template: str, given: tuple[str, ...], code: int, says: str
) -> None:
    """To its end, or to where it asks a person, who is not there."""
    command(repository, "init", "--template", template)
    run = ("run", template, "--allow-side-effects", *given)
    done = command(repository, *run, inside=WITHOUT_NETWORK)
    assert done.returncode == code, done.stderr
    assert says in done.stdout + done.stderr


def test_the_release_asks_and_makes_the_tag(repository: Path) -> None:
    command(repository, "init", "--template", "release")
    stopped = command(repository, "run", "release", "--allow-side-effects", "--input", "tag=v1.0.0")
    assert stopped.returncode == 5, "no flag passes an approval"
    assert git(repository, "tag") == ""
    result = ran(repository, "release", {"approve": True}, tag="v1.0.0")
    assert result["status"] == "succeeded", result
    assert result["outputs"]["notes"] == "- Go on\n- Begin"
    assert git(repository, "tag") == "v1.0.0\n"
    git(repository, "commit", "-q", "--allow-empty", "-m", "More")
    result = ran(repository, "release", {"approve": False}, tag="v1.1.0")
    assert result["status"] == "canceled"
    assert git(repository, "tag") == "v1.0.0\n"
    (repository / "code.py").write_text("dirty\n")
    assert ran(repository, "release", tag="v1.2.0")["error"]["code"] == "step.postcondition"


def test_the_triage_asks_about_what_is_urgent(repository: Path) -> None:
    command(repository, "init", "--template", "triage")
    result = ran(repository, "triage", {"response": {"what": "fix now"}})
    assert result["status"] == "succeeded", result
    assert (result["outputs"]["count"], result["outputs"]["decision"]) == (2, "fix now")
    assert [marker["line"] for marker in result["outputs"]["urgent"]] == [2]
    (repository / "code.py").write_text("calm\n")
    git(repository, "commit", "-qam", "Calm down")
    result = ran(repository, "triage")
    assert (result["status"], result["outputs"]["count"]) == ("succeeded", 0)
    assert result["outputs"]["decision"] == "nothing to decide"


def test_nothing_that_exists_is_changed(repository: Path) -> None:
    command(repository, "init")
    workflow = repository / ".fleetprompt/workflows/review.yaml"
    workflow.write_text("mine")
    again = command(repository, "init", "--json")
    assert json.loads(again.stdout) == {
        "root": str(repository),
        "written": [],
        "kept": [".fleetprompt/workflows/review.yaml", ".fleetprompt/workflow.schema.json"],
    }
    assert workflow.read_text() == "mine"
    more = command(repository, "init", "--template", "triage")
    assert "wrote .fleetprompt/workflows/triage.yaml" in more.stdout
    assert "workflow.schema.json exists already" in more.stdout


def test_no_link_leads_out_of_the_repository(repository: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "workflows").mkdir(parents=True)
    for place, target in (
        (".fleetprompt", outside),
        (".fleetprompt/workflows", outside / "workflows"),
        (".fleetprompt/workflows/review.yaml", outside / "planted"),
        (".fleetprompt", outside / "file"),
    ):
        link = repository / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target)
        made = command(repository, "init")
        link.unlink()
        subprocess.run(["rm", "-rf", str(repository / ".fleetprompt")])
        if place.endswith(".yaml"):
            assert "exists already" in made.stdout
        else:
            assert (made.returncode, "init.failed" in made.stderr) == (1, True)
    assert [path.name for path in outside.rglob("*")] == ["workflows"]


def test_the_schema_names_every_field_that_a_template_uses(repository: Path) -> None:
    shown = command(repository, "schema")
    schema = json.loads(shown.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(schema)
    command(repository, "init")
    assert json.loads((repository / ".fleetprompt/workflow.schema.json").read_text()) == schema


@pytest.mark.skipif(
    SERVER is None, reason="yaml-language-server is not installed: `make test-node` does"
)
def test_an_editor_knows_the_language_from_the_files_first_line(repository: Path) -> None:
    """Nothing is set in the editor: the modeline names the schema that lies beside the file."""
    for template in TEMPLATES:
        command(repository, "init", "--template", template)
    folder = repository / ".fleetprompt/workflows"
    editor = Editor(repository)
    try:
        for template in TEMPLATES:
            file = folder / f"{template}.yaml"
            text = file.read_text()
            assert editor.open(file, text) == [], template
            lines = text.splitlines()
            (place,) = [n for n, line in enumerate(lines) if line.startswith("description:")]
            assert "What the workflow is for" in editor.hover(file, place, 3)
        text = (folder / "release.yaml").read_text()
        other = folder / "other.yaml"
        found = editor.open(other, text.replace("approval:", "aproval:"))
        assert ["aproval" in item["message"] for item in found] == [True]
        begun = text.partition("\nsteps:")[0] + "\nsteps:\n  - id: a\n    command: cli true\n    "
        third = folder / "third.yaml"
        editor.open(third, begun)
        offered = editor.completions(third, begun.count("\n"), 4)
        assert {"approval", "retry", "for_each", "if", "needs"} <= offered
    finally:
        editor.close()
