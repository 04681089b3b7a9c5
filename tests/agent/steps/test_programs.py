"""Which file a program's name means, and which directories are never searched."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from fleetprompt_agent.steps.programs import PathCleaner, SearchPath, find_program, program_sha256
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.steps.conftest import Bench


def _program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def _clean(root: Path, *entries: str | Path) -> tuple[str, ...]:
    return PathCleaner(os.pathsep.join(str(entry) for entry in entries)).clean(root).entries


def test_entries_keep_their_order_and_come_once(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()
    given = [tmp_path / name for name in "bacab"]

    assert _clean(tmp_path / "root", *given) == tuple(str(tmp_path / name) for name in "bac")


def test_relative_missing_and_file_entries_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    assert _clean(tmp_path, ".", "", "bin", tmp_path / "missing", tmp_path / "file") == ()


def test_a_directory_that_everybody_may_write_to_is_left_out(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)

    assert _clean(tmp_path / "root", shared) == ()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_left_out(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    os.chown(foreign, 4321, -1)

    assert _clean(tmp_path / "root", foreign) == ()


def test_the_workspace_is_left_out_however_it_is_spelled(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (tmp_path / "rooted").mkdir()
    link = tmp_path / "link"
    link.symlink_to(root / "bin")
    linked_root = tmp_path / "linked-root"
    linked_root.symlink_to(root)
    spellings = (root, root / "bin", f"{root}/../root/bin", link, linked_root / "bin")

    assert _clean(root, *spellings) == ()
    assert _clean(linked_root, *spellings) == ()
    assert _clean(root, tmp_path / "rooted") == (str(tmp_path / "rooted"),)


def test_a_directory_that_appears_is_searched_by_the_next_step(tmp_path: Path) -> None:
    cleaner = PathCleaner(str(tmp_path / "late"))
    assert cleaner.clean(tmp_path / "root").entries == ()

    (tmp_path / "late").mkdir()

    assert cleaner.clean(tmp_path / "root").entries == (str(tmp_path / "late"),)


def test_a_name_is_the_first_executable_file_on_the_path(tmp_path: Path) -> None:
    (tmp_path / "a" / "tool").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "tool").write_text("not executable")
    wanted = _program(tmp_path / "c" / "tool")
    _program(tmp_path / "d" / "tool")
    path = SearchPath(tuple(str(tmp_path / name) for name in "abcd"), ())

    assert find_program("tool", path, tmp_path / "root") == str(wanted)


def test_a_program_of_the_workspace_is_named_in_the_refusal(tmp_path: Path) -> None:
    tool = _program(tmp_path / "venv" / "bin" / "tool")
    path = PathCleaner(str(tool.parent)).clean(tmp_path)

    with pytest.raises(RequestError, match=r"`\./venv/bin/tool`") as caught:
        find_program("tool", path, tmp_path)

    assert caught.value.code == "cli.not_found"


def test_a_relative_path_belongs_to_the_workspace_not_to_the_directory(bench: Bench) -> None:
    _program(bench.root / "scripts" / "x", "#!/bin/sh\npwd\n")
    (bench.root / "sub").mkdir()

    outcome = bench.run("scripts/x", cwd="sub")

    assert outcome.result["text"] == str(bench.root / "sub")


def test_a_program_is_executed_by_the_path_that_was_written(tmp_path: Path) -> None:
    """A virtual environment's python is a symlink, and finds itself by the link's own path."""
    _program(tmp_path / "outside" / "python3")
    link = tmp_path / "root" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../outside/python3")

    found = find_program("./bin/python", SearchPath((), ()), tmp_path / "root")

    assert found == str(link)


@pytest.mark.parametrize("name", ["../tool", "bin/../../tool", "./../tool", ".."])
def test_a_relative_path_does_not_leave_the_workspace(tmp_path: Path, name: str) -> None:
    _program(tmp_path / "tool")
    (tmp_path / "root").mkdir()

    with pytest.raises(RequestError) as caught:
        find_program(name, SearchPath((), ()), tmp_path / "root")

    assert caught.value.code == "cli.not_found"


def test_an_absolute_path_is_taken_as_it_is(tmp_path: Path) -> None:
    tool = _program(tmp_path / "tool")

    assert find_program(str(tool), SearchPath((), ()), tmp_path / "root") == str(tool)


@pytest.mark.parametrize("name", ["./dir", "./plain", "./dangling"])
def test_what_is_no_program_is_said_to_be_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "plain").touch()
    (tmp_path / "dangling").symlink_to("nowhere")

    with pytest.raises(RequestError) as caught:
        find_program(name, SearchPath((), ()), tmp_path)

    assert caught.value.code == "cli.not_executable"


def test_a_digest_follows_the_content(tmp_path: Path) -> None:
    tool = _program(tmp_path / "tool", "one")
    assert program_sha256(str(tool)) == hashlib.sha256(b"one").hexdigest()

    replacement = _program(tmp_path / "new", "two")
    replacement.replace(tool)

    assert program_sha256(str(tool)) == hashlib.sha256(b"two").hexdigest()


def test_an_unreadable_program_has_no_digest(tmp_path: Path) -> None:
    assert program_sha256(str(tmp_path / "missing")) is None
