"""Who owns a run: no later process is mistaken for the owner, and a dead one is known as dead."""

from __future__ import annotations

import os
import signal
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetprompt_agent.engine.owner import Owner, boot_clock_s, is_live

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = Owner.of_this_process()


def owner_of(process: subprocess.Popen[bytes], supervisor: int | None = None) -> Owner:
    """The identity that the process would give itself."""
    stat = f"/proc/{process.pid}/stat"
    with open(stat, encoding="ascii") as file:
        start = file.read().rpartition(")")[2].split()[19]
    guarded = Owner.of_this_process(supervisor)
    return replace(guarded, pid=process.pid, start=start)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def test_this_process_is_not_gone() -> None:
    assert not ME.is_gone()
    assert not Owner.of_this_process(os.getpid()).is_gone()


def test_an_identity_survives_its_text() -> None:
    guarded = Owner.of_this_process(os.getpid())
    assert Owner.from_text(guarded.to_text()) == guarded
    assert guarded.supervisor_start == guarded.start != ""


@given(st.text() | st.sampled_from(["{}", "[]", "null", '{"boot": 1}', '{"pid": "x"}', "1e999"]))
def test_what_is_no_identity_is_nobody(text: str) -> None:
    assert Owner.from_text(text) is None
    assert not is_live(text, boot_clock_s() + 1000)


def test_an_identity_with_fields_of_another_kind_is_nobody() -> None:
    text = ME.to_text().replace(f'"pid":{ME.pid}', '"pid":"../1"')
    assert Owner.from_text(text) is None


def test_a_process_is_gone_once_it_has_ended(sleeper: subprocess.Popen[bytes]) -> None:
    owner = owner_of(sleeper)
    assert not owner.is_gone()
    sleeper.kill()
    # A zombie is as dead as one that its parent has looked at.
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_gone()
    sleeper.wait()
    assert owner.is_gone()


def test_a_frozen_process_is_not_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, sleeper.pid, os.WSTOPPED)
    assert not owner_of(sleeper).is_gone()


def test_a_pid_that_was_used_again_is_not_the_owner(sleeper: subprocess.Popen[bytes]) -> None:
    assert replace(owner_of(sleeper), start="1").is_gone()


def test_an_owner_whose_supervisor_lives_is_not_gone(sleeper: subprocess.Popen[bytes]) -> None:
    """Its steps may still act."""
    with subprocess.Popen(["sleep", "1000"]) as supervisor:
        owner = owner_of(sleeper, supervisor.pid)
        sleeper.kill()
        sleeper.wait()
        assert not owner.is_gone()
        supervisor.kill()
    assert owner.is_gone()


def test_everybody_of_another_boot_is_gone() -> None:
    assert replace(ME, boot="another").is_gone()


def test_who_cannot_be_seen_is_not_gone_before_the_lease_ends() -> None:
    hidden = replace(ME, pid_namespace="another", pid=2**22, start="1")
    assert not hidden.is_gone()
    assert is_live(hidden.to_text(), boot_clock_s() + 1000)
    assert not is_live(hidden.to_text(), boot_clock_s() - 1)


def test_the_living_lose_a_lease_that_has_ended() -> None:
    assert is_live(ME.to_text(), boot_clock_s() + 1000)
    assert not is_live(ME.to_text(), boot_clock_s())


def test_the_boot_clock_does_not_go_back() -> None:
    readings = [boot_clock_s() for _ in range(1000)]
    assert readings == sorted(readings)
