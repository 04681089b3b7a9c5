"""The command, as a person uses it: at a real terminal, with a real agent."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    At = Callable[..., Any]
    Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = pytest.mark.usefixtures("repository")


def published(repository: Path) -> list[str]:
    file = repository / "published"
    return file.read_text().split() if file.exists() else []


def test_a_gate_is_decided_in_place(repository: Path, at_terminal: At) -> None:
    terminal = at_terminal("run", "release")
    terminal.expect("This run wants to change things")
    terminal.expect("Approve? [y/N/later] ")
    terminal.send("what\n")
    terminal.expect("Please answer y, n or later.")
    terminal.expect("Approve? [y/N/later] ")
    assert published(repository) == []
    terminal.send("y\n")
    asked = terminal.expect("Approve? [y/N/later] ")
    order = [
        asked.index(part)
        for part in ("What will happen:", "sh publish.sh v1", "Ship it?", "not to be trusted")
    ]
    assert order == sorted(order)
    assert "three commits" in asked
    assert published(repository) == []
    terminal.send("YES\n")
    terminal.expect("published v1")
    assert terminal.end() == 0
    assert published(repository) == ["v1"]
    assert all(len(line) <= 60 for line in terminal.screen)


def test_a_denied_gate_ends_the_run_with_nothing_done(repository: Path, at_terminal: At) -> None:
    terminal = at_terminal("run", "release", "--allow-side-effects")
    terminal.expect("Approve? [y/N/later] ")
    terminal.send("\n")
    terminal.expect("canceled")
    assert terminal.end() == 3
    assert published(repository) == []


def test_a_gate_that_is_left_open_can_be_approved_later(repository: Path, at_terminal: At) -> None:
    first = at_terminal("run", "release", "--allow-side-effects")
    first.expect("Approve? [y/N/later] ")
    first.send("later\n")
    first.expect("next: fleetprompt approve ")
    assert first.end() == 5
    second = at_terminal("approve")
    second.expect("Ship it?")
    second.expect("Approve? [y/N/later] ")
    second.send("y\n")
    second.expect("published v1")
    assert second.end() == 0
    assert published(repository) == ["v1"]


def test_a_gate_that_is_left_open_does_not_hold_up_another(
    repository: Path, at_terminal: At
) -> None:
    terminal = at_terminal("run", "branches", "--allow-side-effects")
    terminal.expect("publish.sh left")
    terminal.expect("Approve? [y/N/later] ")
    terminal.send("later\n")
    terminal.expect("publish.sh right")
    terminal.expect("Approve? [y/N/later] ")
    terminal.send("y\n")
    terminal.expect("next: fleetprompt approve ")
    assert terminal.end() == 5
    assert published(repository) == ["right"]


def test_a_decision_is_read_from_the_terminal_and_not_from_a_pipe(
    at_terminal: At, fleetprompt: Command
) -> None:
    fleetprompt("run", "release", "--allow-side-effects")
    reading, writing = os.pipe()
    terminal = at_terminal("approve", stdout=writing)
    os.close(writing)
    terminal.expect("Approve? [y/N/later] ")
    terminal.send("y\n")
    assert terminal.end() == 0
    with os.fdopen(reading) as output:
        assert output.read() == "published v1\n"


def test_a_run_can_be_denied_with_a_reason(
    repository: Path, at_terminal: At, fleetprompt: Command
) -> None:
    fleetprompt("run", "release", "--allow-side-effects")
    terminal = at_terminal("deny", "--reason", "not on a friday")
    terminal.expect("Deny? [y/N] ")
    terminal.send("y\n")
    terminal.expect("canceled")
    terminal.expect("not on a friday")
    assert terminal.end() == 3
    assert published(repository) == []


def test_ctrl_c_at_a_question_leaves_it_open(at_terminal: At) -> None:
    terminal = at_terminal("run", "release", "--allow-side-effects")
    terminal.expect("Approve? [y/N/later] ")
    terminal.send("\x03")
    terminal.expect("next: fleetprompt approve")
    assert terminal.end() == 5


def test_ctrl_c_cancels_what_runs(barrier: Any, at_terminal: At) -> None:
    terminal = at_terminal("run", "blocked", "--allow-side-effects")
    barrier.wait()
    terminal.send("\x03")
    terminal.expect("Canceling the run.")
    terminal.expect("canceled")
    assert terminal.end() == 130


def test_a_second_ctrl_c_leaves_at_once(
    barrier: Any, at_terminal: At, fleetprompt: Command
) -> None:
    barrier.set_step("trap '' TERM")
    terminal = at_terminal("run", "blocked", "--allow-side-effects")
    barrier.wait()
    terminal.send("\x03")
    terminal.expect("Canceling the run.")
    terminal.send("\x03")
    terminal.expect("fleetprompt resume ")
    assert terminal.end() == 130
    assert fleetprompt("resume").returncode == 130


def test_an_agent_that_dies_loses_nothing_and_repeats_nothing_silently(
    barrier: Any, at_terminal: At, fleetprompt: Command
) -> None:
    terminal = at_terminal("run", "blocked", "--allow-side-effects")
    barrier.wait()
    children = subprocess.run(
        ["pgrep", "-P", str(terminal.process.pid)], capture_output=True, text=True
    )
    os.kill(int(children.stdout.split()[0]), signal.SIGKILL)
    terminal.expect("code: protocol.closed")
    terminal.expect("next: fleetprompt resume ")
    assert terminal.end() == 6
    resumed = fleetprompt("resume")
    assert resumed.returncode == 5
    assert "Nobody can tell whether this step took effect: block" in resumed.stderr
    assert "--retry block" in resumed.stderr
    again = at_terminal("resume", "--retry", "block")
    again.expect("Run it again? [y/N] ")
    again.send("y\n")
    barrier.wait()
    barrier.release("second time")
    again.expect("second time")
    assert again.end() == 0


def test_an_unknown_outcome_can_be_told(barrier: Any, at_terminal: At) -> None:
    terminal = at_terminal("run", "blocked", "--allow-side-effects")
    barrier.wait()
    terminal.process.kill()
    terminal.process.wait(timeout=30)
    resumed = at_terminal("resume", env={"NO_COLOR": "1"})
    resumed.expect("[retry/succeed/fail/LATER] ")
    resumed.send("succeed\n")
    resumed.expect("Its result as JSON")
    resumed.send("{no\n")
    resumed.expect("The JSON in the answer is wrong")
    resumed.expect("Its result as JSON")
    resumed.send('{"told": true}\n')
    resumed.expect("✓ succeeded in")
    assert '"told": true\n}' in resumed.seen
    assert resumed.end() == 0


def test_what_a_program_prints_cannot_move_the_cursor(at_terminal: At) -> None:
    terminal = at_terminal("run", "hostile", "--allow-side-effects", env={"NO_COLOR": "1"})
    terminal.expect("\\x1b[2Jred\\u202e")
    assert terminal.end() == 0
    assert "\x1b[2J" not in terminal.seen
    assert "\x1b[3" not in terminal.seen


def test_an_answer_that_comes_too_late_is_not_taken(
    repository: Path, at_terminal: At, fleetprompt: Command
) -> None:
    fleetprompt("run", "release", "--allow-side-effects")
    slow = at_terminal("approve")
    slow.expect("Approve? [y/N/later] ")
    quick = at_terminal("approve")
    quick.expect("Approve? [y/N/later] ")
    slow.send("n\n")
    slow.expect("another terminal asks too")
    slow.expect("Approve? [y/N/later] ")
    quick.send("n\n")
    quick.expect("another terminal asks too")
    quick.expect("Approve? [y/N/later] ")
    quick.send("y\n")
    quick.expect("published v1")
    assert quick.end() == 0
    slow.send("n\n")
    slow.expect("the run has ended meanwhile")
    slow.expect("succeeded")
    assert slow.end() == 0
    assert published(repository) == ["v1"]


def test_an_approval_of_a_run_that_was_canceled_elsewhere_changes_nothing(
    repository: Path, at_terminal: At, fleetprompt: Command
) -> None:
    fleetprompt("run", "release", "--allow-side-effects")
    terminal = at_terminal("approve")
    terminal.expect("Approve? [y/N/later] ")
    assert fleetprompt("cancel").returncode == 0
    terminal.send("y\n")
    terminal.expect("the run has ended meanwhile")
    assert terminal.end() == 130
    assert published(repository) == []


def test_a_run_that_waits_for_another_one_says_so_and_can_be_left_to_itself(
    repository: Path, barrier: Any, fleetprompt: Command, at_terminal: At
) -> None:
    file = repository / ".fleetprompt" / "workflows" / "blocked.yaml"
    file.write_text(f"concurrency: {{group: one}}\n{file.read_text()}")
    first = fleetprompt("run", "blocked", "--allow-side-effects", "--detach").stdout.strip()
    barrier.wait()
    detached = fleetprompt("run", "blocked", "--allow-side-effects", "--detach")
    assert (detached.returncode, len(detached.stdout.strip())) == (0, 36)
    terminal = at_terminal("resume", detached.stdout.strip(), columns=120)
    terminal.expect(f"Waits for run {first}, which is running.")
    barrier.release("first")
    barrier.wait()
    barrier.release("second")
    terminal.expect("succeeded")
    assert terminal.end() == 0
