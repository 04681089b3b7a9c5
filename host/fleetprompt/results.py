"""What the agent's tools answer, as models (protocol.md §7).

Fields that an agent adds are kept (`model_dump` gives them back), and none that it leaves out is an
error unless nothing can be said without it: an older and a newer side understand each other.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class _Answer(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """The answer as it came, unknown fields included."""
        return self.model_dump(mode="json", exclude_unset=True, by_alias=True)


class ErrorData(_Answer):
    """An error of a run, a step or a call."""

    code: str
    message: str = ""
    details: dict[str, Any] | None = None
    retryable: bool = False
    where: dict[str, Any] | None = None
    """`{file, line, column}`."""
    step_path: str | None = None
    """Of a run: the step that failed it."""


class Diagnostic(_Answer):
    """One finding about the text of a workflow; lines and columns count from 1."""

    code: str
    severity: str = "error"
    message: str = ""
    file: str = ""
    """Relative to the root."""
    line: int | None = None
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None
    """Just past the last character."""
    hint: str | None = None


class WorkflowSummary(_Answer):
    """One entry of the catalog."""

    workflow_id: str
    name: str | None = None
    description: str | None = None
    version: str | None = None
    file_path: str = ""
    """Relative to the root."""
    sha256: str | None = None
    status: str = "unvalidated"
    """`unvalidated`, `valid`, `invalid`, `stale` or `unreadable`."""


class Validation(_Answer):
    """What validating one workflow found."""

    workflow_id: str | None = None
    file_path: str | None = None
    """Relative to the root."""
    valid: bool
    sha256: str | None = None
    digest: str | None = None
    diagnostics: tuple[Diagnostic, ...] = ()


class PlannedStep(_Answer):
    """One step of a workflow, as it is planned."""

    step_id: str
    name: str | None = None
    kind: str = "action"
    tool_id: str | None = None
    needs: tuple[str, ...] = ()
    condition: str | None = Field(default=None, alias="if")
    side_effects: bool = False
    approval: bool = False
    """Whether a person is asked before it acts."""


class Permission(_Answer):
    """One thing that the text of a workflow says it will use."""

    permission: str
    enforced: bool = False
    why: str = ""


class Description(_Answer):
    """What a workflow takes, gives and does; of an invalid one, its diagnostics."""

    workflow_id: str
    name: str | None = None
    description: str | None = None
    version: str | None = None
    file_path: str = ""
    sha256: str | None = None
    digest: str | None = None
    valid: bool = True
    diagnostics: tuple[Diagnostic, ...] = ()
    inputs: dict[str, Any] | None = None
    """A JSON Schema of an object."""
    outputs: tuple[str, ...] = ()
    steps: tuple[PlannedStep, ...] = ()
    permissions: tuple[Permission, ...] = ()


class PlanStep(_Answer):
    """One step as a run would perform it, as far as that is known."""

    step_id: str
    name: str | None = None
    kind: str = "action"
    tool_id: str | None = None
    action: Any = None
    """With placeholders `⟨…⟩` for what only a run will know."""
    side_effects: bool = False
    caution: str | None = None
    """What no plan can see of it."""
    gate: dict[str, Any] | None = None
    condition: str | None = Field(default=None, alias="if")
    will_run: bool | None = None
    """What the condition says, where the inputs alone decide it."""
    for_each: dict[str, Any] | None = None
    timeout_s: float | None = None
    total_timeout_s: float | None = None
    retry: dict[str, Any] | None = None
    on_error: str | None = None
    postcondition: str | None = None


class ClosurePart(_Answer):
    """One thing that a plan finds on the machine."""

    kind: str
    """`program`: a name and its path. `content`: of a program that may change. `file`: one under
    `uses:`. `entry`: the configuration of a tool."""
    name: str
    value: str
    """A path, or a sha256 (hex); `absent` for what is not there."""


class Closure(_Answer):
    """A plan with what it finds on the machine: what would run."""

    digest: str
    parts: tuple[ClosurePart, ...] = ()


class WorkflowPlan(_Answer):
    """What a run of a workflow would do; of an invalid one, its problems."""

    workflow_id: str
    name: str | None = None
    version: str | None = None
    file_path: str = ""
    sha256: str | None = None
    digest: str | None = None
    closure: Closure | None = None
    valid: bool = True
    levels: tuple[tuple[str, ...], ...] = ()
    """Step ids; those of one level can run at the same time."""
    steps: tuple[PlanStep, ...] = ()
    finally_steps: tuple[PlanStep, ...] = Field(default=(), alias="finally")
    outputs: dict[str, Any] = Field(default_factory=dict)
    permissions: tuple[Permission, ...] = ()
    workflows: dict[str, WorkflowPlan] = Field(default_factory=dict)
    """Embedded workflows by id."""
    problems: tuple[Diagnostic, ...] = ()
    against: dict[str, Any] | None = None
    """What the workflow, as it is now, changes for a recorded run."""
    graph: str | None = None


class Artifact(_Answer):
    """A file of a step, kept under its digest in `artifacts/` of the state directory."""

    name: str
    sha256: str
    size: int


class StepResult(_Answer):
    """How one step of a run went."""

    step_path: str
    step_id: str = ""
    status: str = "pending"
    """`pending running waiting retrying succeeded failed skipped canceled unknown`."""
    attempt: int | None = None
    duration_ms: float | None = None
    exit_code: int | None = None
    stderr_tail: str | None = None
    reason: str | None = None
    """Why it was skipped."""
    error: ErrorData | None = None
    artifacts: tuple[Artifact, ...] = ()
    """The files that it has left to be kept."""


class Gate(_Answer):
    """A decision that a run waits for."""

    gate_id: str
    step_path: str | None = None
    step_id: str | None = None
    kind: str
    """`effects approval ask manual unknown_outcome judgement`."""
    action: Any = None
    """What will happen, made by the system."""
    prompt: str | None = None
    """The author's constant text; of a judgement, what is asked, which earlier steps may have
    had a part in."""
    preview: Any = None
    """Drawn from outputs of earlier steps; not to be trusted."""
    items: list[Any] | None = None
    """For `effects`: every step with side effects."""
    response_schema: Any = None
    token: str | None = Field(default=None, repr=False)
    """Opens this gate once; only in the result that opened it, and after a reissue."""
    expires_at: str | None = None


class RunBefore(_Answer):
    """A run that has to end before another one may begin."""

    run_id: str
    status: str


class RunResult(_Answer):
    """A run, as it stands."""

    ok: bool = True
    run_id: str
    correlation_id: str | None = None
    workflow_id: str | None = None
    digest: str | None = None
    status: str
    """`pending running waiting succeeded failed canceled interrupted`."""
    outputs: dict[str, Any] | None = None
    """What the workflow declares, by name; null unless the run succeeded."""
    output: Any = None
    """The value of the last succeeded step; null unless the run succeeded."""
    steps: tuple[StepResult, ...] = ()
    gates: tuple[Gate, ...] = ()
    waits_for: RunBefore | None = None
    """The run of the same concurrency group that has to end first."""
    error: ErrorData | None = None
    started_at: str | None = None
    finished_at: str | None = None
    metrics: dict[str, Any] = Field(default_factory=dict)


class Cancellation(_Answer):
    """The answer to a request to cancel a run."""

    run_id: str
    accepted: bool
    status: str | None = None


class TimelineEvent(_Answer):
    """One thing that happened to a run, as its journal has it."""

    seq: int
    """Counts from 1 within its run."""
    at: str
    type: str
    """`run.created`, `step.started`, `gate.opened` …"""
    run_id: str = ""
    step_path: str | None = None
    attempt: int | None = None
    data: dict[str, Any] = Field(default_factory=dict)
    request_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None


class RunSummary(_Answer):
    """One entry of the list of runs."""

    run_id: str
    workflow_id: str | None = None
    correlation_id: str | None = None
    status: str
    """As of `RunResult`, or `unreadable` for a run whose journal is damaged."""
    started_at: str | None = None
    finished_at: str | None = None
    open_gates: int = 0
    error: ErrorData | None = None


class OutputPiece(_Answer):
    """Text of one channel of a step, from some character on."""

    text: str = ""
    truncated: bool = False
    """Whether the step wrote more than was kept; `bytes` and `sha256` are then those of all."""
    bytes: int | None = None
    sha256: str | None = None
    next_offset: int | None = None
    """In characters; null when this is the end."""


class StepOutput(_Answer):
    """What an attempt of a step wrote."""

    run_id: str
    step_path: str
    step_id: str = ""
    status: str = ""
    attempt: int = 0
    channels: dict[str, OutputPiece] = Field(default_factory=dict)
    """`stdout` and `stderr` of a program, `json` of a step that gives a value only."""


class ReplayResult(_Answer):
    """Whether a run's journal follows from itself."""

    run_id: str
    ok: bool
    events: int = 0
    decided: int = 0
    outside: int = 0
    status: str | None = None
    difference: dict[str, Any] | None = None
    """The first event that does not follow: `{seq, type, step_path?, why, expected?, found?}`."""


class PrunedRun(_Answer):
    """A run that was forgotten, or would be."""

    run_id: str
    workflow_id: str | None = None
    finished_at: str | None = None
    bytes: int = 0


class PruneResult(_Answer):
    """What pruning did, or would do."""

    dry_run: bool = False
    pruned: int = 0
    pruned_bytes: int = 0
    kept: int = 0
    kept_bytes: int = 0
    runs: tuple[PrunedRun, ...] = ()
    """The first of them, the one that ended first in front."""
    unreadable: tuple[str, ...] = ()
    """Runs that were left alone because their events cannot be read."""


class StepStatus(_Answer):
    """A status chunk of the stream: what has just happened to a run or one of its steps."""

    text: str = ""
    run_id: str | None = None
    step_path: str | None = None
    """Null when the chunk is about the run."""
    step_id: str | None = None
    state: str = ""
    """`started completed failed skipped waiting retrying canceled unknown`."""
    attempt: int | None = None
    duration_ms: float | None = None
    error: ErrorData | None = None
    completed: int | None = None
    """How many steps are finished, of `total`."""
    total: int | None = None
