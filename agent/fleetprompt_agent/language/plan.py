"""The plan: what a workflow compiles to, frozen, digested, and stored in the journal.

The engine reads nothing but this. Every value is plain data, so that a plan survives a JSON round
trip unchanged. A *template* is a JSON value whose strings may hold `${{ expression }}` or be a
whole `$step.path` reference; it is kept as it was written and rendered by `language.templates`. An
*expression* is kept as its source text.
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, dataclass, field
from dataclasses import fields as dataclass_fields
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fleetprompt_agent.language.json_text import text_encoder
from fleetprompt_agent.record import record

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

SEMANTICS = 1
"""The meaning of a plan. An engine refuses a plan whose number it does not know."""

Json = Any
"""A JSON value: null, bool, int, float, str, list or dict with string keys."""

StepKind = Literal["action", "approval", "ask", "manual", "workflow", "judgement"]
NeedOrigin = Literal["order", "needs", "reference"]
OnError = Literal["fail", "continue", "skip_rest"]


@record
class Need:
    """An edge: the step waits for `step_id`.

    `order` is the implicit edge of a chain and `reference` one that follows from an expression;
    neither carries a skip. `needs` was written by the author and carries a skip.
    """

    step_id: str
    origin: NeedOrigin


@dataclass(frozen=True, slots=True)
class Output:
    """How a step's standard output is read."""

    type: Literal["text", "json", "none"] = "text"
    schema: Json = None
    """A JSON Schema (2020-12) that the parsed output must meet, or null."""


@dataclass(frozen=True, slots=True)
class Approval:
    """A person must agree before the step acts."""

    prompt: str | None = None
    """The author's constant text; no expression may stand in it."""
    preview: Json = None
    """A template drawn from earlier outputs, shown as untrusted."""
    expires_s: float = 7 * 86_400
    on_deny: Literal["cancel", "continue"] = "cancel"


@dataclass(frozen=True, slots=True)
class Retry:
    """When and how often a known failure is tried again."""

    max_attempts: int = 1
    backoff: Literal["fixed", "exponential"] = "exponential"
    initial_s: float = 1.0
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.1
    """Share of the delay that is drawn at random, 0 to 1."""
    on: tuple[str, ...] = ()
    """Error codes that may be retried; empty means every known failure."""


@dataclass(frozen=True, slots=True)
class ForEach:
    """One instance of the step for each item of a list."""

    items: str
    """An expression that gives a list."""
    item_name: str = "item"
    max_parallel: int = 4


@dataclass(frozen=True, slots=True)
class Ask:
    """Data wanted from a person."""

    prompt: str
    schema: Json
    choices_from: Json = None


@dataclass(frozen=True, slots=True)
class Judgement:
    """A question to the calling agent's model."""

    prompt: Json
    """A template; what it holds of earlier outputs is not to be trusted."""
    schema: Json
    """A JSON Schema (2020-12) that the answer must meet."""
    model: str | None = None
    """A preference; the calling agent may take another."""
    system: str | None = None
    """The author's constant text."""


@dataclass(frozen=True, slots=True)
class Allow:
    """What a step declares that it reaches beside its program or tool."""

    network: tuple[str, ...] = ()
    """Hosts, with a port where it matters."""
    read: tuple[str, ...] = ()
    """Paths and globs outside the workspace."""
    write: tuple[str, ...] = ()


# Most steps have these, and share them: what is the same object need not be compared.
TEXT_OUTPUT = Output()
NO_RETRY = Retry()
NOTHING_ALLOWED = Allow()


@record
class PlanStep:
    """One step, with every default applied."""

    id: str
    index: int
    """Place in the file, from 0; commands are issued in this order."""
    kind: StepKind = "action"
    name: str | None = None
    namespace: str = ""
    """`cli`, `flow`, `llm` …; empty unless kind is `action` or `judgement`."""
    tool_id: str = ""
    """`cli:gh`, `flow:set`: what permissions and allow lists name."""
    arguments: Json = None
    """A template. cli: `{"argv": [program, …]}`; flow: the step's `with`; null for `judgement`."""
    needs: tuple[Need, ...] = ()
    condition: str | None = None
    stdin: Json = None
    env: dict[str, Json] = field(default_factory=dict)
    """The workflow's env overlaid with the step's: name to template."""
    cwd: str | None = None
    """Relative to the run's working directory; a literal."""
    output: Output = TEXT_OUTPUT
    ok_exit_codes: tuple[int, ...] = (0,)
    timeout_s: float | None = None
    """For one attempt."""
    total_timeout_s: float | None = None
    """For all attempts and the pauses between them."""
    retry: Retry = NO_RETRY
    approval: Approval | None = None
    for_each: ForEach | None = None
    side_effects: bool = False
    idempotent: bool = False
    postcondition: str | None = None
    on_error: OnError = "fail"
    max_output_bytes: int = 512_000
    artifacts: tuple[str, ...] = ()
    ask: Ask | None = None
    manual: str | None = None
    workflow: str | None = None
    """Key of the embedded plan in `Plan.workflows`, for kind `workflow`."""
    allow: Allow = NOTHING_ALLOWED
    uses: tuple[str, ...] = ()
    """Files whose content belongs to the closure digest, relative to the root."""
    claims_no_effect: bool = False
    """The author says `side_effects: false`; it counts only under a grant."""
    judgement: Judgement | None = None


@dataclass(frozen=True, slots=True)
class Permission:
    """One thing the text of the workflow says it will use."""

    permission: str
    """`process:exec:gh`, `tool:invoke:cli:gh` …"""
    enforced: bool
    why: str


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most one run of a group at a time, per project."""

    group: str
    on_conflict: Literal["wait", "refuse", "cancel_running"] = "wait"


@dataclass(frozen=True, slots=True)
class Plan:
    """A workflow, compiled. `digest` covers everything in it but `file_path` and `sha256`."""

    workflow_id: str
    name: str
    type: Literal["chain", "graph"]
    steps: tuple[PlanStep, ...]
    version: str | None = None
    description: str | None = None
    file_path: str = ""
    """Relative to the root."""
    sha256: str = ""
    """Of the bytes of the file."""
    semantics: int = SEMANTICS
    inputs: dict[str, Json] = field(default_factory=dict)
    """Name to JSON Schema property; `required` is taken out of it."""
    required_inputs: tuple[str, ...] = ()
    outputs: dict[str, Json] = field(default_factory=dict)
    """Name to template, in file order."""
    secrets: dict[str, str] = field(default_factory=dict)
    """Name to handle (`secret://…`)."""
    finally_steps: tuple[PlanStep, ...] = ()
    timeout_s: float | None = None
    max_parallel: int = 8
    concurrency: Concurrency | None = None
    permissions: tuple[Permission, ...] = ()
    workflows: dict[str, Plan] = field(default_factory=dict)
    """Embedded sub-workflows by id."""
    sandbox: Literal["required", "preferred", "off"] | None = None
    """How much isolation the author asks for; null leaves it to the agent."""
    digest: str = ""


_canonical = text_encoder(sort_keys=True, ensure_ascii=False)


def canonical_json(value: Json) -> str:
    """The one text of a JSON value: keys sorted, no spaces, no NaN."""
    return _canonical(value)


_NOT_DIGESTED = ("file_path", "sha256", "digest")
"""Where a workflow lies and how it is spelled does not change what runs."""


def plan_to_json(plan: Plan) -> dict[str, Json]:
    """The plan as JSON data, as it is stored in the journal.

    A field that has its default is left out: most of a plan is defaults, and a field that is added
    later changes no digest.
    """
    data: dict[str, Json] = _to_data(plan)
    return data


_SCALARS = frozenset((str, int, float, bool, type(None)))


def _to_data(value: Any) -> Json:
    kind: type[Any] = type(value)
    if kind in _SCALARS:
        return value
    if kind is list or kind is tuple:
        return [_to_data(item) for item in value]
    if kind is dict:
        return {key: _to_data(item) for key, item in value.items()}
    names, defaults, values_of = _fields_of(kind)  # type: ignore[arg-type]  # a class is hashable
    return {
        name: _to_data(item)
        for name, default, item in zip(names, defaults, values_of(value), strict=True)
        if item is not default and item != default
    }


@cache
def _fields_of(
    kind: type[Any],
) -> tuple[tuple[str, ...], tuple[Any, ...], Callable[[Any], tuple[Any, ...]]]:
    """The names of a dataclass's fields, their defaults, and how to read those of one object.

    The default of a field without one, or that is always written, is `MISSING`: nothing equals it.
    """
    fields = dataclass_fields(kind)
    names = tuple(item.name for item in fields)
    defaults = tuple(
        MISSING
        if item.name == "semantics"
        else item.default
        if item.default_factory is MISSING
        else item.default_factory()
        for item in fields
    )
    return names, defaults, attrgetter(*names)


def plan_digest(plan: Plan) -> str:
    """The sha256 (hex) of what will run: it ignores key order, comments and the file's place."""

    def bare(data: dict[str, Json]) -> dict[str, Json]:
        kept = {key: value for key, value in data.items() if key not in _NOT_DIGESTED}
        if "workflows" in kept:
            kept["workflows"] = {name: bare(sub) for name, sub in kept["workflows"].items()}
        return kept

    text = canonical_json(bare(plan_to_json(plan)))
    return hashlib.sha256(text.encode()).hexdigest()


def plan_from_json(data: dict[str, Json]) -> Plan:
    """The plan that `plan_to_json` gave.

    Raises:
        KeyError, TypeError, ValueError: the data is not a plan of these semantics.
    """
    if data["semantics"] != SEMANTICS:
        raise ValueError(f"plan semantics {data['semantics']} are not known to this version")
    return Plan(**_read(data, _PLAN_READERS))


def _read(data: dict[str, Json], readers: dict[str, Callable[[Any], Any]]) -> dict[str, Any]:
    """The fields, those with a reader read by it."""
    fields = dict(data)
    for name in readers.keys() & fields.keys():
        fields[name] = readers[name](fields[name])
    return fields


def _step_from_json(data: dict[str, Json]) -> PlanStep:
    return PlanStep(**_read(data, _STEP_READERS))


def _optional(kind: Callable[..., T], data: dict[str, Json] | None) -> T | None:
    return None if data is None else kind(**data)


_STEP_READERS: dict[str, Callable[[Any], Any]] = {
    "needs": lambda items: tuple(Need(**item) for item in items),
    "output": lambda data: Output(**data),
    "ok_exit_codes": tuple,
    "retry": lambda data: Retry(**_read(data, {"on": tuple})),
    "approval": lambda data: _optional(Approval, data),
    "for_each": lambda data: _optional(ForEach, data),
    "artifacts": tuple,
    "ask": lambda data: _optional(Ask, data),
    "judgement": lambda data: _optional(Judgement, data),
    "allow": lambda data: Allow(**{name: tuple(items) for name, items in data.items()}),
    "uses": tuple,
}
_PLAN_READERS: dict[str, Callable[[Any], Any]] = {
    "steps": lambda items: tuple(map(_step_from_json, items)),
    "finally_steps": lambda items: tuple(map(_step_from_json, items)),
    "required_inputs": tuple,
    "concurrency": lambda data: _optional(Concurrency, data),
    "permissions": lambda items: tuple(Permission(**item) for item in items),
    "workflows": lambda subs: {name: plan_from_json(sub) for name, sub in subs.items()},
}
