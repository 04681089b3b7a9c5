"""Every error that may cross a process boundary, and the one list of their codes.

Branches are by who must act: the author of a workflow, the caller, the peer, the operator, or us.
A step's failure is a value, not an exception; it carries the same `{code, message, …}` data.
"""

from __future__ import annotations

from typing import Any

CODES: dict[str, str] = {
    # the wire
    "protocol.parse_error": "The frame is not JSON.",
    "protocol.invalid_request": "The message is not a JSON-RPC 2.0 request.",
    "protocol.method_not_found": "No such method.",
    "protocol.invalid_params": "The parameters do not fit the method.",
    "protocol.internal": "A fault of ours. `details.ref` is found in the agent's log.",
    "protocol.canceled": "The request was cancelled before a run existed.",
    "protocol.unauthorized": "The session token is wrong or was used before.",
    "protocol.not_ready": "The handshake is not finished.",
    "protocol.unsupported_version": "No protocol version is known to both sides.",
    "protocol.frame_too_large": "The message is longer than `max_frame_bytes`.",
    "protocol.too_deep": "The message is nested deeper than 64 levels.",
    "protocol.duplicate_id": "A request with this id is in flight already.",
    "protocol.closed": "The peer went away before it answered.",
    "protocol.timeout": "The peer did not answer in time.",
    "protocol.peer_error": "The peer answered with an error of its own; `details` has its code.",
    # workflows
    "workflow.not_found": "No workflow has this id or path.",
    "workflow.invalid": "The workflow has errors; `details.diagnostics` lists them.",
    "workflow.ambiguous": "Two files claim this id.",
    "workflow.unreadable": "The workflow file cannot be read safely.",
    # inputs
    "inputs.invalid": "An input is missing, unknown, or of the wrong type.",
    "inputs.too_large": "The inputs are larger than the limit.",
    "inputs.secret_value": "A value looks like a secret, which a run would keep; leave it out.",
    # tools
    "tool.not_found": "No tool has this id.",
    "tool.invalid_input": "The input does not fit the tool's schema.",
    "tool.denied": "Not permitted.",
    "tool.timeout": "The call took longer than its timeout.",
    "tool.canceled": "The call was cancelled.",
    "tool.failed": "The tool answered with an error.",
    # runs
    "run.not_found": "No run has this id.",
    "run.ambiguous": "Several runs have ids that begin so.",
    "run.step_not_found": "The run has no step with this path.",
    "run.pruned": "The record of the run has been removed.",
    "run.conflict": "The request contradicts what has happened to the run.",
    "run.timeout": "The run took longer than its timeout.",
    "run.not_resumable": "The run is finished or is running already.",
    "gate.not_found": "No open gate has this id.",
    "gate.token_invalid": "The token is not the one that was issued for an open gate.",
    "gate.expired": "The token has expired; ask for a new one.",
    "gate.closed": "The gate was decided before.",
    "gate.bad_response": "The response does not fit the gate.",
    "plan.changed": "The workflow is not the one that was approved.",
    # steps
    "step.exit_code": "The program ended with an exit code that is not among `ok_exit_codes`.",
    "step.signaled": "The program was ended by a signal.",
    "step.timeout": "The step took longer than its timeout.",
    "step.interrupted": "The agent stopped while the step ran.",
    "step.unknown_outcome": "Nobody can tell whether the step took effect.",
    "step.denied": "A person denied the step.",
    "step.failed": "The step failed by its own word (`flow fail`, `flow assert`).",
    "step.expression": "An expression of the step could not be evaluated.",
    "step.postcondition": "The step acted, but its postcondition does not hold.",
    "output.truncated": "The output was cut at its limit and cannot be consumed.",
    "output.not_json": "The output is not the JSON that the step declares.",
    "output.schema": "The output does not meet the schema that the step declares.",
    "output.artifact": "A file that the step should have made cannot be kept.",
    "outputs.invalid": "The run's outputs could not be computed.",
    "limit.output_bytes": "The result is larger than its limit.",
    "cli.not_found": "The program is not on the search path.",
    "cli.not_executable": "The program cannot be executed.",
    "cli.option_injection": "An argument made from data begins with a dash.",
    "cli.argument": "An argument cannot be passed to a program.",
    "cli.cwd": "The working directory does not exist or leaves the workspace.",
    "secret.unavailable": "The secret's handle cannot be resolved.",
    # the operator
    "arguments.invalid": "The command line is wrong.",
    "output.unwritable": "The command's standard output cannot be written.",
    "journal.busy": "Another process holds the journal.",
    "journal.corrupt": "The journal holds rows that cannot be true.",
    "journal.version": "The journal was written by another version.",
    "journal.unavailable": "The journal cannot be written (disk full, read-only, permissions).",
    "journal.fenced": "Another process has taken over the run.",
    "catalog.unavailable": "The catalog cannot be read or written.",
    "state.unsafe": "The state directory is not safe to use.",
    "root.not_found": "No directory with `.fleetprompt/` was found.",
    "root.denied": "The path lies outside the roots of this agent.",
    "platform.unsupported": "This operating system cannot run steps.",
    "agent.not_started": "The agent's process cannot be started.",
    "init.failed": "The first files cannot be written into the repository.",
    "decision.no_terminal": "A person must decide at a terminal, and there is none.",
    "supervisor.lost": "The process that starts the steps has ended.",
}
"""Stable dotted codes and what each means. Add here first: an unlisted code cannot be raised."""


class FleetPromptError(Exception):
    """Any error with a stable code.

    Args:
        code: One of `CODES`.
        message: What happened, where, and what to do next; one to three sentences, no secrets.
        details: JSON data for programs.
        retryable: Whether the same call may succeed later without a change.
        where: `{file, line, column}` when the cause lies in a file.
        rpc_code: The JSON-RPC number; -32000 unless JSON-RPC names one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        details: dict[str, Any] | None = None,
        retryable: bool = False,
        where: dict[str, Any] | None = None,
        rpc_code: int = -32000,
    ) -> None:
        if code not in CODES:
            raise ValueError(f"undocumented error code {code}")
        super().__init__(message)
        self.code = code
        self.message = message
        self.details = details
        self.retryable = retryable
        self.where = where
        self.rpc_code = rpc_code

    def to_data(self) -> dict[str, Any]:
        """The error as `{code, message, details?, retryable, where?}`."""
        data: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.details:
            data["details"] = self.details
        data["retryable"] = self.retryable
        if self.where:
            data["where"] = self.where
        return data


class WorkflowError(FleetPromptError):
    """The author of a workflow must act."""


class RequestError(FleetPromptError):
    """The caller must act."""


class ProtocolError(FleetPromptError):
    """The peer must act."""


class OperatorError(FleetPromptError):
    """Whoever runs the machine must act."""


class JournalError(OperatorError):
    """The journal cannot be used as it is."""


class PolicyError(OperatorError):
    """What was asked is not permitted."""


class InternalError(FleetPromptError):
    """A fault of ours."""
