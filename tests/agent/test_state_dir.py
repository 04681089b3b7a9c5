"""Where the journal may lie."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from fleetprompt_agent.state_dir import open_state_dir
from fleetprompt_protocol.errors import OperatorError

if TYPE_CHECKING:
    from pathlib import Path


def test_it_is_made_for_its_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPROMPT_HOME", str(tmp_path / "a/b"))
    assert open_state_dir() == tmp_path / "a/b"
    assert (tmp_path / "a/b").stat().st_mode & 0o777 == 0o700


def test_it_is_not_even_made_inside_the_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "root")
    for home in (tmp_path / "root/state", tmp_path / "link/state"):
        monkeypatch.setenv("FLEETPROMPT_HOME", str(home))
        with pytest.raises(OperatorError) as caught:
            open_state_dir(tmp_path / "root")
        assert caught.value.code == "state.unsafe"
    assert list((tmp_path / "root").iterdir()) == []


def test_one_that_others_can_write_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETPROMPT_HOME", str(tmp_path / "open"))
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(OperatorError) as caught:
        open_state_dir()
    assert caught.value.code == "state.unsafe"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a directory away")
def test_one_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPROMPT_HOME", str(tmp_path / "theirs"))
    (tmp_path / "theirs").mkdir(mode=0o700)
    os.chown(tmp_path / "theirs", 12345, 12345)
    with pytest.raises(OperatorError) as caught:
        open_state_dir()
    assert caught.value.code == "state.unsafe"


def test_a_place_that_cannot_be_made_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETPROMPT_HOME", "/proc/nowhere")
    with pytest.raises(OperatorError) as caught:
        open_state_dir()
    assert caught.value.code == "journal.unavailable"
