"""Which folder is the root, and where the search for it ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fleetprompt_indexer.root import find_root

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


def test_the_nearest_folder_with_workflows_of_its_own_is_the_root(tmp_path: Path) -> None:
    outer, inner = tmp_path / "outer", tmp_path / "outer" / "a" / "inner"
    (outer / ".fleetprompt").mkdir(parents=True)
    (inner / "src" / "deep").mkdir(parents=True)
    assert find_root(inner / "src" / "deep") == outer
    (inner / ".fleetprompt").mkdir()
    assert find_root(inner / "src" / "deep") == inner
    assert find_root(inner) == inner


def test_a_file_stands_for_its_folder(tmp_path: Path) -> None:
    (tmp_path / ".fleetprompt").mkdir()
    (tmp_path / "f.txt").write_text("x")
    assert find_root(tmp_path / "f.txt") == tmp_path


def test_the_search_neither_passes_nor_takes_the_home_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (tmp_path / ".fleetprompt").mkdir()
    (home / "work").mkdir()
    assert find_root(home / "work") is None
    (home / ".fleetprompt").mkdir()
    assert find_root(home / "work") is None
    assert find_root(home) == home


def test_a_link_or_a_file_in_place_of_the_folder_does_not_count(tmp_path: Path) -> None:
    real, linked, filed = tmp_path / "real", tmp_path / "linked", tmp_path / "filed"
    for folder in (real / ".fleetprompt", linked, filed):
        folder.mkdir(parents=True)
    (linked / ".fleetprompt").symlink_to(real / ".fleetprompt")
    (filed / ".fleetprompt").write_text("x")
    assert find_root(linked) is None
    assert find_root(filed) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")
def test_the_search_ends_at_a_folder_of_someone_else(tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs", tmp_path / "theirs" / "mine"
    (theirs / ".fleetprompt").mkdir(parents=True)
    mine.mkdir()
    assert find_root(mine) == theirs
    os.chown(theirs, 12_345, 12_345)
    assert find_root(mine) is None
    os.chown(theirs / ".fleetprompt", 12_345, 12_345)
    assert find_root(theirs) == theirs, "the owner of where one starts is trusted"


def test_a_start_that_is_not_there_has_no_root(tmp_path: Path) -> None:
    assert find_root(tmp_path / "none" / "deep") is None
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert find_root(loop) is None
