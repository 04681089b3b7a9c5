"""The state of a run, as folded from its events: plain data and questions about it.

Theory of operation. A run is a tree of *scopes*: the root scope holds the steps of the workflow,
and each running sub-workflow step opens one below it. A scope holds one `StepState` per step;
a `for_each` step has a state of its own and one *child* state per item. `step_path` names a state
uniquely: `deploy`, `deploy[3]`, `sub/build[0]`.

Readiness is pushed, not polled: when a step settles, the counters of its dependants fall, and one
that reaches zero is put into exactly one of the queues of the run (`settle`, `to_gate`, `held`,
`startable`). `decide` only reads the queues, so that it costs what changed, not what exists.

Invariants, after every applied event:
    each StepState is in at most one queue, and none that has settled is in any
    path in state.running  ==  a StepState with status `running` that acts (not a composite)
    scope.open == number of its steps of the current phase that have not settled
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Body, Decision, Effect, GateKind, Json
    from fleetprompt_agent.language.plan import Plan, PlanStep

StepStatus: TypeAlias = Literal[
    "pending",
    "running",
    "waiting",
    "retrying",
    "interrupted",
    "succeeded",
    "failed",
    "skipped",
    "canceled",
    "unknown",
]
SETTLED: frozenset[StepStatus] = frozenset({"succeeded", "failed", "skipped", "canceled"})
"""A step in one of these never starts again, unless the run is reopened."""

MAX_JUDGEMENTS = 8
"""Questions to a model that are open at once: all of them stand in one result, and with
`rendering.MAX_QUESTION_BYTES` each they fill less than half of a frame."""

RunEnd: TypeAlias = Literal["succeeded", "failed", "canceled"]
Phase: TypeAlias = Literal["main", "finally", "done"]
Stop: TypeAlias = Literal["failed", "skip_rest", "canceled"]
"""Why nothing new starts in the main phase of a scope."""


@dataclass(slots=True)
class GateState:
    """A question, open until `resolved`."""

    gate_id: str
    kind: GateKind
    step_path: str | None
    action: Json
    action_digest: str
    prompt: str | None
    preview: Json
    items: Json
    response_schema: Json
    token_hash: str
    expires_ms: int
    opened_ms: int
    decision: Decision | None = None
    reason: str | None = None
    response: Json = None
    usage: Json = None
    """What the channel told of the model's work, or null."""
    channel: str | None = None
    actor: Json = None
    """`{type, id}` of who decided."""
    is_void: bool = False
    """Never decided, and overtaken: the run was reopened, its step is asked about anew."""

    @property
    def is_open(self) -> bool:
        """Whether somebody can still decide it."""
        return self.decision is None and not self.is_void


@dataclass(slots=True)
class Fanout:
    """The progress of a `for_each` step."""

    items: list[Json]
    results: list[Json]
    children: dict[int, StepState] = field(default_factory=dict)
    next_index: int = 0
    active: int = 0
    stopped: bool = False
    error: Json = None


@dataclass(slots=True, eq=False)
class StepState:
    """One instance of a step."""

    path: str
    step: PlanStep
    scope: Scope
    status: StepStatus = "pending"
    attempt: int = 0
    """Number of `step.started` so far."""
    failures: int = 0
    """Known failures of attempts: what `retry.max_attempts` counts."""
    result: dict[str, Json] = field(default_factory=dict)
    error: Json = None
    effect: Effect = "none"
    duration_ms: float = 0.0
    started_ms: int = 0
    started_event_id: str | None = None
    deadline_ms: int | None = None
    due_ms: int | None = None
    in_doubt: bool = False
    """Its process is gone: the owner changed while it ran, or the agent stopped it."""
    approval: GateState | None = None
    """The step's resolved approval, ask, manual or judgement gate."""
    open_gate: str | None = None
    skip_reason: str | None = None
    action: Json = None
    action_digest: str = ""
    in_finally: bool = False
    """Whether it is one of its workflow's `finally` steps."""
    parent: StepState | None = None
    """The `for_each` step whose item this is."""
    item_index: int | None = None
    fanout: Fanout | None = None
    child: Scope | None = None
    """The scope of a running sub-workflow step."""
    verdict: Body | str | None = None
    """What the needs and the condition said, once all needs were met: `run`, or how it settles."""
    is_fanout: bool = field(init=False)
    """Whether this is the `for_each` step itself, not an item of it."""
    is_composite: bool = field(init=False)
    """Whether the step acts only through others: it holds no slot."""

    def __post_init__(self) -> None:
        self.is_fanout = self.parent is None and self.step.for_each is not None
        self.is_composite = self.is_fanout or self.step.kind == "workflow"

    @property
    def is_settled(self) -> bool:
        """Whether the step has its final status."""
        return self.status in SETTLED

    @property
    def asks_model(self) -> bool:
        """Whether a model is asked about this very instance."""
        return self.step.kind == "judgement" and not self.is_fanout

    @property
    def item(self) -> Json:
        """The item of a `for_each` child."""
        if self.parent is None or self.parent.fanout is None or self.item_index is None:
            return None
        return self.parent.fanout.items[self.item_index]


@dataclass(slots=True, eq=False)
class Scope:
    """The steps of one workflow within the run."""

    prefix: str
    """`""` for the root, `sub/` or `build[0]/` below a step."""
    plan: Plan
    inputs: dict[str, Json]
    owner: StepState | None
    """The sub-workflow step that opened it; null for the root."""
    steps: dict[str, StepState] = field(default_factory=dict)
    remaining: dict[str, int] = field(default_factory=dict)
    """Step id to number of needs that have not settled."""
    dependants: dict[str, list[str]] = field(default_factory=dict)
    phase: Phase = "main"
    open: int = 0
    busy: int = 0
    """Number of its steps that run."""
    stop: Stop | None = None
    finally_stopped: bool = False
    error: Json = None
    """The error that failed the scope."""

    @property
    def is_finally(self) -> bool:
        """Whether the scope works in the `finally` of a workflow: its own, or one around it."""
        scope: Scope | None = self
        while scope is not None:
            if scope.phase == "finally":
                return True
            scope = scope.owner.scope if scope.owner is not None else None
        return False


@dataclass(slots=True)
class RunState:
    """A run. Owned by whoever folds it; `apply` mutates it."""

    run_id: str
    plan: Plan
    root_scope: Scope
    inputs: dict[str, Json]
    root: str
    cwd: str | None
    intent: str | None
    timeout_s: float | None
    max_output_bytes: int | None
    metadata: Json
    caller: str | None
    parent_run_id: str | None
    request_id: str
    correlation_id: str
    created_ms: int
    last_ms: int
    seq: int = 0
    steps: dict[str, StepState] = field(default_factory=dict)
    """By path, in the order in which they came to be; the root's in file order."""
    gates: dict[str, GateState] = field(default_factory=dict)
    settle: dict[str, Body] = field(default_factory=dict)
    to_gate: dict[str, StepState] = field(default_factory=dict)
    judging: dict[str, StepState] = field(default_factory=dict)
    """Those that wait for a model's answer, which could still change how the run goes on."""
    held: dict[str, StepState] = field(default_factory=dict)
    """Ready, but the run's side effects have not been allowed yet."""
    startable: dict[str, StepState] = field(default_factory=dict)
    running: dict[str, StepState] = field(default_factory=dict)
    settled: int = 0
    """Number of step states that have settled."""
    cancels: int = 0
    cancel_reason: str | None = None
    timed_out: bool = False
    effects_gate: str | None = None
    finish: Body | None = None
    """The event that ends the run, once everything has settled."""
    ended: RunEnd | None = None
    ended_ms: int | None = None
    outputs: Json = None
    output: Json = None
    error: Json = None
    active_ms: int = 0
    """Time during which something ran or was due to run; clocks stop while waiting."""
    owner: str | None = None
    epoch: int = 0
    cause_event_id: str | None = None
    """The last event that came from outside: what new steps are caused by."""

    def key_of(self, step: StepState) -> str:
        """The step's idempotency key, the same for every attempt (engine.md §3)."""
        return f"{self.run_id}/{step.path}"

    @property
    def trusts_author(self) -> bool:
        """Whether `idempotent` in the file counts: only under the spawner's intent.

        The file comes from a repository that is not trusted (security.md, Permissions).
        """
        return self.intent == "spawner"

    def acts(self, step: PlanStep) -> bool:
        """Whether the step has side effects, as far as its author may be believed."""
        return step.side_effects and not (step.claims_no_effect and self.trusts_author)

    def may_repeat(self, step: PlanStep) -> bool:
        """Whether doing the step twice is known to be no worse than once."""
        return not self.acts(step) or (step.idempotent and self.trusts_author)

    @property
    def is_terminal(self) -> bool:
        """Whether the run has ended."""
        return self.ended is not None

    @property
    def is_waiting(self) -> bool:
        """Whether nothing can progress until a gate is resolved."""
        if self.ended is not None or self.finish is not None or self.running:
            return False
        if self.cancels or self.settle or self.gates_due or self.startable:
            return False
        return any(gate.is_open for gate in self.gates.values())

    @property
    def gates_due(self) -> list[StepState]:
        """The steps whose gate is to be opened now: of questions to a model a few at a time."""
        room = min(self.plan.max_parallel, MAX_JUDGEMENTS) - len(self.judging)
        due = []
        for step in self.to_gate.values():
            if step.asks_model and room <= 0:
                continue
            room -= step.asks_model
            due.append(step)
        return due

    @property
    def open_gates(self) -> list[GateState]:
        """The gates that somebody can decide now, oldest first."""
        if self.ended is not None:
            return []
        return [gate for gate in self.gates.values() if gate.is_open]
