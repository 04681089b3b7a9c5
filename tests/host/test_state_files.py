from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from fleetprompt.state_files import log_path, open_log, record_fault

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of this process, for one test."""
    path = tmp_path / "state"
    monkeypatch.setenv("FLEETPROMPT_HOME", str(path))
    return path


def test_logs_are_for_their_owner_alone(state: Path) -> None:
    os.close(open_log("agent"))
    modes = [
        stat.S_IMODE(path.stat().st_mode) for path in (state, state / "log", log_path("agent"))
    ]
    assert modes == [0o700, 0o700, 0o600]


def test_a_log_that_is_too_long_is_put_aside(state: Path) -> None:
    os.close(open_log("agent"))
    os.truncate(log_path("agent"), 9 * 1024 * 1024)
    fd = open_log("agent")
    os.write(fd, b"new\n")
    os.close(fd)
    assert log_path("agent").read_text() == "new\n"
    assert (state / "log" / "agent.log.1").stat().st_size == 9 * 1024 * 1024


def test_nothing_is_logged_into_the_workspace_or_through_a_link(state: Path) -> None:
    os.close(open_log("agent", root=state.parent))
    assert not (state / "log").exists()
    (state / "log").mkdir(parents=True)
    elsewhere = state.parent / "elsewhere"
    log_path("agent").symlink_to(elsewhere)
    os.close(open_log("agent"))
    assert not elsewhere.exists()


def test_a_fault_that_cannot_be_logged_still_has_a_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLEETPROMPT_HOME", "/proc/nonexistent")
    assert len(record_fault(ValueError("x"))) == 12
