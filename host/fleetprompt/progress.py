"""What is known about a run while it runs, and how that is drawn. Pure: no stream, no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetprompt.cells import cell_width, clip, pad
from fleetprompt.durations import clock_text, duration_text

if TYPE_CHECKING:
    from datetime import datetime

    from fleetprompt.results import StepStatus
    from fleetprompt.style import Style

_ACTIVE = frozenset({"started", "running", "retrying", "waiting"})

_TIME_CELLS = 7
"""The longest text of `duration_text`."""


@dataclass(slots=True)
class StepProgress:
    """The last that was heard of one step."""

    path: str
    state: str
    started_s: float
    """On the clock of whoever drives the board."""
    duration_ms: float | None = None
    note: str = ""

    @property
    def is_active(self) -> bool:
        """Whether more is to be heard of it."""
        return self.state in _ACTIVE


class Board:
    """The steps of a run in the order in which they were first heard of."""

    def __init__(self) -> None:
        self.steps: dict[str, StepProgress] = {}
        self.completed: int | None = None
        self.total: int | None = None

    def apply(self, status: StepStatus, now_s: float) -> None:
        """Take in one status chunk that came at `now_s`."""
        if status.completed is not None:
            self.completed = status.completed
        if status.total is not None:
            self.total = status.total
        if status.step_path is None or not status.state:
            return
        step = self.steps.get(status.step_path)
        if step is None:
            step = StepProgress(status.step_path, status.state, now_s)
            self.steps[status.step_path] = step
        elif status.state == "started":
            step.started_s = now_s
        step.state = status.state
        step.duration_ms = status.duration_ms
        step.note = "" if status.error is None else status.error.message
        if step.state == "retrying" and status.attempt is not None:
            step.note = f"attempt {status.attempt} failed"

    @property
    def is_active(self) -> bool:
        """Whether some step runs, so that time passes on the board."""
        return any(step.state in ("started", "running") for step in self.steps.values())


def board_lines(board: Board, now_s: float, width: int, height: int, style: Style) -> list[str]:
    """The board as at most `height` lines of at most `width` cells.

    When not all steps fit, the active ones stay, then those heard of last.
    """
    steps = list(board.steps.values())
    lines: list[str] = []
    room = max(1, height)
    if board.total and room > 1:
        done = board.completed or 0
        lines.append(style.paint(clip(f"{done} of {board.total} steps", width), "dim"))
        room -= 1
    if len(steps) > room:
        hidden = len(steps) - max(0, room - 1)
        steps = _most_telling(steps, max(0, room - 1))
        lines.append(style.paint(clip(f"{style.ellipsis} {hidden} more", width), "dim"))
    return lines + [_step_line(step, now_s, width, style) for step in steps]


def _most_telling(steps: list[StepProgress], count: int) -> list[StepProgress]:
    by_weight = sorted(range(len(steps)), key=lambda i: (steps[i].is_active, i), reverse=True)
    return [steps[i] for i in sorted(by_weight[:count])]


def _step_line(step: StepProgress, now_s: float, width: int, style: Style) -> str:
    if step.duration_ms is None and step.state in ("started", "running"):
        time = duration_text((now_s - step.started_s) * 1000)
    else:
        time = duration_text(step.duration_ms)
    room = max(width - 2, 4)
    names = max(room - _TIME_CELLS - 2, 4)
    name_width = min(names, max(16, cell_width(step.path)))
    name = pad(clip(step.path, name_width, ellipsis=style.ellipsis), name_width)
    line = f"{name}  {pad(time, _TIME_CELLS, align='right')}"
    spare = room - cell_width(line) - 2
    note = "waits for a decision" if step.state == "waiting" and not step.note else step.note
    if note and spare >= 8:
        line += "  " + clip(" ".join(note.split()), spare, ellipsis=style.ellipsis)
    sign = style.paint(style.sign(step.state), style.colour_of(step.state))
    return f"{sign} {clip(line.rstrip(), room, ellipsis=style.ellipsis)}"


def status_line(status: StepStatus, at: datetime) -> str:
    """One plain line for a status chunk: `12:00:01 step collect started`."""
    if status.step_path is None or not status.state:
        said = status.text or status.state
        if said == "run: created" and status.run_id is not None:
            said = f"run {status.run_id} created"
        return f"{clock_text(at)} {' '.join(said.split())}"
    parts = [clock_text(at), "step", status.step_path, status.state]
    time = duration_text(status.duration_ms)
    if time and status.state != "started":
        parts += ["in" if status.state == "completed" else "after", time]
    if status.state == "retrying" and status.attempt is not None:
        parts.append(f"(attempt {status.attempt} failed)")
    line = " ".join(parts)
    if status.error is not None:
        line += f": {' '.join(status.error.message.split())} ({status.error.code})"
    return line
