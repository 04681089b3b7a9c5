"""How a run reads when it has ended or waits: outputs, steps, status, where to look next."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from fleetprompt.cells import cell_width, fold
from fleetprompt.durations import duration_text, instant_text
from fleetprompt.escaping import shown
from fleetprompt.gate_view import gate_lines
from fleetprompt.results import RunResult, RunSummary
from fleetprompt.step_rows import step_rows
from fleetprompt.table import Cell, Column, table_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt.results import PrunedRun, StepResult
    from fleetprompt.step_rows import StepRow
    from fleetprompt.style import Style

_TAIL_LINES = 8
"""Of a failed step's standard error; the rest stands in `show --json`."""


def outputs_text(result: RunResult) -> str:
    """What the run gives, ending in a line break, or empty: texts as they are, others as JSON.

    One value stands alone, so that it can be piped; several stand under their names. Without
    declared outputs it is the value of the last succeeded step.
    """
    values = result.outputs or ({} if result.output is None else {"output": result.output})
    if len(values) == 1:
        return _ended(_value_text(next(iter(values.values()))))
    return "".join(_named(name, _value_text(value)) for name, value in values.items())


def _named(name: str, text: str) -> str:
    text = text.rstrip("\n")
    return f"{name}:\n{text}\n\n" if "\n" in text else f"{name}: {text}\n"


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)


def _ended(text: str) -> str:
    return text if text.endswith("\n") or not text else f"{text}\n"


def summary_lines(result: RunResult, width: int, style: Style) -> list[str]:
    """Everything about a run but its outputs; expects a result whose texts are escaped."""
    lines = step_table(result, width, style)
    for step in result.steps:
        if step.status in ("failed", "unknown") and step.stderr_tail:
            lines += _tail_lines(step, width, style)
    lines += _artifact_lines(result, width)
    lines += ["", *_status_lines(result, width, style)]
    lines.append(f"run {result.run_id}")
    if result.waits_for is not None:
        before = result.waits_for
        lines += fold(f"waits for run {before.run_id}, which is {before.status}", width)
    lines += [f"next: {command}" for command in next_commands(result)]
    return lines


def whole_run_lines(result: RunResult, width: int, style: Style) -> list[str]:
    """A run with everything that is known of it."""
    safe = RunResult.model_validate(shown(result.to_json()))
    head = f"{safe.workflow_id or ''} {instant_text(safe.started_at)}".strip()
    lines = [style.paint(head, "bold"), ""]
    outputs = outputs_text(safe)
    if outputs:
        lines += [*outputs.rstrip("\n").split("\n"), ""]
    for gate in safe.gates:
        lines += [*gate_lines(gate, width, style), ""]
    return lines + summary_lines(safe, width, style)


def run_table(runs: Sequence[RunSummary], width: int, style: Style) -> list[str]:
    """One line for each run."""
    columns = (
        Column("RUN"),
        Column("STATUS"),
        Column("WORKFLOW", least=8),
        Column("STARTED", is_optional=True),
    )
    safe = [RunSummary.model_validate(shown(run.to_json())) for run in runs]
    rows = [
        (
            run.run_id,
            Cell(f"{style.sign(run.status)} {run.status}", style.colour_of(run.status)),
            run.workflow_id or "",
            instant_text(run.started_at),
        )
        for run in safe
    ]
    return table_lines(columns, rows, width, style)


def pruned_table(runs: Sequence[PrunedRun], width: int, style: Style) -> list[str]:
    """One line for each run that was forgotten, or would be."""
    from fleetprompt.quantities import size_text

    columns = (
        Column("RUN"),
        Column("WORKFLOW", least=8),
        Column("ENDED", is_optional=True),
        Column("SIZE", align="right"),
    )
    rows = [
        (
            shown(run.run_id),
            shown(run.workflow_id or ""),
            instant_text(run.finished_at),
            size_text(run.bytes),
        )
        for run in runs
    ]
    return table_lines(columns, rows, width, style) if rows else []


def step_table(result: RunResult, width: int, style: Style) -> list[str]:
    """One line for each step: name, status, attempts when there were several, time, error."""
    columns = (
        Column("STEP", least=12),
        Column("STATUS"),
        Column("TRY", align="right"),
        Column("TIME", align="right"),
        Column("NOTE", least=10),
    )
    is_interrupted = result.status == "interrupted"
    rows = [_step_row(row, is_interrupted, style) for row in step_rows(result.steps)]
    return table_lines(columns, rows, width, style)


def _step_row(row: StepRow, is_interrupted: bool, style: Style) -> tuple[str | Cell, ...]:
    step = row.step
    # Nobody drives the run: what was running has been stopped, or is gone.
    status = "interrupted" if is_interrupted and step.status == "running" else step.status
    state = Cell(f"{style.sign(status)} {status}", style.colour_of(status))
    if row.count > 1:
        path = row.path.replace("…", style.ellipsis)
        return (path, state, "", "", f"{row.count:,} items")
    is_timed = step.status not in ("pending", "running", "waiting") or step.duration_ms
    return (
        row.path,
        state,
        str(step.attempt) if step.attempt is not None and step.attempt > 1 else "",
        duration_text(step.duration_ms) if is_timed else "",
        _note(step),
    )


def _note(step: StepResult) -> str:
    if step.error is not None:
        return f"{step.error.code}: {step.error.message}"
    return f"exit code {step.exit_code}" if step.exit_code else (step.reason or "")


def _artifact_lines(result: RunResult, width: int) -> list[str]:
    from fleetprompt.quantities import size_text

    lines: list[str] = []
    for step in result.steps:
        for kept in step.artifacts:
            text = f"{step.step_path} left {kept.name} ({size_text(kept.size)}): {kept.sha256}"
            lines += fold(text, width)
    return ["", *lines] if lines else []


def _tail_lines(step: StepResult, width: int, style: Style) -> list[str]:
    lines = (step.stderr_tail or "").rstrip("\n").split("\n")[-_TAIL_LINES:]
    folded = [piece for line in lines for piece in fold(line, width - 4)]
    head = fold(f"{step.step_path} wrote to its standard error:", width)
    return ["", *head, *(f"  {style.bar} {line}" for line in folded)]


def _status_lines(result: RunResult, width: int, style: Style) -> list[str]:
    taken = duration_text(_duration_ms(result))
    status = f"{style.sign(result.status)} {result.status}"
    line = style.paint(status, style.colour_of(result.status)) + (f" in {taken}" if taken else "")
    if result.error is None:
        return [line]
    text = f"{result.error.message} ({result.error.code})"
    if cell_width(f"{status} in {taken}: {text}") <= width:
        return [f"{line}: {text}"]
    return [line, *(f"  {piece}" for piece in fold(text, width - 2))]


def _duration_ms(result: RunResult) -> float | None:
    from datetime import datetime

    if not (result.started_at and result.finished_at):
        return None
    try:
        started = datetime.fromisoformat(result.started_at)
        return (datetime.fromisoformat(result.finished_at) - started).total_seconds() * 1000
    except (TypeError, ValueError):
        return None


def next_commands(result: RunResult) -> list[str]:
    """The commands that make sense now, most likely first."""
    run = result.run_id
    match result.status:
        case "waiting":
            kinds = {gate.kind for gate in result.gates}
            unknown = next(
                (gate.step_path for gate in result.gates if gate.kind == "unknown_outcome"), None
            )
            commands = []
            if kinds - {"unknown_outcome"} or not kinds:
                commands.append(f"fleetprompt approve {run}")
            if unknown is not None:
                commands.append(f"fleetprompt resume {run} --retry {shlex.quote(unknown)}")
            return commands
        case "interrupted" | "pending":
            commands = [f"fleetprompt resume {run}"]
            if result.waits_for is not None and result.waits_for.status == "interrupted":
                before = result.waits_for.run_id
                commands = [f"fleetprompt resume {before}", f"fleetprompt cancel {before}"]
            return commands
        case "failed":
            path = result.error.step_path if result.error is not None else None
            if path is None:
                return [f"fleetprompt show {run}"]
            commands = [f"fleetprompt logs {run} {shlex.quote(path)}"]
            if not set(path) & set("[/"):  # a step of the workflow itself, no part of another
                commands.append(f"fleetprompt resume {run} --from {path}")
            return commands
        case "running":
            return [f"fleetprompt resume {run}", f"fleetprompt cancel {run}"]
        case _:
            return []
