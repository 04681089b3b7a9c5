"""What the exit code of the command means, and which one follows from an error or a run."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetprompt_protocol.errors import FleetPromptError


class ExitCode(IntEnum):
    """Every exit code of `fleetprompt`, as documented in docs/cli.md."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    """Wrong arguments or inputs, or a workflow with errors."""
    DENIED = 3
    """A person or a policy said no, or nobody was there to ask."""
    NOT_FOUND = 4
    WAITING = 5
    """The run waits for a person's decision."""
    INTERRUPTED = 6
    """The run is unfinished and nobody drives it; `fleetprompt resume` continues it."""
    INTERNAL = 70
    """A fault of ours."""
    CANCELED = 130


_BY_CODE = {
    "workflow.not_found": ExitCode.NOT_FOUND,
    "run.not_found": ExitCode.NOT_FOUND,
    "run.step_not_found": ExitCode.NOT_FOUND,
    "run.ambiguous": ExitCode.USAGE,
    "gate.not_found": ExitCode.NOT_FOUND,
    "root.not_found": ExitCode.NOT_FOUND,
    "tool.denied": ExitCode.DENIED,
    "step.denied": ExitCode.DENIED,
    "root.denied": ExitCode.DENIED,
    "decision.no_terminal": ExitCode.DENIED,
    "tool.invalid_input": ExitCode.USAGE,
    "tool.canceled": ExitCode.CANCELED,
    "protocol.canceled": ExitCode.CANCELED,
    "protocol.internal": ExitCode.INTERNAL,
}

_BY_FAMILY = {
    "workflow": ExitCode.USAGE,
    "inputs": ExitCode.USAGE,
    "arguments": ExitCode.USAGE,
}

_BY_STATUS = {
    "succeeded": ExitCode.SUCCEEDED,
    "pending": ExitCode.SUCCEEDED,
    "running": ExitCode.SUCCEEDED,
    "failed": ExitCode.FAILED,
    "waiting": ExitCode.WAITING,
    "interrupted": ExitCode.INTERRUPTED,
    "canceled": ExitCode.CANCELED,
}


def exit_code_of_error(error: FleetPromptError) -> ExitCode:
    """The exit code for a command that ended with this error."""
    if error.code == "protocol.closed" and "run_id" in (error.details or {}):
        return ExitCode.INTERRUPTED
    if error.code in _BY_CODE:
        return _BY_CODE[error.code]
    family = error.code.partition(".")[0]
    return _BY_FAMILY.get(family, ExitCode.FAILED)


def exit_code_of_run(status: str, *, denied: bool = False) -> ExitCode:
    """The exit code for a command that followed a run until it had this status.

    Args:
        status: A run status (engine.md §1); one that this version does not know counts as failed.
        denied: Whether the person at the terminal denied one of its gates.
    """
    if denied and status in ("canceled", "failed"):
        return ExitCode.DENIED
    return _BY_STATUS.get(status, ExitCode.FAILED)
