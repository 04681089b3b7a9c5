"""Listing one root: what is an entry, what is refused, and that nothing stops a scan."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from fleetprompt_indexer.scan import MAX_FILES, scan_root
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeRepository = Callable[..., Path]

SEED = """\
name: inbox-triage
args:
  tag:
    default: "family"
steps:
- id: collect
  command: cli inbox list --json
- id: approve
  command: cli inbox apply --approve
  approval: required
"""


def test_an_entry_says_what_the_head_of_the_file_says(make_repository: MakeRepository) -> None:
    root = make_repository({"inbox.yaml": SEED})
    report = scan_root(root)
    (entry,) = report.entries
    assert report.refusals == ()
    data = entry.to_json()
    sha256 = data.pop("sha256")
    assert len(sha256) == 64
    assert data == {
        "workflow_id": "inbox",
        "name": "inbox-triage",
        "description": None,
        "version": None,
        "file_path": ".fleetprompt/workflows/inbox.yaml",
        "declared_agents": [],
        "declared_tools": ["cli:inbox"],
        "inputs_schema_summary": {
            "tag": {"type": "string", "required": False, "default": "family"}
        },
        "outputs_schema_summary": {},
        "status": "unvalidated",
        "problems": [],
    }


def test_files_are_listed_by_path_and_others_left_alone(
    make_repository: MakeRepository,
) -> None:
    root = make_repository(
        {
            "b.yml": "steps: []",
            "a.json": '{"steps": []}',
            "C.YAML": "id: c\nsteps: []",
            ".hidden.yaml": "steps: []",
            "notes.md": "x",
            "d.yaml~": "x",
            "e.yaml.swp": "x",
        }
    )
    (root / ".fleetprompt" / "workflows" / "more").mkdir()
    assert [entry.workflow_id for entry in scan_root(root).entries] == ["c", "a", "b"]


def test_a_root_without_a_folder_of_its_own_is_empty_and_says_so(tmp_path: Path) -> None:
    report = scan_root(tmp_path)
    assert (report.entries, [p.code for p in report.refusals]) == ((), ["file.missing"])


def test_a_root_without_workflows_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".fleetprompt").mkdir()
    report = scan_root(tmp_path)
    assert (report.entries, report.refusals) == ((), ())


def test_every_refusal_is_an_entry_with_a_code(make_repository: MakeRepository) -> None:
    root = make_repository(
        {
            "twice.yaml": "a: 1\na: 2\n",
            "alias.yaml": "a: &x 1\nb: *x\n",
            "large.yaml": b"#" * 200_000,
            "bytes.yaml": b"a: \xff\n",
            "good.yaml": "steps: []\n",
        }
    )
    folder = root / ".fleetprompt" / "workflows"
    (folder / "link.yaml").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.yaml")
    (folder / "folder.yaml").mkdir()
    report = scan_root(root)
    found = {e.workflow_id: (e.status, [p.code for p in e.problems]) for e in report.entries}
    assert found == {
        "alias": ("invalid", ["document.alias"]),
        "bytes": ("unreadable", ["document.encoding"]),
        "folder": ("unreadable", ["file.not_regular"]),
        "good": ("unvalidated", []),
        "large": ("unreadable", ["file.too_large"]),
        "link": ("unreadable", ["file.symlink"]),
        "pipe": ("unreadable", ["file.not_regular"]),
        "twice": ("invalid", ["document.duplicate_key"]),
    }
    assert len(report.refusals) == 7
    assert all(problem.file.startswith(".fleetprompt/workflows/") for problem in report.refusals)


@pytest.mark.parametrize("linked", [".fleetprompt", ".fleetprompt/workflows"])
def test_a_folder_that_is_a_link_is_refused(
    tmp_path: Path, make_repository: MakeRepository, linked: str
) -> None:
    elsewhere = make_repository({"a.yaml": "steps: []"})
    root = tmp_path / "root"
    (root / linked).parent.mkdir(parents=True)
    (root / linked).symlink_to(elsewhere / linked)
    report = scan_root(root)
    assert report.entries == ()
    assert [(p.code, p.file) for p in report.refusals] == [("file.symlink", linked)]


def test_two_files_with_one_id_are_both_told_of_and_neither_is_found(
    make_repository: MakeRepository,
) -> None:
    root = make_repository({"a.yaml": "id: same", "b.yaml": "id: same", "c.yaml": "id: other"})
    report = scan_root(root)
    codes = {entry.file_path[-6:]: [p.code for p in entry.problems] for entry in report.entries}
    assert codes == {
        "a.yaml": ["workflow.ambiguous"],
        "b.yaml": ["workflow.ambiguous"],
        "c.yaml": [],
    }
    with pytest.raises(WorkflowError) as caught:
        report.find("same")
    assert caught.value.code == "workflow.ambiguous"
    assert "a.yaml" in caught.value.message
    assert "b.yaml" in caught.value.message
    assert report.find(".fleetprompt/workflows/b.yaml").workflow_id == "same"
    assert report.find("other").workflow_id == "other"


def test_a_workflow_that_is_not_there_is_answered_with_the_nearest_one(
    make_repository: MakeRepository,
) -> None:
    report = scan_root(make_repository({"deploy.yaml": "steps: []"}))
    with pytest.raises(WorkflowError) as caught:
        report.find("deplyo")
    assert caught.value.code == "workflow.not_found"
    assert "`deploy`" in caught.value.message


@pytest.mark.parametrize("name", ["My Flow.yaml", "UPPER.yaml", "-x.yaml", "é.yaml"])
def test_a_file_name_that_is_no_id_needs_an_id(make_repository: MakeRepository, name: str) -> None:
    (bare,) = scan_root(make_repository({name: "steps: []"})).entries
    assert [problem.code for problem in bare.problems] == ["workflow.id"]
    (named,) = scan_root(make_repository({name: "id: my-flow\nsteps: []"})).entries
    assert (named.workflow_id, named.problems) == ("my-flow", ())


def test_names_that_are_not_utf_8_are_shown_escaped(make_repository: MakeRepository) -> None:
    root = make_repository()
    folder = os.fsencode(root) + b"/.fleetprompt/workflows/"
    with open(folder + b"b\xff.yaml", "wb") as file:
        file.write(b"id: b\n")
    (entry,) = scan_root(root).entries
    assert entry.file_path == ".fleetprompt/workflows/b\\xff.yaml"
    assert json.dumps(entry.to_json()).isascii()


def test_white_space_in_names_is_shown_as_it_is(make_repository: MakeRepository) -> None:
    root = make_repository({"a  b.yaml": "id: spaces", "c\nd.yaml": "id: line"})
    found = {entry.workflow_id: entry.file_path[23:] for entry in scan_root(root).entries}
    assert found == {"spaces": "a  b.yaml", "line": "c\\nd.yaml"}
    assert scan_root(root).find(".fleetprompt/workflows/a  b.yaml").workflow_id == "spaces"


def test_a_folder_of_too_many_files_is_cut_and_says_so(make_repository: MakeRepository) -> None:
    root = make_repository({f"w{number:05}.yaml": "" for number in range(MAX_FILES + 5)})
    report = scan_root(root)
    assert [entry.workflow_id for entry in report.entries][:: MAX_FILES - 1] == ["w00000", "w00999"]
    assert report.refusals[0].code == "scan.cut"


def config(root: Path, text: str) -> None:
    (root / ".fleetprompt" / "config.toml").write_text(text)


def test_the_configuration_may_name_files_elsewhere_in_the_root(
    make_repository: MakeRepository,
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    (root / "flows").mkdir()
    (root / "flows" / "x.yaml").write_text("name: X")
    config(
        root,
        '[project]\nname = "demo"\n'
        '[[workflows]]\nid = "release"\nentry = "flows/x.yaml"\n'
        '[[workflows]]\nid = "alpha"\nentry = ".fleetprompt/workflows/a.yaml"\n',
    )
    report = scan_root(root)
    assert [(e.workflow_id, e.name) for e in report.entries] == [("alpha", "A"), ("release", "X")]
    assert report.config.name == "demo"
    assert report.refusals == ()


@pytest.mark.parametrize(
    ("text", "path", "said", "listed"),
    [
        ("x = 1", "x", "There is no `x`.", ["a"]),
        ("[projct]", "projct", "There is no `projct`.", ["a"]),
        ("[project]\nname = 3", "project.name", "`project.name` is not text.", ["a"]),
        ("[project]\nnaem = 'x'", "project.naem", "`project` has no `naem`.", ["a"]),
        ("[fleetprompt]\nenable = false", "fleetprompt.enable", "has no `enable`", ["a"]),
        ("[mcp_servers.x]\ncommand = 'y'", "mcp_servers", "not supported yet", ["a"]),
        ("[policy]\ndeny = ['cli:rm']", "policy", "nothing is listed or run", []),
    ],
)
def test_the_configuration_is_refused_where_it_would_have_no_effect(
    make_repository: MakeRepository, text: str, path: str, said: str, listed: list[str]
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    config(root, text)
    report = scan_root(root)
    (problem,) = report.refusals
    assert (problem.code, problem.severity, problem.path) == ("scan.config", "error", path)
    assert said in problem.message
    assert [entry.workflow_id for entry in report.entries] == listed


def test_a_configuration_that_is_not_utf_8_says_where(make_repository: MakeRepository) -> None:
    root = make_repository()
    (root / ".fleetprompt" / "config.toml").write_bytes(b"# caf\xe9\n")
    (problem,) = scan_root(root).refusals
    assert problem.message == "The file is not TOML: its byte 6 is not UTF-8."


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ("../x.yaml", "file.path"),
        ("/etc/x.yaml", "file.path"),
        ("flows/missing.yaml", "file.missing"),
        ("linked/x.yaml", "file.symlink"),
        ("/etc/passwd", "scan.config"),
        ("a\\u0000b.yaml", "file.path"),
    ],
)
def test_the_configuration_cannot_name_files_outside(
    make_repository: MakeRepository, tmp_path: Path, entry: str, code: str
) -> None:
    root = make_repository()
    (tmp_path / "x.yaml").write_text("name: outside")
    (root / "linked").symlink_to(tmp_path)
    config(root, f'[[workflows]]\nid = "x"\nentry = "{entry}"\n')
    report = scan_root(root)
    assert [problem.code for problem in report.refusals] == [code]
    assert all(found.status == "unreadable" for found in report.entries)


def test_a_root_that_is_not_enabled_lists_nothing(make_repository: MakeRepository) -> None:
    root = make_repository({"a.yaml": "steps: []"})
    config(root, "[fleetprompt]\nenabled = false\n")
    report = scan_root(root)
    assert report.entries == ()
    assert [problem.code for problem in report.refusals] == ["scan.disabled"]


@pytest.mark.parametrize(
    "text",
    ["x = ", "x = " + "[" * 50_000, "workflows = 3", "[[workflows]]\nid = 3", "project = 1", "\0"],
)
def test_a_broken_configuration_is_told_of_and_files_are_listed_all_the_same(
    make_repository: MakeRepository, text: str
) -> None:
    root = make_repository({"a.yaml": "steps: []"})
    config(root, text)
    report = scan_root(root)
    assert [entry.workflow_id for entry in report.entries] == ["a"]
    assert {problem.code for problem in report.refusals} == {"scan.config"}
