"""A rehearsal: the recorded outcomes of a run, put through another plan with the pure core.

Nothing acts. A step that the recorded run performed gets the outcomes that were recorded under its
path, one for each attempt, read anew by what the plan now says of exit codes, output, postcondition
and retries; a `flow` step is computed; a gate is decided as it was. All of it comes in the order in
which it was recorded, since what fails first decides what is stopped. What nobody can know (the
outcome of a step that did not run) is taken as success without a result, and everything that reads
it is marked as resting on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Literal, Self, assert_never

from fleetprompt_agent.engine.attempts import Attempts
from fleetprompt_agent.engine.core import rendering, schedule
from fleetprompt_agent.engine.core.apply import apply, begin, fold
from fleetprompt_agent.engine.core.commands import (
    CancelStep,
    OpenGate,
    ScheduleRetry,
    Settle,
    StartStep,
)
from fleetprompt_agent.engine.core.decide import decide, is_due
from fleetprompt_agent.engine.core.events import (
    Event,
    GateOpened,
    GateResolved,
    RunCreated,
    StepCanceled,
    StepFailed,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnknown,
)
from fleetprompt_agent.engine.core.outcomes import AttemptEnd, judge
from fleetprompt_agent.language.expressions import ExpressionError, parse_expression
from fleetprompt_agent.language.plan import plan_to_json
from fleetprompt_agent.language.planview import Known, known_action
from fleetprompt_agent.language.schemas import schema_problems
from fleetprompt_agent.language.templates import parse_template
from fleetprompt_agent.steps.flow import FLOW_TOOLS, FlowRunner
from fleetprompt_agent.steps.reading import check_output, parse_output
from fleetprompt_protocol.errors import FleetPromptError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetprompt_agent.engine.core.commands import Command
    from fleetprompt_agent.engine.core.events import Body, Json
    from fleetprompt_agent.engine.core.state import GateState, RunState, StepState
    from fleetprompt_agent.language.expressions import Reference
    from fleetprompt_agent.language.plan import Plan, PlanStep

Basis = Literal["recorded", "computed", "assumed", "unknown"]
"""What an outcome rests on: `recorded` for this very action; `computed`, as `flow` steps are;
`assumed`: recorded for another action, or for one that rests on something unknown; `unknown`:
nothing was recorded."""


@dataclass(slots=True)
class Performed:
    """What a rehearsed step did."""

    action: Json
    basis: Basis
    rests_on: tuple[str, ...] = ()
    """Paths of steps with an unknown outcome that the action or the condition reads."""


@dataclass(slots=True)
class Asked:
    """A gate that was opened in the rehearsal."""

    command: OpenGate
    recorded: GateState | None
    """The same question in the recorded run; a gate that it never asked is taken as approved."""


@dataclass(slots=True)
class Rehearsal:
    """How a rehearsed run went."""

    state: RunState
    recorded: RunState
    performed: dict[str, Performed] = field(default_factory=dict)
    """By step path; a step that did not start is not in it."""
    asked: list[Asked] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    """Paths of steps whose outcome nobody can know."""


def rehearse(run_id: str, events: list[Event], plan: Plan, inputs: dict[str, Json]) -> Rehearsal:
    """The recorded run as it would have gone under the plan.

    Args:
        run_id: Whose run it is.
        events: All of its events; whatever became of it.
        plan: What to put it through.
        inputs: Checked for the plan.

    Raises:
        JournalError: `journal.corrupt`: the events cannot be folded.
    """
    recorded = fold(run_id, events)
    created = RunCreated(
        plan=plan_to_json(plan),
        inputs=inputs,
        root=recorded.root,
        cwd=recorded.cwd,
        intent=recorded.intent if _is_beforehand(recorded.intent) else None,
        max_output_bytes=recorded.max_output_bytes,
    )
    state = begin(run_id, _event(1, recorded.created_ms, created))
    driver = _Driver(Rehearsal(state, recorded), _Record.of(events))
    driver.drive()
    return driver.rehearsal


Outcome = StepSucceeded | StepFailed


@dataclass(slots=True)
class _Record:
    """What came from outside in the recorded run, and when: by the numbers of the events."""

    starts: dict[str, list[int]] = field(default_factory=dict)
    """Of each attempt, by path."""
    outcomes: dict[str, list[tuple[int, Outcome]]] = field(default_factory=dict)
    """Of the attempts that ended by themselves, by path."""
    decisions: dict[str, int] = field(default_factory=dict)
    """By gate id."""

    @classmethod
    def of(cls, events: list[Event]) -> Self:
        record = cls()
        for event in events:
            match event.body:
                case StepStarted(path):
                    record.starts.setdefault(path, []).append(event.seq)
                case (StepSucceeded(path) | StepFailed(path)) as body:
                    # What a person told, or was settled without an act, is no outcome.
                    if path in record.starts and not (body.result or {}).get("told"):
                        record.outcomes.setdefault(path, []).append((event.seq, body))
                case GateResolved(gate_id):
                    record.decisions[gate_id] = event.seq
        return record


def _is_beforehand(intent: str | None) -> bool:
    """Whether side effects were allowed when the run was started, not by a gate of its own."""
    return intent is not None and not intent.startswith("gate:")


def _event(seq: int, at_ms: int, body: Body) -> Event:
    return Event(seq, at_ms, body, f"rehearsal:{seq}", "rehearsal", "rehearsal", None, "system")


class _Driver:
    """Performs what the core decides, with recorded outcomes in place of acts."""

    def __init__(self, rehearsal: Rehearsal, record: _Record) -> None:
        self.recorded = recorded = rehearsal.recorded
        self.record = record
        self.rehearsal = rehearsal
        self.state = rehearsal.state
        self._flow = FlowRunner()
        self._attempts = Attempts({})
        self._gates = {(gate.kind, gate.step_path): gate for gate in recorded.gates.values()}
        self._to_come: list[tuple[int, int, Callable[[], None]]] = []
        """What was recorded for that which is under way: `(when, number, deliver)`, a heap."""
        self._count = 0
        self._due: set[str] = set()
        """Paths of retries whose time has come."""

    def drive(self) -> None:
        """Perform until only what is under way is left, then deliver the earliest of it."""
        while self.state.ended is None:
            progress = True
            while progress:
                self._overrule_conditions()
                progress = False
                for command in decide(self.state):
                    progress |= self._perform(command)
            if not self._to_come:
                return
            at, _, deliver = heappop(self._to_come)
            deliver()
            # What was recorded without anything between came at once: nothing started in between.
            while self._to_come and self._to_come[0][0] == at + 1:
                at, _, deliver = heappop(self._to_come)
                deliver()

    def _later(self, recorded_at: int, deliver: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._to_come, (recorded_at, self._count, deliver))

    def _emit(self, body: Body, actor: Json = None) -> None:
        event = _event(self.state.seq + 1, self.state.last_ms, body)
        if actor is not None:
            event = replace(event, actor_type=actor["type"], actor_id=actor["id"])
        apply(self.state, event)

    def _perform(self, command: Command) -> bool:
        """Whether the state has changed; what an earlier command made void is passed over."""
        state = self.state
        if not is_due(state, command):
            return False
        match command:
            case Settle(body):
                self._emit(body)
            case StartStep(path, attempt):
                step = state.startable[path]
                if step.status == "retrying" and path not in self._due:
                    return False
                self._due.discard(path)
                self._start(step, attempt)
            case OpenGate():
                self._ask(command)
            case CancelStep(path):
                self._emit(StepCanceled(path, 1))
            case ScheduleRetry(path, attempt):
                self._emit(StepRetryScheduled(path, attempt, state.last_ms))
                starts = self.record.starts.get(path, [])
                at = starts[attempt] if attempt < len(starts) else _LAST
                self._later(at - 1, partial(self._due.add, path))
            case _:
                assert_never(command)
        return True

    # Steps

    def _start(self, step: StepState, attempt: int) -> None:
        rests_on = self._unknown_reads(step)
        if step.is_composite and not rests_on:
            self.rehearsal.performed[step.path] = Performed(None, "computed")
            self._emit(StepStarted(step.path, attempt, ""))
            return
        action = self._shown_action(step, rests_on)
        basis, at, end = self._outcome(step, attempt, action, rests_on)
        if end is None:
            self._mark_unknown(step)
        shown = None if isinstance(action, Exception) else action
        self.rehearsal.performed[step.path] = Performed(shown, basis, rests_on)
        if step.is_composite:
            # What it consists of cannot be known: it is taken as a whole.
            self._emit(_as_a_whole(step, end))
            return
        self._emit(StepStarted(step.path, attempt, "", shown))
        if basis == "computed":
            self._deliver(step, end)
        else:
            self._later(at, lambda: self._deliver(step, end))

    def _deliver(self, step: StepState, end: AttemptEnd | None) -> None:
        if step.path not in self.state.running:
            return  # it was stopped before
        if end is None:
            self._emit(StepSucceeded(step.path, step.attempt, {}))
            return
        body = judge(self.state, step, end, self.state.last_ms)
        if isinstance(body, StepUnknown):
            # Whether an outcome will be unknown is no matter of the plan.
            body = StepFailed(step.path, step.attempt, body.error, body.result, effect="unknown")
        self._emit(body)

    def _outcome(
        self, step: StepState, attempt: int, action: Json, rests_on: tuple[str, ...]
    ) -> tuple[Basis, int, AttemptEnd | None]:
        """How the attempt ends, and when it did; None when nobody can know."""
        if isinstance(action, FleetPromptError | rendering.RenderError):
            return "computed", 0, AttemptEnd(False, {}, action.to_data(), "none", 0.0)
        if step.step.tool_id in FLOW_TOOLS and not rests_on:
            done = self._flow.perform(self._attempts.request(self.state, step, attempt))
            end = AttemptEnd(done.ok, done.result, done.error, done.effect, 0.0)
            return "computed", 0, end
        outcomes = self.record.outcomes.get(step.path, [])
        if attempt > len(outcomes):
            return "unknown", _LAST, None
        at, body = outcomes[attempt - 1]
        was = self.recorded.steps.get(step.path)
        is_same = not rests_on and was is not None and action == was.action
        return "recorded" if is_same else "assumed", at, _read_anew(step.step, body)

    def _shown_action(self, step: StepState, rests_on: tuple[str, ...]) -> Json:
        """The action as a journal has it, or with placeholders; or the error that prevents it."""
        if rests_on:
            known = known_action(step.step, self._known(step)) or {}
            return {key: value for key, value in known.items() if value not in (None, {})}
        try:
            return self._attempts.shown(self._attempts.request(self.state, step, 1))
        except (FleetPromptError, rendering.RenderError) as error:
            return error

    def _known(self, step: StepState) -> Known:
        steps = {
            name: rendering.view(other)
            for name, other in step.scope.steps.items()
            if other.is_settled and other.path not in self.rehearsal.unknown
        }
        return Known({"inputs": step.scope.inputs, "steps": steps}, frozenset({"steps"}))

    # What nobody can know

    def _mark_unknown(self, step: StepState) -> None:
        """Nobody can know the outcome, nor that of what the step is a part of."""
        part: StepState | None = step
        while part is not None:
            self.rehearsal.unknown.add(part.path)
            part = part.parent or part.scope.owner

    def _unknown_reads(self, step: StepState) -> tuple[str, ...]:
        """Paths of steps with an unknown outcome that the step reads, its condition included."""
        found: dict[str, None] = {}
        for reference in _references(step.step):
            if reference.root != "steps":
                continue
            names = [str(reference.path[0])] if reference.path else list(step.scope.steps)
            for name in names:
                other = step.scope.steps.get(name)
                if other is not None and other.path in self.rehearsal.unknown:
                    found[other.path] = None
        return tuple(found)

    def _overrule_conditions(self) -> None:
        """A condition that reads what is unknown is taken as it was recorded, else as true."""
        for path, body in list(self.state.settle.items()):
            step = self.state.steps.get(path)
            if step is None or step.step.condition is None or step.verdict is not body:
                continue
            was = self.recorded.steps.get(path)
            was_skipped = was is not None and was.skip_reason == "condition"
            if was_skipped and isinstance(body, StepSkipped):
                continue
            is_need = isinstance(body, StepSkipped) and body.reason != "condition"
            if not is_need and self._unknown_reads(step):
                step.verdict = StepSkipped(path, "condition") if was_skipped else "run"
                schedule.classify(self.state, step)

    # Gates

    def _ask(self, command: OpenGate) -> None:
        state, path = self.state, command.step_path
        recorded = self._gates.get((command.kind, path))
        self.rehearsal.asked.append(Asked(command, recorded))
        if recorded is not None and path is not None and command.kind == "judgement":
            recorded = self._judged(state.steps[path], command, recorded)
        if recorded is None and path is not None and command.kind != "approval":
            # What a person would have answered is not known.
            self._mark_unknown(state.steps[path])
            self.rehearsal.performed[path] = Performed(None, "unknown")
            self._emit(StepSucceeded(path, 1, {}))
            return
        gate_id = f"{state.run_id}.g{len(state.gates) + 1}"
        self._emit(
            GateOpened(
                gate_id, command.kind, command.action, "", "", 0, path, command.prompt,
                command.preview, command.items, command.response_schema,
            )
        )  # fmt: skip
        if recorded is None:
            self._emit(GateResolved(gate_id, "approve", "rehearsal", step_path=path))
        elif recorded.decision is not None:
            at = self.record.decisions.get(recorded.gate_id, _LAST)
            self._later(at, lambda: self._decide(gate_id, recorded))

    def _judged(self, step: StepState, command: OpenGate, recorded: GateState) -> GateState | None:
        """The recorded answer to a question, unless what is asked for now is of another shape."""
        if recorded.decision is None:
            return recorded
        if schema_problems(command.response_schema, recorded.response):
            return None
        rests_on = self._unknown_reads(step)
        was = (recorded.prompt, recorded.action, recorded.response_schema)
        is_same = not rests_on and was == (command.prompt, command.action, command.response_schema)
        basis: Basis = "recorded" if is_same else "assumed"
        self.rehearsal.performed[step.path] = Performed(None, basis, rests_on)
        return recorded

    def _decide(self, gate_id: str, recorded: GateState) -> None:
        if self.state.gates[gate_id].is_open and recorded.decision is not None:
            self._emit(
                GateResolved(
                    gate_id, recorded.decision, "rehearsal", recorded.reason, recorded.response,
                    recorded.step_path, recorded.usage,
                ),
                recorded.actor,
            )  # fmt: skip


_LAST = 1 << 62
"""After everything that was recorded."""


def _as_a_whole(step: StepState, end: AttemptEnd | None) -> Body:
    if end is not None and not end.ok:
        return StepFailed(step.path, 1, end.error, end.result, effect=end.effect)
    return StepSucceeded(step.path, 1, {} if end is None else end.result)


def _read_anew(planned: PlanStep, was: Outcome) -> AttemptEnd:
    """A recorded outcome as the plan now reads it: exit codes, output, schema."""
    result: dict[str, Json] = dict(was.result or {})
    error = was.error if isinstance(was, StepFailed) else None
    code = result.get("exit_code")
    if error is not None and error.get("code") in _READING:
        error = None
    if planned.namespace == "cli" and isinstance(code, int):
        if code not in planned.ok_exit_codes:
            message = f"`{planned.tool_id.partition(':')[2]}` ended with exit code {code}."
            error = error or {"code": "step.exit_code", "message": message, "retryable": False}
        result.pop("json", None)
        if planned.output.type == "json" and "stdout" not in result.get("truncated", {}):
            stdout = str(result.get("stdout", ""))
            value, problem = parse_output(stdout.encode("utf-8", "surrogatepass"))
            if problem is None:
                result["json"] = value
                if planned.output.schema is not None:
                    problem = check_output(value, planned.output.schema)
            error = error or problem
    return AttemptEnd(error is None, result, error, was.effect, was.duration_ms)


_READING = frozenset({"step.exit_code", "step.postcondition", "output.not_json", "output.schema"})
"""Errors that lie in how an outcome was read, which another plan may read otherwise."""


def _references(planned: PlanStep) -> Iterator[Reference]:
    """Every path that the step reads before it acts."""
    approval, ask = planned.approval, planned.ask
    templates = [planned.arguments, planned.stdin, planned.env]
    templates.append(approval.preview if approval is not None else None)
    templates.append(ask.choices_from if ask is not None else None)
    templates.append(planned.judgement.prompt if planned.judgement is not None else None)
    for template in templates:
        yield from parse_template(template).references
    sources = [planned.condition, planned.for_each.items if planned.for_each else None]
    for source in sources:
        if source is not None:
            try:
                yield from parse_expression(source).references
            except ExpressionError:
                continue
