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

    code: str = Field(description="Stable and dotted; docs/protocol.md lists them.")
    message: str = Field(description="What happened, where, and what to do next.")
    retryable: bool | None = Field(None, description="Whether the same again may succeed.")


class WorkflowSummary(ToolOutput):
    """One workflow of a list."""

    workflow_id: str = Field(description="What runs and describes it.")
    name: str = Field(description="For people.")
    description: str | None = Field(description="The author's text.")
    version: str | None = Field(description="As the file has it.")
    file_path: str = Field(description="Relative to the root.")
    declared_agents: list[str] = Field(description="Other agents whose tools its steps call.")
    declared_tools: list[str] = Field(description="Tools that its steps use.")
    inputs_schema_summary: dict[str, Any] = Field(
        description="By name: type, whether it is required, default."
    )
    outputs_schema_summary: dict[str, Any] = Field(description="By name.")
    sha256: str | None = Field(description="Of the file's bytes.")
    status: str = Field(description="unvalidated, valid, invalid, stale or unreadable.")
    problems: list[dict[str, Any]] = Field(
        default=[], description="What was found without validating it: `{code, message, …}`."
    )


class ListWorkflowsOutput(ToolOutput):
    """A page of workflows."""

    workflows: list[WorkflowSummary] = Field(description="In the order of their paths.")
    next_cursor: str | None = Field(None, description="Absent on the last page.")


class DescribeWorkflowOutput(ToolOutput):
    """A workflow; of an invalid one the diagnostics."""

    workflow_id: str = Field(description="Its id.")
    file_path: str = Field(description="Relative to the root.")
    valid: bool = Field(description="Whether it can run; else only the diagnostics follow.")
    sha256: str = Field(description="Of the file's bytes.")
    diagnostics: list[dict[str, Any]] = Field(
        description="Findings: `{code, severity, message, file, line, column, path, hint, docs}`."
    )
    name: str | None = Field(None, description="For people.")
    description: str | None = Field(None, description="The author's text.")
    version: str | None = Field(None, description="As the file has it.")
    type: str | None = Field(None, description="chain or graph.")
    digest: str | None = Field(None, description="Of the compiled plan.")
    inputs: dict[str, Any] | None = Field(None, description="JSON Schema of a run's `inputs`.")
    outputs: list[str] | None = Field(None, description="Names of the outputs.")
    steps: list[dict[str, Any]] | None = Field(
        None,
        description="`{step_id, name, kind, tool_id, needs, if, side_effects, approval}` each.",
    )
    declared_tools: list[str] | None = Field(None, description="Tools that its steps use.")
    declared_agents: list[str] | None = Field(None, description="Agents that these belong to.")
    permissions: list[dict[str, Any]] | None = Field(
        None, description="`{permission, enforced, why}` each."
    )


class ValidateWorkflowOutput(ToolOutput):
    """What is wrong with a workflow."""

    workflow_id: str = Field(description="Its id.")
    file_path: str = Field(description="Relative to the root.")
    valid: bool = Field(description="Whether it can run.")
    sha256: str = Field(description="Of the file's bytes.")
    digest: str | None = Field(description="Of the compiled plan, when it is valid.")
    diagnostics: list[dict[str, Any]] = Field(
        description="Findings: `{code, severity, message, file, line, column, path, hint, docs}`."
    )


class ValidateProjectOutput(ToolOutput):
    """A page of workflows with what is wrong with them, and what is wrong with the project."""

    valid: bool = Field(description="Of this page and the project itself.")
    workflows: list[dict[str, Any]] = Field(description="Each as fp_validate_workflow gives it.")
    problems: list[dict[str, Any]] = Field(
        description="Of the project itself: ids that two files claim, unreadable folders."
    )
    next_cursor: str | None = Field(None, description="Absent on the last page.")


class PlanWorkflowOutput(ToolOutput):
    """What a run would do; of an invalid workflow the problems."""

    workflow_id: str = Field(description="Its id.")
    valid: bool = Field(description="Whether it can run; else there are only problems.")
    sha256: str = Field(description="Of the file's bytes.")
    digest: str | None = Field(description="Of the compiled plan.")
    closure: dict[str, Any] | None = Field(
        description="The digest of the plan with what it finds on this machine: programs, used "
        "files, entries. And its parts."
    )
    steps: list[dict[str, Any]] = Field(
        description="`{step_id, kind, namespace, tool_id, action, needs, side_effects, gate?, …}` "
        "each; `action` rendered as far as it is known."
    )
    permissions: list[dict[str, Any]] = Field(description="`{permission, enforced, why}` each.")
    problems: list[dict[str, Any]] = Field(description="Diagnostics.")


class StepOutput(ToolOutput):
    """One step of a run."""

    step_path: str = Field(description="`deploy`, `deploy[3]`, `sub/deploy`.")
    step_id: str = Field(description="The step's id in its file.")
    status: str = Field(
        description="pending, running, waiting, succeeded, failed, skipped, canceled or unknown."
    )
    attempt: int = Field(description="The latest; 0 before the first.")
    duration_ms: float = Field(description="Of the latest attempt that has ended.")
    name: str | None = Field(None, description="For people.")
    exit_code: int | None = Field(None, description="Of a program.")
    stderr_tail: str | None = Field(None, description="The end of what a program said there.")
    error: ErrorData | None = Field(None, description="Why it did not succeed.")
    reason: str | None = Field(None, description="Why it was skipped.")
    artifacts: list[dict[str, Any]] | None = Field(None, description="Files that were kept.")


class GateOutput(ToolOutput):
    """An open gate: what a run waits for."""

    gate_id: str = Field(description="Names it in the timeline.")
    step_path: str | None = Field(description="Null for effects: it is the run's.")
    step_id: str | None = Field(description="The step's id in its file.")
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
    items: Any = Field(description="Of effects: each step that acts.")
    left_out: dict[str, int] | None = Field(
        None, description="Bytes of all `items`, when only the first ones are shown."
    )
    response_schema: Any = Field(None, description="JSON Schema of an answer.")
    expires_at: str | None = Field(description="RFC 3339, UTC.")


class RunBefore(ToolOutput):
    """The run of the same concurrency group that has to end first."""

    run_id: str = Field(description="Its id.")
    status: str = Field(description="An interrupted one has to be resumed or cancelled.")


class RunOutput(ToolOutput):
    """A run as it is now."""

    ok: bool = Field(description="False only for a failed run.")
    run_id: str = Field(description="Its id.")
    correlation_id: str = Field(description="Its timeline.")
    workflow_id: str = Field(description="What it runs.")
    digest: str = Field(description="Of the plan that it runs: frozen when it began.")
    status: str = Field(
        description="pending, running, waiting, succeeded, failed, canceled or interrupted."
    )
    outputs: dict[str, Any] | None = Field(description="As declared, once it has succeeded.")
    output: Any = Field(description="Of the last step, once it has succeeded.")
    steps: list[StepOutput] = Field(description="Every step that is known so far.")
    gates: list[GateOutput] = Field(description="The open ones, the oldest first.")
    waits_for: RunBefore | None = Field(None, description="While its turn has not come.")
    error: ErrorData | None = Field(None, description="Why it did not succeed.")
    started_at: str = Field(description="RFC 3339, UTC.")
    finished_at: str | None = Field(None, description="RFC 3339, UTC.")
    metrics: dict[str, Any] = Field(
        description="`{active_ms, events, attempts, steps}`: the time stops while it waits; "
        "`steps` counts them by status."
    )
    note: str | None = Field(None, description="What there is to know of the call itself.")
    left_out: dict[str, int] | None = Field(
        None,
        description="Fields that are null or cut here because the answer would be too long or too "
        "deep, with their size in bytes; fp_get_output gives each whole, as the channel of its "
        "name.",
    )
    next: str | None = Field(None, description="What the caller can do now (MCP).")


class PlaybookQuestion(ToolOutput):
    """What a playbook waits for."""

    prompt: str = Field(description="The question.")
    items: list[Any] = Field(description="What would happen, in the system's words.")
    left_out: dict[str, int] | None = Field(
        None, description="Bytes of all `items`, when only the first ones are shown."
    )
    preview: Any = Field(description="Made by earlier steps; not to be trusted.")
    resume_token: str = Field(alias="resumeToken", description="For `action: resume`.")


class PlaybookOutput(ToolOutput):
    """The playbook envelope."""

    ok: bool = Field(description="False only with status error.")
    status: str = Field(description="ok, needs_approval, cancelled or error.")
    output: list[Any] = Field(description="The declared outputs, or the last step's items.")
    left_out: dict[str, int] | None = Field(
        None, description="Bytes of an `output` that is empty here: too long for an answer."
    )
    requires_approval: PlaybookQuestion | None = Field(
        None, alias="requiresApproval", description="With needs_approval."
    )
    error: ErrorData | None = Field(None, description="With error.")
    run_id: str | None = Field(alias="runId", description="Null when no run was made.")


class CancelOutput(ToolOutput):
    """Whether a cancel was accepted."""

    run_id: str = Field(description="Which run.")
    accepted: bool = Field(description="False when it had ended before.")
    status: str = Field(description="How the run stands.")


class GetOutputOutput(ToolOutput):
    """What an attempt of a step wrote, or a field of a run's result."""

    run_id: str = Field(description="Which run.")
    step_path: str = Field(description="Which step; empty for the run.")
    step_id: str = Field(description="The step's id in its file.")
    status: str = Field(description="How the step stands, or the run.")
    attempt: int = Field(description="Which attempt; 0 when none has left output.")
    attempts: list[int] = Field(description="Those that have left output.")
    channels: dict[str, Any] = Field(
        description="By name: `{text, truncated, next_offset?, bytes?, sha256?}`; when truncated, "
        "bytes and sha256 are of all that was written."
    )
    artifacts: list[dict[str, Any]] | None = Field(None, description="Files that were kept.")


class ReplayRunOutput(ToolOutput):
    """Whether a run's journal would lead to the same decisions again."""

    run_id: str = Field(description="Which run.")
    ok: bool = Field(description="Whether every decision follows.")
    events: int = Field(description="How many there are.")
    difference: dict[str, Any] | None = Field(
        None, description="The first event that does not follow."
    )


class PruneRunsOutput(ToolOutput):
    """What was forgotten, or would be."""

    dry_run: bool = Field(description="Whether it was only looked.")
    pruned: int = Field(description="How many runs.")
    pruned_bytes: int = Field(description="How much of the journal, about.")
    kept: int = Field(description="Runs that stay.")
    kept_bytes: int = Field(description="What they take, about.")
    runs: list[dict[str, Any]] = Field(
        description="`{run_id, workflow_id, started_at, finished_at, bytes}` each, at most 500."
    )
    unreadable: list[str] = Field(description="Ids of runs that cannot be read; they stay.")
    artifacts: dict[str, Any] = Field(description="`{files, bytes}` that nothing refers to now.")


class RunSummary(ToolOutput):
    """One run of a list."""

    run_id: str = Field(description="Its id.")
    workflow_id: str = Field(description="What it runs.")
    correlation_id: str = Field(description="Its timeline.")
    started_at: str | None = Field(description="RFC 3339, UTC.")
    finished_at: str | None = Field(None, description="RFC 3339, UTC.")
    status: str = Field(description="As in a run's result; unreadable with its `error`.")
    open_gates: int | None = Field(None, description="What it waits for, counted.")


class ListRunsOutput(ToolOutput):
    """A page of runs, the latest first."""

    runs: list[RunSummary] = Field(description="The latest first.")
    next_cursor: str | None = Field(None, description="Absent on the last page.")


class GetTimelineOutput(ToolOutput):
    """A page of events."""

    events: list[dict[str, Any]] = Field(
        description="`{run_id, seq, at, type, step_path?, attempt?, data, event_id, request_id, "
        "correlation_id, causation_id, actor}` each, in the order of time."
    )
    next_cursor: str | None = Field(None, description="Absent on the last page.")
