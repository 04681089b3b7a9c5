"""`fleetprompt search`: over the catalog, as scripts use it."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]

FILES = {
    "deploy": "name: Deploy the site\ndescription: Ships a release.\n"
    "steps:\n- command: cli gh release create\n",
    "release": "description: Makes a release\nsteps:\n- tool: com.example.mail/send\n",
    "broken": "name: Release me\nx: 1\nx: 2\n",
}


@pytest.fixture
def other(root: Path, tmp_path: Path, fleetprompt: Command) -> Path:
    """Another repository; both are indexed."""
    for name, text in FILES.items():
        (root / ".fleetprompt" / "workflows" / f"{name}.yaml").write_text(text)
    folder = tmp_path / "other" / ".fleetprompt" / "workflows"
    folder.mkdir(parents=True)
    (folder / "elsewhere.yaml").write_text("description: A release elsewhere\nsteps: []\n")
    fleetprompt("index", str(root), str(tmp_path / "other"))
    return tmp_path / "other"


def statuses(fleetprompt: Command) -> dict[str, str]:
    """What `fleetprompt list` says of each workflow."""
    listed = json.loads(fleetprompt("list", "--json").stdout)["workflows"]
    return {item["workflow_id"]: item["status"] for item in listed}


def found(fleetprompt: Command, *arguments: str) -> list[str]:
    done = fleetprompt("search", *arguments, "--json")
    hits = [item["workflow_id"] for item in json.loads(done.stdout)["workflows"]]
    assert done.returncode == (0 if hits else 4)
    return hits


@pytest.mark.usefixtures("other")
def test_workflows_of_the_repository_are_found_best_first(fleetprompt: Command) -> None:
    assert found(fleetprompt, "release")[-1] == "deploy"
    assert sorted(found(fleetprompt, "release")) == ["broken", "deploy", "release"]
    assert found(fleetprompt, "ships", "rel") == ["deploy"]
    assert found(fleetprompt, "--tool", "cli:gh") == ["deploy"]
    assert found(fleetprompt, "release", "--agent", "com.example.mail") == ["release"]
    assert found(fleetprompt, "--status", "invalid") == ["broken"]
    assert found(fleetprompt, "elsewhere") == []


def test_another_repository_is_searched_when_it_is_named(other: Path, fleetprompt: Command) -> None:
    assert found(fleetprompt, "release", "--root", str(other)) == ["elsewhere"]


def test_outside_of_any_repository_all_are_searched(
    root: Path, other: Path, tmp_path: Path, environ: dict[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fleetprompt", "search", "release"],
        cwd=tmp_path, env={**environ, "COLUMNS": "200"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.splitlines()[0].split() == ["WORKFLOW", "STATUS", "ABOUT", "REPOSITORY"]
    assert str(root) in done.stdout
    assert str(other) in done.stdout


@pytest.mark.usefixtures("other")
def test_a_list_that_is_cut_says_so(fleetprompt: Command) -> None:
    done = fleetprompt("search", "release", "--limit", "1", env={"COLUMNS": "60"})
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2)
    assert done.stderr.startswith("There are more")
    assert json.loads(fleetprompt("search", "--limit", "1", "--json").stdout)["is_cut"] is True
    assert len(json.loads(fleetprompt("search", "--limit", "9", "--json").stdout)["workflows"]) == 3


def test_a_repository_that_was_never_indexed_says_so(fleetprompt: Command) -> None:
    done = fleetprompt("search", "release")
    assert (done.returncode, done.stdout) == (4, "")
    assert "`fleetprompt index` puts it there" in done.stderr


@pytest.mark.usefixtures("other")
def test_nothing_found_says_where_to_look(fleetprompt: Command) -> None:
    done = fleetprompt("search", '"; DROP', "OR")
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("Nothing is found.")


@pytest.mark.usefixtures("other")
def test_what_was_validated_is_found_by_its_status_until_it_changes(
    root: Path, fleetprompt: Command
) -> None:
    file = root / ".fleetprompt" / "workflows" / "deploy.yaml"
    file.write_text("description: Ships\nsteps:\n- {id: a, command: cli true}\n")
    fleetprompt("index")
    assert found(fleetprompt, "--status", "valid") == []
    assert fleetprompt("validate", "deploy").returncode == 0
    assert found(fleetprompt, "--status", "valid") == ["deploy"]
    fleetprompt("validate")
    assert found(fleetprompt, "--status", "invalid") == ["broken", "release"]
    listed = json.loads(fleetprompt("search", "deploy", "--json").stdout)["workflows"]
    assert (listed[0]["status"], len(listed[0]["digest"])) == ("valid", 64)
    assert statuses(fleetprompt) == {"deploy": "valid", "release": "invalid", "broken": "invalid"}
    file.write_text("description: Ships\nsteps: []\n")
    assert fleetprompt("validate", "deploy").returncode == 2
    assert found(fleetprompt, "--status", "valid") == ["deploy"], "the catalog knows no other bytes"
    assert statuses(fleetprompt)["deploy"] == "unvalidated", "a list looks at the file"
    fleetprompt("index")
    assert found(fleetprompt, "--status", "unvalidated") == ["deploy"]


def test_a_validation_that_rests_on_other_files_is_not_kept(
    root: Path, fleetprompt: Command
) -> None:
    folder = root / ".fleetprompt" / "workflows"
    (root / "tool.sh").write_text("true\n")
    (folder / "alone.yaml").write_text("steps:\n- {id: a, command: cli true}\n")
    (folder / "outer.yaml").write_text("steps:\n- {id: a, workflow: alone}\n")
    (folder / "using.yaml").write_text(
        "finally:\n- {id: z, command: cli sh tool.sh, uses: [tool.sh]}\n"
        "steps:\n- {id: a, command: cli true}\n"
    )
    fleetprompt("index")
    for names in (("alone", "outer", "using"), ()):
        assert fleetprompt("validate", *names).returncode == 0
        listed = {name: status for name, status in statuses(fleetprompt).items() if name in
                  ("alone", "outer", "using")}  # fmt: skip
        assert listed == {"alone": "valid", "outer": "unvalidated", "using": "unvalidated"}
        assert found(fleetprompt, "--status", "valid") == ["alone"]


def test_a_validation_makes_no_catalog(root: Path, home: Path, fleetprompt: Command) -> None:
    file = root / ".fleetprompt" / "workflows" / "a.yaml"
    file.write_text("steps:\n- {id: a, command: cli true}\n")
    assert fleetprompt("validate", "a").returncode == 0
    assert not (home / "catalog.db").exists()


def test_a_validation_does_not_wait_for_a_catalog_that_is_being_written(
    root: Path, home: Path, fleetprompt: Command
) -> None:
    file = root / ".fleetprompt" / "workflows" / "a.yaml"
    file.write_text("steps:\n- {id: a, command: cli true}\n")
    fleetprompt("index")
    with closing(sqlite3.connect(home / "catalog.db", isolation_level=None)) as held:
        held.execute("BEGIN IMMEDIATE")
        assert fleetprompt("validate", "a").returncode == 0
        held.execute("ROLLBACK")
    assert found(fleetprompt, "--status", "valid") == []
