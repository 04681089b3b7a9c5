"""The inputs of the tools: strict, every field enforced by its tool."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetprompt_protocol.ids import ID_PATTERN
from fleetprompt_protocol.rpc_error import broken_rule

RunRef = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._:-]*$")]
"""A run id, a unique prefix of one, or empty for the latest run."""

CorrelationId = Annotated[str, Field(pattern="^" + ID_PATTERN.pattern.replace(r"\Z", "$"))]

WorkflowRef = Annotated[str, Field(min_length=1, max_length=1024)]
"""A workflow's id, or its path relative to the root."""


class ToolInput(BaseModel):
    """Base of all inputs: unknown fields are refused, types are not converted."""

    # Each validator is built when first used: building all of them costs 45 ms.
    model_config = ConfigDict(extra="forbid", strict=True, defer_build=True)


class ListWorkflowsInput(ToolInput):
    """Which workflows to list."""

    query: str | None = Field(None, max_length=200, description="Words in id, name, description.")
    status: Literal["unvalidated", "valid", "invalid", "stale", "unreadable"] | None = Field(
        None, description="Only entries with this status."
    )
    limit: int = Field(100, ge=1, le=1000, description="Workflows of a page.")
    cursor: str | None = Field(None, max_length=1024, description="From `next_cursor`.")


class DescribeWorkflowInput(ToolInput):
    """Which workflow to describe."""

    workflow: WorkflowRef = Field(description="Id, or path relative to the root.")


class ValidateWorkflowInput(DescribeWorkflowInput):
    """Which workflow to check."""


class ValidateProjectInput(ToolInput):
    """All workflows of the project."""

    cursor: str | None = Field(None, max_length=256, description="From `next_cursor`.")


class PlanWorkflowInput(DescribeWorkflowInput):
    """What to plan, and how to show it."""

    inputs: dict[str, Any] = Field(
        default_factory=dict, description="By name; placeholders stand for those that are missing."
    )
    against: RunRef | None = Field(
        None,
        description="A run whose recorded outcomes are put through the workflow as it is now: "
        "shows what would change. Its inputs are taken when none are given.",
    )
    graph: Literal["mermaid", "dot"] | None = Field(
        None, description="Give the graph as text of this kind too."
    )


class RunWorkflowInput(ToolInput):
    """What to run, and how."""

    workflow: WorkflowRef = Field(description="Id, or path relative to the root.")
    inputs: dict[str, Any] = Field(default_factory=dict, description="By name.")
    wait_ms: int | None = Field(
        None, ge=0, le=86_400_000, description="Return after so long, with the run still going."
    )
    timeout_ms: int | None = Field(
        None, ge=1, le=2_592_000_000, description="Limit of the run's own time."
    )
    max_output_bytes: int | None = Field(
        None, ge=1, le=64 * 1024 * 1024, description="Cap of each step's output."
    )
    cwd: str | None = Field(
        None, min_length=1, max_length=4096, description="Working directory, relative to the root."
    )
    idempotency_key: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="The same key of the same caller with the same inputs gives the same run.",
    )
    metadata: dict[str, Any] | None = Field(
        None, description="Kept with the run; not seen by steps."
    )


class GetRunInput(ToolInput):
    """Which run to show."""

    run_id: RunRef = Field("", description="Id or unique prefix; empty: the latest run.")
    reissue: bool = Field(
        False, description="Give open gates new tokens; the old ones become void."
    )


class ListRunsInput(ToolInput):
    """Which runs to list."""

    status: (
        Literal["pending", "running", "waiting", "succeeded", "failed", "canceled", "interrupted"]
        | None
    ) = Field(None, description="Only runs that stand so.")
    workflow: str | None = Field(None, max_length=128, description="Only runs of this workflow id.")
    limit: int = Field(20, ge=1, le=200, description="Runs of a page.")
    cursor: str | None = Field(None, max_length=256, description="From `next_cursor`.")


class ResumeRunInput(ToolInput):
    """A run to continue, or a gate's decision."""

    run_id: RunRef | None = Field(None, description="An interrupted run to continue.")
    from_step: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="With the run_id of a failed run: the path of the step to continue it from.",
    )
    token: str | None = Field(None, min_length=1, max_length=512, description="A gate's token.")
    approve: bool | None = Field(None, description="For gates of kind effects and approval.")
    response: Any = Field(None, description="For gates of kind ask and judgement.")
    succeed_with: Any = Field(None, description="The result of a step with unknown outcome.")
    retry: bool | None = Field(None, description="Try a step with unknown outcome again.")
    fail: bool | None = Field(None, description="Fail a step with unknown outcome.")
    complete: bool | None = Field(None, description="A manual step is done.")
    skip: bool | None = Field(None, description="A manual step is skipped.")
    reason: str | None = Field(None, max_length=2000, description="Kept with the decision.")
    wait_ms: int | None = Field(
        None, ge=0, le=86_400_000, description="Return after so long, with the run still going."
    )

    @model_validator(mode="after")
    def _one_thing_is_asked(self) -> Self:
        given = self.decisions
        if self.token is None:
            if given:
                raise broken_rule(f"`{given[0]}` decides a gate: give its token too")
            if self.run_id is None:
                raise broken_rule("give run_id, or token with a decision")
        elif self.run_id is not None or self.from_step is not None:
            raise broken_rule("a token stands alone: leave out run_id and from_step")
        elif len(given) != 1:
            raise broken_rule(
                "a token goes with exactly one of approve, response, retry, succeed_with, fail, "
                "complete, skip"
            )
        return self

    @property
    def decisions(self) -> list[str]:
        """Names of the decision fields that were given."""
        names = ("approve", "response", "retry", "succeed_with", "fail", "complete", "skip")
        return [name for name in names if name in self.model_fields_set]


class PlaybookInput(ToolInput):
    """The playbook contract, whose names are its own."""

    action: Literal["run", "resume"] = Field(description="Start one, or decide a question.")
    pipeline: str | None = Field(
        None,
        min_length=1,
        description="Workflow text, or the id or path of a workflow of the project. For run.",
    )
    args_json: str | None = Field(
        None, alias="argsJson", description="The inputs, as the text of a JSON object."
    )
    cwd: str | None = Field(
        None, min_length=1, max_length=4096, description="Relative to the workspace."
    )
    timeout_ms: int | None = Field(
        None,
        alias="timeoutMs",
        ge=1,
        le=2_147_483_647,
        description="Of the run; waiting for a person does not count.",
    )
    max_output_bytes: int | None = Field(
        None, alias="maxOutputBytes", description="Of each step; zero and less: the default."
    )
    token: str | None = Field(
        None, min_length=1, max_length=512, description="A resumeToken. For resume."
    )
    approve: bool | None = Field(None, description="For resume.")

    @model_validator(mode="after")
    def _fields_fit_the_action(self) -> Self:
        needed = {"run": ("pipeline",), "resume": ("token", "approve")}[self.action]
        missing = [name for name in needed if getattr(self, name) is None]
        if missing:
            raise broken_rule(f"action {self.action} needs {' and '.join(missing)}")
        allowed = {"run": {"pipeline", "args_json", "cwd", "timeout_ms", "max_output_bytes"}}
        others = self.model_fields_set - {"action", *needed} - allowed.get(self.action, set())
        if others:
            names = ", ".join(
                type(self).model_fields[name].alias or name for name in sorted(others)
            )
            raise broken_rule(f"action {self.action} has no {names}")
        return self


Channel = Literal["stdout", "stderr", "json", "outputs", "output", "steps", "gates"]
RUN_CHANNELS = ("outputs", "output", "steps", "gates")
"""Fields of a run's result that are left out when they are long (`engine.fitting`)."""


class GetOutputInput(ToolInput):
    """Whose output to show, and which part of it."""

    run_id: RunRef = Field("", description="Id or unique prefix; empty: the latest run.")
    step_path: str = Field(
        "", max_length=1024, description="As in the run's steps: deploy, deploy[3]."
    )
    channel: Channel | None = Field(
        None,
        description="Only this one. stdout, stderr, json: of a step. Without a step, a field of "
        "the run's result as JSON text: outputs, output, steps, gates.",
    )
    attempt: int | None = Field(None, ge=0, description="The last one with output, if not given.")
    offset: int = Field(0, ge=0, description="From `next_offset`, in characters.")
    limit: int = Field(100_000, ge=1, le=400_000, description="Characters of each channel.")

    @model_validator(mode="after")
    def _channel_fits(self) -> Self:
        if self.step_path:
            if self.channel in RUN_CHANNELS:
                raise broken_rule(f"{self.channel} is of the run: leave out step_path")
        elif self.channel not in RUN_CHANNELS:
            raise broken_rule(
                "give step_path, or a channel of the run (outputs, output, steps, gates)"
            )
        elif self.attempt:
            raise broken_rule("attempt goes with step_path")
        return self


class ReplayRunInput(ToolInput):
    """Which run to replay."""

    run_id: RunRef = Field("", description="Id or unique prefix; empty: the latest run.")


class PruneRunsInput(ToolInput):
    """Which ended runs to forget."""

    older_than_s: float = Field(
        30 * 86_400, ge=0, le=1e10, description="Those that ended so long ago. Default: 30 days."
    )
    max_bytes: int = Field(
        1_000_000_000, ge=0, description="Then the oldest, until the rest fits. Default: 1 GB."
    )
    dry_run: bool = Field(False, description="Only tell which they are.")


class CancelExecutionInput(ToolInput):
    """Which run to cancel."""

    run_id: RunRef = Field(min_length=1, description="Id or unique prefix.")
    reason: str | None = Field(None, max_length=2000, description="Kept with the run.")


class GetTimelineInput(ToolInput):
    """Whose events to show."""

    run_id: RunRef | None = Field(None, description="One run; empty: the latest.")
    correlation_id: CorrelationId | None = Field(None, description="All runs under this id.")
    limit: int = Field(200, ge=1, le=1000, description="Events of a page.")
    cursor: str | None = Field(None, max_length=256, description="From `next_cursor`.")

    @model_validator(mode="after")
    def _one_subject(self) -> Self:
        if (self.run_id is None) == (self.correlation_id is None):
            raise broken_rule("give either run_id or correlation_id")
        return self
