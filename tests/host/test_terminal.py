"""What is asked and drawn at a terminal, with a real one."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    At = Callable[..., Any]

ASK = """
import asyncio
from fleetprompt.terminal import open_terminal
with open_terminal() as terminal:
    terminal.write_lines([f"{terminal.width} columns"])
    answer = asyncio.run(terminal.ask("Approve? "))
    terminal.write_lines([f"got {answer!r}"])
"""


def test_an_answer_is_read_from_the_controlling_terminal(python_at_terminal: At) -> None:
    terminal = python_at_terminal(ASK)
    terminal.expect("60 columns")
    terminal.expect("Approve? ")
    terminal.send("  yes \n")
    terminal.expect("got 'yes'")
    assert terminal.end() == 0


CANNOT_WATCH = """
import selectors
class CannotWatch(selectors.SelectSelector):
    def register(self, fileobj, events, data=None):
        import os, stat
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if stat.S_ISCHR(os.fstat(fd).st_mode):
            raise OSError("no terminals")
        return super().register(fileobj, events, data)
runner = asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(CannotWatch()))
"""


def test_an_event_loop_that_cannot_watch_a_terminal_will_do(python_at_terminal: At) -> None:
    code = ASK.replace("asyncio.run", "runner.run")
    terminal = python_at_terminal(code.replace("import asyncio", f"import asyncio{CANNOT_WATCH}"))
    terminal.expect("Approve? ")
    terminal.send("y\n")
    terminal.expect("got 'y'")
    assert terminal.end() == 0


def test_the_end_of_input_is_no_answer(python_at_terminal: At) -> None:
    terminal = python_at_terminal(ASK)
    terminal.expect("Approve? ")
    terminal.send("\x04")
    terminal.expect("got None")
    assert terminal.end() == 0


def test_what_was_typed_before_the_question_is_no_answer(python_at_terminal: At) -> None:
    """The code waits until the line is there before it asks."""
    code = ASK.replace(
        "    answer =", "    import select; select.select([0], [], [])\n    answer ="
    )
    terminal = python_at_terminal(code)
    terminal.expect("60 columns")
    terminal.send("y\n")
    terminal.expect("Approve? ")
    terminal.send("n\n")
    terminal.expect("got 'n'")
    assert terminal.end() == 0


def test_without_a_controlling_terminal_there_is_none() -> None:
    code = "from fleetprompt.terminal import open_terminal; print(open_terminal())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], start_new_session=True, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("None\n", 0)


DRAW = """
import asyncio, os, sys
from fleetprompt.display import LiveDisplay
from fleetprompt.results import StepStatus
from fleetprompt.style import style_of

async def main():
    display = LiveDisplay(sys.stderr, style_of(sys.stderr, os.environ))
    def say(path, state, **fields):
        display.update(StepStatus(step_path=path, state=state, **fields))
    say("collect", "started", total=30, completed=0)
    say("a-step-whose-name-is-longer-than-the-terminal-is-wide-by-a-bit", "started")
    display.note("first note")
    say("collect", "completed", duration_ms=1200, completed=1, total=30)
    for i in range(28):
        say(f"item[{i}]", "failed", error={"code": "x", "message": "it went wrong " * 9})
    display.note("second note")
    if "KEEP" not in os.environ:
        display.clear()
        print("the end")

asyncio.run(main())
"""


def test_steps_are_drawn_in_place_within_the_screen(python_at_terminal: At) -> None:
    terminal = python_at_terminal(DRAW, env={"KEEP": "1"})
    assert terminal.end() == 0
    first, second, head, more, *steps = terminal.screen
    assert (first, second) == ("first note", "second note")
    assert head == "1 of 30 steps"
    assert more.startswith("… ")
    assert len(steps) == 20
    assert steps[0].startswith("▸ a-step-whose-name")
    assert all(len(line) < 60 for line in terminal.screen)


def test_what_was_drawn_is_taken_off_before_anything_else_is_shown(
    python_at_terminal: At,
) -> None:
    terminal = python_at_terminal(DRAW)
    assert terminal.end() == 0
    assert terminal.screen == ["first note", "second note", "the end"]


@pytest.mark.parametrize(("env", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colour_is_for_terminals_that_want_it(
    python_at_terminal: At, env: dict[str, str], *, coloured: bool
) -> None:
    terminal = python_at_terminal(DRAW, env=env)
    assert terminal.end() == 0
    assert ("\x1b[31m" in terminal.seen) is coloured
