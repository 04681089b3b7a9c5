"""The inputs of tools that differ in MCP: there, no input carries authority."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from fleetprompt_agent.tools.inputs import RunRef, ToolInput, WorkflowRef

DEFAULT_WAIT_MS = 30_000
"""Half of what the least patient clients allow a call."""

MAX_WAIT_MS = 86_400_000

RunId = Annotated[RunRef, Field(min_length=1)]


class RunInput(ToolInput):
    """What to run, and how long to wait for it."""

    workflow: WorkflowRef = Field(description="Id, or path relative to the root.")
    inputs: dict[str, Any] = Field(default_factory=dict, description="By name.")
    wait_ms: int = Field(
        DEFAULT_WAIT_MS,
        ge=0,
        le=MAX_WAIT_MS,
        description="Return after so long, with the run still going.",
    )
    timeout_ms: int | None = Field(
        None, ge=1, le=2_592_000_000, description="Limit of the run's own time."
    )
    cwd: str | None = Field(
        None, min_length=1, max_length=4096, description="Working directory, relative to the root."
    )
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="The same key with the same inputs gives the same run, not a second one.",
    )


class ResumeInput(ToolInput):
    """Which run goes on."""

    run_id: RunId = Field(description="Id or unique prefix.")
    answer: Any = Field(
        None, description="Only for a run whose open gate is of kind judgement: your judgement."
    )
    step_path: str | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="With `answer`: which judgement it is for, when several are open.",
    )


class GetInput(ToolInput):
    """Which run to show."""

    run_id: RunRef = Field("", description="Id or unique prefix; empty: the latest run.")


MCP_INPUTS: dict[str, type[ToolInput]] = {
    "fp_run_workflow": RunInput,
    "fp_resume_run": ResumeInput,
    "fp_get_run": GetInput,
}
"""By tool; the others take the same everywhere."""
