"""What can happen to a run. A run is the list of these; everything else is derived from it.

An `Event` is an envelope (when, who, under which ids) around a body. The bodies are the closed
union `Body`. `to_columns` and `body_from` are the one place where a body meets the journal's
columns: `step_path` and `attempt` have columns of their own, every other field goes to `data`.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from operator import attrgetter
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias, get_args

from fleetprompt_agent.record import record

if TYPE_CHECKING:
    from collections.abc import Callable

Json: TypeAlias = Any

Effect: TypeAlias = Literal["none", "done", "unknown"]
"""Whether a step changed the world: `none` for sure not, `done` for sure, `unknown`."""

GateKind: TypeAlias = Literal[
    "effects", "approval", "ask", "manual", "unknown_outcome", "judgement"
]
Decision: TypeAlias = Literal[
    "approve", "deny", "respond", "complete", "skip", "retry", "succeed_with", "fail"
]


@record
class RunCreated:
    """The run exists; nothing has been done yet."""

    type: ClassVar[str] = "run.created"
    plan: Json
    inputs: Json
    root: str
    """The workspace, a real path."""
    cwd: str | None
    """Relative to the root."""
    intent: str | None
    """How side effects were allowed beforehand (`spawner`, `directive:<id>`), or null."""
    timeout_s: float | None = None
    """The caller's limit for the run's own time; the smaller of this and the plan's holds."""
    max_output_bytes: int | None = None
    """The caller's cap for each step's output; the smaller of this and the step's holds."""
    metadata: Json = None
    caller: str | None = None
    idempotency_key: str | None = None
    parent_run_id: str | None = None


@record
class RunCancelRequested:
    """Somebody wants the run to end, or its time is up."""

    type: ClassVar[str] = "run.cancel_requested"
    reason: str | None = None
    timed_out: bool = False
    """The run's own deadline passed: it ends as failed (`run.timeout`), not as canceled."""
    ends_finally: bool = False
    """`finally` has used up its time: it ends too."""


@record
class RunSucceeded:
    """The run ended well."""

    type: ClassVar[str] = "run.succeeded"
    outputs: Json = None
    output: Json = None


@record
class RunFailed:
    """The run ended with an error."""

    type: ClassVar[str] = "run.failed"
    error: Json = None


@record
class RunCanceled:
    """The run was ended on request, or by a denial."""

    type: ClassVar[str] = "run.canceled"
    reason: str | None = None


@record
class RunReopened:
    """A failed run goes on from a step, by authority."""

    type: ClassVar[str] = "run.reopened"
    from_step: str
    reason: str | None = None


@record
class StepStarted:
    """Durable before the step acts."""

    type: ClassVar[str] = "step.started"
    step_path: str
    attempt: int
    idempotency_key: str
    action: Json = None
    """The rendered action; secrets are handles."""
    action_digest: str = ""
    deadline_ms: int | None = None
    """Epoch milliseconds at which all attempts of the step must have ended."""


@record
class StepSucceeded:
    """The step did what it should; durable before its outcome is used or streamed."""

    type: ClassVar[str] = "step.succeeded"
    step_path: str
    attempt: int
    result: Json
    duration_ms: float = 0.0
    effect: Effect = "none"
    metrics: Json = None


@record
class StepFailed:
    """The step ended with a known failure."""

    type: ClassVar[str] = "step.failed"
    step_path: str
    attempt: int
    error: Json
    result: Json = None
    duration_ms: float = 0.0
    effect: Effect = "none"
    retryable: bool = False
    metrics: Json = None


@record
class StepRetryScheduled:
    """The step is tried again, not before `due_ms`."""

    type: ClassVar[str] = "step.retry_scheduled"
    step_path: str
    attempt: int
    due_ms: int


@record
class StepSkipped:
    """The step does not run."""

    type: ClassVar[str] = "step.skipped"
    step_path: str
    reason: str
    """`condition`, `need_skipped` or `denied`."""


@record
class StepCanceled:
    """The step was stopped because the run is being cancelled."""

    type: ClassVar[str] = "step.canceled"
    step_path: str
    attempt: int
    duration_ms: float = 0.0
    result: Json = None


@record
class StepInterrupted:
    """The step was stopped because the agent stops; the run can be resumed."""

    type: ClassVar[str] = "step.interrupted"
    step_path: str
    attempt: int


@record
class StepUnknown:
    """Nobody can tell whether the step took effect; a person must."""

    type: ClassVar[str] = "step.unknown"
    step_path: str
    attempt: int
    error: Json
    result: Json = None
    duration_ms: float = 0.0


@record
class StepLateResult:
    """An outcome that came after the step was settled: recorded, not used."""

    type: ClassVar[str] = "step.late_result"
    step_path: str
    attempt: int
    ok: bool
    error: Json = None


@record
class GateOpened:
    """A person (or, for `judgement`, the calling model) must decide before something goes on."""

    type: ClassVar[str] = "gate.opened"
    gate_id: str
    kind: GateKind
    action: Json
    """Made by the system, shown first, bound by the decision."""
    action_digest: str
    token_hash: str
    expires_ms: int
    step_path: str | None = None
    prompt: str | None = None
    """The author's constant text; of a `judgement`, what is asked: rendered, and untrusted."""
    preview: Json = None
    """Drawn from earlier outputs: untrusted."""
    items: Json = None
    response_schema: Json = None


@record
class GateTokenIssued:
    """The gate has a new token; the old one is void."""

    type: ClassVar[str] = "gate.token_issued"
    gate_id: str
    token_hash: str
    expires_ms: int


@record
class GateResolved:
    """The decision. The first one wins."""

    type: ClassVar[str] = "gate.resolved"
    gate_id: str
    decision: Decision
    channel: str
    """By which way it came: `token`, `terminal`, `mcp:<client>`, `model:<client>` …"""
    reason: str | None = None
    response: Json = None
    step_path: str | None = None
    usage: Json = None
    """What the channel tells of a model's work, such as `{"model": "…"}`."""


@record
class LeaseTaken:
    """A process owns the run from here on. What the last owner had in flight is in doubt."""

    type: ClassVar[str] = "lease.taken"
    owner: str
    epoch: int


Body: TypeAlias = (
    RunCreated
    | RunCancelRequested
    | RunSucceeded
    | RunFailed
    | RunCanceled
    | RunReopened
    | StepStarted
    | StepSucceeded
    | StepFailed
    | StepRetryScheduled
    | StepSkipped
    | StepCanceled
    | StepInterrupted
    | StepUnknown
    | StepLateResult
    | GateOpened
    | GateTokenIssued
    | GateResolved
    | LeaseTaken
)


@record
class Event:
    """A body with its envelope."""

    seq: int
    """From 1 within the run, without gaps."""
    at_ms: int
    """Epoch milliseconds, never smaller than the event before."""
    body: Body
    event_id: str
    request_id: str
    correlation_id: str
    causation_id: str | None
    actor_type: str = "agent"
    """`human`, `agent` or `system`."""
    actor_id: str | None = None
    tenant: str = "local"


_COLUMNS = ("step_path", "attempt")
BODIES: dict[str, type[Body]] = {
    kind.type: kind
    for kind in (
        RunCreated, RunCancelRequested, RunSucceeded, RunFailed, RunCanceled, RunReopened,
        StepStarted, StepSucceeded, StepFailed, StepRetryScheduled, StepSkipped, StepCanceled,
        StepInterrupted, StepUnknown, StepLateResult,
        GateOpened, GateTokenIssued, GateResolved, LeaseTaken,
    )
}  # fmt: skip
"""Body class by event type."""


def _values_of(names: tuple[str, ...]) -> Callable[[Body], tuple[Json, ...]]:
    """A function that gives the values of these fields, in order."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda body: tuple(getattr(body, name) for name in names)


def _writer(kind: type[Body]) -> tuple[tuple[str, ...], Callable[[Body], tuple[Json, ...]]]:
    names = tuple(field.name for field in fields(kind) if field.name not in _COLUMNS)
    return names, _values_of(names)


_WRITE = {name: _writer(kind) for name, kind in BODIES.items()}
"""Event type to the fields that go to `data`, and what gives their values."""
_SHAPES: dict[str, tuple[type, ...]] = {
    "str": (str,), "int": (int,), "float": (int, float), "bool": (bool,),
    "str | None": (str, NoneType), "int | None": (int, NoneType),
    "float | None": (int, float, NoneType),
    "Effect": (str,), "GateKind": (str,), "Decision": (str,),
    "plan": (dict,), "inputs": (dict,), "error": (dict, NoneType), "result": (dict, NoneType),
}  # fmt: skip
"""What JSON a field may hold, by its name or its annotation; any, when neither stands here."""
_WORDS: dict[str, frozenset[str]] = {
    name: frozenset(get_args(words))
    for name, words in (("Effect", Effect), ("GateKind", GateKind), ("Decision", Decision))
}


def _shapes_of(field: Field[Any]) -> tuple[type, ...]:
    return _SHAPES.get(field.name, _SHAPES.get(str(field.type), ()))


def _may_be_absent(field: Field[Any]) -> bool:
    """Null is left out by `to_columns`; a field without a default may still be null."""
    shapes = _shapes_of(field)
    return field.default is MISSING and (not shapes or NoneType in shapes)


_Known: TypeAlias = dict[str, tuple[tuple[type, ...], frozenset[str]]]


def _reader(kind: type[Body]) -> tuple[type[Body], _Known, tuple[str, ...]]:
    known = {
        field.name: (_shapes_of(field), _WORDS.get(str(field.type), frozenset()))
        for field in fields(kind)
    }
    return kind, known, tuple(field.name for field in fields(kind) if _may_be_absent(field))


_READ = {name: _reader(kind) for name, kind in BODIES.items()}
"""Event type to its class; what each field may hold (shapes, or any; words, or any); and the fields
that are null when they are absent."""


def to_columns(body: Body) -> tuple[str, str | None, int | None, dict[str, Json]]:
    """The body as `(type, step_path, attempt, data)`; fields that are null are left out."""
    names, values_of = _WRITE[body.type]
    data = {
        name: value for name, value in zip(names, values_of(body), strict=True) if value is not None
    }
    return (
        body.type,
        getattr(body, "step_path", None),
        getattr(body, "attempt", None),
        data,
    )


def body_from(
    type_: str, step_path: str | None, attempt: int | None, data: dict[str, Json]
) -> Body:
    """The body that `to_columns` took apart; `data` is used up.

    Raises:
        KeyError: no such event type.
        TypeError: the columns and the data do not make such a body.
    """
    if step_path is not None:
        data["step_path"] = step_path
    if attempt is not None:
        data["attempt"] = attempt
    kind, known, nulls = _READ[type_]
    for name, value in data.items():
        shapes, words = known[name]
        if shapes and type(value) not in shapes:
            raise TypeError(f"{type_}.{name} is {type(value).__name__}")
        if words and value not in words:
            raise TypeError(f"{type_}.{name} is {value!r}")
    for name in nulls:
        if name not in data:
            data[name] = None
    return kind(**data)
