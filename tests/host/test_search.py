"""`fleetprompt search`: over the catalog, as scripts use it."""

from __future__ import annotations

import json
import subprocess
import sys
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
