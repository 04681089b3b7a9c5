"""The outputs of the tools: the fields that callers may rely on (protocol.md §7); more may come.

They describe, they do not check: a handler's output is not put through them.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ToolOutput(BaseModel):
    """Base of all outputs: open for more fields."""

    model_config = ConfigDict(extra="allow", defer_build=True)


class ErrorData(ToolOutput):
    """What went wrong."""

    code: str = Field(description="Stable and dotted.")
    message: str
    retryable: bool | None = None


class WorkflowSummary(ToolOutput):
    """One workflow of a list."""

    workflow_id: str
    name: str
    description: str | None
    version: str | None
    file_path: str
    declared_agents: list[str]
    declared_tools: list[str]
    inputs_schema_summary: dict[str, Any]
    outputs_schema_summary: dict[str, Any]
    sha256: str | None
    status: str


class ListWorkflowsOutput(ToolOutput):
    """A page of workflows."""

    workflows: list[WorkflowSummary]
    next_cursor: str | None = None


class DescribeWorkflowOutput(ToolOutput):
    """A workflow; of an invalid one the diagnostics."""

    workflow_id: str
    valid: bool
    sha256: str
    diagnostics: list[dict[str, Any]]


class ValidateWorkflowOutput(DescribeWorkflowOutput):
    """What is wrong with a workflow."""

    digest: str | None


class ValidateProjectOutput(ToolOutput):
    """A page of workflows with what is wrong with them, and what is wrong with the project."""

    valid: bool = Field(description="Of this page and the project itself.")
    workflows: list[dict[str, Any]]
    problems: list[dict[str, Any]]
    next_cursor: str | None = None


class PlanWorkflowOutput(ToolOutput):
    """What a run would do; of an invalid workflow the problems."""

    workflow_id: str
    valid: bool
    sha256: str
    digest: str | None
    closure: dict[str, Any] | None = Field(
        description="The digest of the plan with what it finds on this machine: programs, used "
        "files, entries. And its parts."
    )
    steps: list[dict[str, Any]]
    permissions: list[dict[str, Any]]
    problems: list[dict[str, Any]]


class StepOutput(ToolOutput):
    """One step of a run."""

    step_path: str
    step_id: str
    status: str
    attempt: int
    duration_ms: float
    exit_code: int | None = None
    stderr_tail: str | None = None
    error: ErrorData | None = None


class GateOutput(ToolOutput):
    """An open gate: what a run waits for."""

    gate_id: str
    step_path: str | None
    step_id: str | None
    kind: str = Field(
        description="effects, approval, ask, manual, unknown_outcome: a person decides. "
        "judgement: the calling model answers."
    )
    action: Any = Field(description="What will happen, in the system's words.")
    prompt: str | None = Field(
        description="The author's text; of a judgement, what is asked: it may hold what earlier "
        "steps made."
    )
    preview: Any = Field(description="Made by earlier steps; not to be trusted.")
    items: Any
    response_schema: Any = None
    expires_at: str | None


class RunBefore(ToolOutput):
    """The run of the same concurrency group that has to end first."""

    run_id: str
    status: str = Field(description="An interrupted one has to be resumed or cancelled.")


class RunOutput(ToolOutput):
    """A run as it is now."""

    ok: bool = Field(description="False only for a failed run.")
    run_id: str
    correlation_id: str
    workflow_id: str
    digest: str
    status: str = Field(
        description="pending, running, waiting, succeeded, failed, canceled or interrupted."
    )
    outputs: dict[str, Any] | None
    output: Any
    steps: list[StepOutput]
    gates: list[GateOutput]
    waits_for: RunBefore | None = None
    error: ErrorData | None = None
    started_at: str
    finished_at: str | None = None
    metrics: dict[str, Any]
    note: str | None = Field(None, description="What there is to know of the call itself.")
    left_out: dict[str, int] | None = Field(
        None,
        description="What an answer cannot hold: bytes of `outputs`, number of `steps`.",
    )
    next: str | None = Field(None, description="What the caller can do now.")


class CancelOutput(ToolOutput):
    """Whether a cancel was accepted."""

    run_id: str
    accepted: bool
    status: str


class GetOutputOutput(ToolOutput):
    """What an attempt of a step wrote."""

    run_id: str
    step_path: str
    step_id: str
    status: str
    attempt: int
    attempts: list[int] = Field(description="Those that have left output.")
    channels: dict[str, Any]


class ReplayRunOutput(ToolOutput):
    """Whether a run's journal would lead to the same decisions again."""

    run_id: str
    ok: bool
    events: int


class RunSummary(ToolOutput):
    """One run of a list."""

    run_id: str
    workflow_id: str
    correlation_id: str
    started_at: str | None
    status: str


class ListRunsOutput(ToolOutput):
    """A page of runs, the latest first."""

    runs: list[RunSummary]
    next_cursor: str | None = None


class GetTimelineOutput(ToolOutput):
    """A page of events."""

    events: list[dict[str, Any]]
    next_cursor: str | None = None
