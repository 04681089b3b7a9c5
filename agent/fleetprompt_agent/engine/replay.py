"""A replay: a run's journal folded again, event by event, each one held against the core.

What the core decides must follow from what stands before it: the same step, attempt, rendered
action and digest, the same gate, the same end. What comes from outside (a lease, a cancel, a
person's decision, what a program did) is taken as it is, as far as the core would have taken it;
the outcome of a `flow` step is computed again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, assert_never

from fleetprompt_agent.engine.attempts import Attempts, digest_of
from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.core.apply import apply, begin
from fleetprompt_agent.engine.core.commands import OpenGate, ScheduleRetry, Settle
from fleetprompt_agent.engine.core.decide import decide
from fleetprompt_agent.engine.core.events import (
    Event,
    GateOpened,
    GateResolved,
    GateTokenIssued,
    LeaseTaken,
    RunCanceled,
    RunCancelRequested,
    RunCreated,
    RunFailed,
    RunReopened,
    RunSucceeded,
    StepCanceled,
    StepFailed,
    StepInterrupted,
    StepLateResult,
    StepRetryScheduled,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnknown,
    to_columns,
)
from fleetprompt_agent.engine.core.outcomes import AttemptEnd, judge
from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_agent.steps.flow import FLOW_TOOLS, FlowRunner
from fleetprompt_protocol.errors import FleetPromptError, JournalError

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Body, Json
    from fleetprompt_agent.engine.core.state import RunState, StepState

Origin = Literal["decided", "outside"]

CLOCK_SLACK_MS = 1_000
"""Between the reading of the clock from which a retry's due time was made, and its event."""

Settled = StepSucceeded | StepFailed | StepSkipped | StepCanceled | StepUnknown


class Deviation(Exception):  # noqa: N818 (an answer, not a fault)
    """The event is not what the core would have had there."""

    def __init__(self, why: str, expected: Json = None) -> None:
        super().__init__(why)
        self.why = why
        self.expected = expected


@dataclass(slots=True)
class Replay:
    """Takes a run's events, in order, until the first one that does not follow."""

    run_id: str
    state: RunState | None = None
    decided: int = 0
    """Events that the core called for."""
    outside: int = 0
    difference: dict[str, Json] | None = None
    """`{seq, type, step_path?, why, expected?, found?}` of the first event that does not follow."""
    _attempts: Attempts = field(default_factory=lambda: Attempts({}))
    _flow: FlowRunner = field(default_factory=FlowRunner)

    def take(self, event: Event) -> bool:
        """Whether the event follows; nothing is taken after one that does not."""
        if self.difference is not None:
            return False
        try:
            if self.state is None:
                self.state = begin(self.run_id, event)
                self.outside += 1
                return True
            origin = self._origin(self.state, event)
            apply(self.state, event)
        except Deviation as deviation:
            self._deviates(event, deviation.why, deviation.expected)
            return False
        except JournalError as error:
            self._deviates(event, error.message, None)
            return False
        if origin == "decided":
            self.decided += 1
        else:
            self.outside += 1
        return True

    def _deviates(self, event: Event, why: str, expected: Json) -> None:
        type_, step_path, attempt, data = to_columns(event.body)
        self.difference = {"seq": event.seq, "type": type_, "why": why}
        if step_path is not None:
            self.difference["step_path"] = step_path
        if attempt is not None:
            self.difference["attempt"] = attempt
        if expected is not None:
            self.difference |= {"expected": expected, "found": _brief(data)}

    def _origin(self, state: RunState, event: Event) -> Origin:
        """Where the event comes from.

        Raises:
            Deviation: it does not follow.
        """
        body = event.body
        match body:
            case (
                LeaseTaken() | RunCancelRequested() | RunReopened() | GateResolved()
                | GateTokenIssued() | StepInterrupted() | StepLateResult()
            ):  # fmt: skip
                return "outside"
            case RunCreated():
                raise Deviation("a run is created once")
            case RunSucceeded() | RunFailed() | RunCanceled():
                if state.finish is None:
                    raise Deviation("the run was not at its end", _next(state))
                _check_same(state.finish, body)
                return "decided"
            case StepStarted():
                return self._started(state, event, body)
            case StepRetryScheduled():
                return _retry(state, event, body)
            case GateOpened():
                return _gate(state, body)
            case StepSucceeded() | StepFailed() | StepSkipped() | StepCanceled() | StepUnknown():
                return self._settled(state, event, body)
            case _:
                assert_never(body)

    # Steps

    def _started(self, state: RunState, event: Event, body: StepStarted) -> Origin:
        step = state.startable.get(body.step_path)
        if step is None:
            raise Deviation("the step was not ready to start", _next(state))
        if body.attempt != step.attempt + 1:
            raise Deviation("it is another attempt", {"attempt": step.attempt + 1})
        if body.idempotency_key != state.key_of(step):
            raise Deviation("the idempotency key is another", state.key_of(step))
        if step.status == "retrying" and (step.due_ms is None or event.at_ms < step.due_ms):
            raise Deviation("the retry was not due", {"due_ms": step.due_ms})
        if step.is_composite:
            return "decided"
        busy = sum(not running.in_doubt for running in state.running.values())
        if busy >= state.plan.max_parallel:
            raise Deviation(f"{busy} steps ran already", {"max_parallel": state.plan.max_parallel})
        if step.deadline_ms is not None and body.deadline_ms != step.deadline_ms:
            raise Deviation("the deadline is another", {"deadline_ms": step.deadline_ms})
        action = self._action(state, step, body.attempt)
        if digest_of(action) != body.action_digest or digest_of(body.action) != body.action_digest:
            raise Deviation("the rendered action is another", {"action": _brief(action)})
        return "decided"

    def _action(self, state: RunState, step: StepState, attempt: int) -> dict[str, Json]:
        try:
            return self._attempts.shown(self._attempts.request(state, step, attempt))
        except (rendering.RenderError, FleetPromptError) as error:
            raise Deviation("the step could not have started", error.to_data()) from None

    def _settled(self, state: RunState, event: Event, body: Settled) -> Origin:
        step = state.steps.get(body.step_path)
        if step is None:
            raise Deviation("there is no such step")
        settle = state.settle.get(step.path)
        if settle is not None and not (step.path in state.running and not step.in_doubt):
            _check_same(settle, body)
            return "decided"
        if step.path in state.running:
            self._outcome(state, step, event, body)
            return "outside"
        if isinstance(body, StepFailed) and self._could_not_begin(state, step, body):
            return "decided"
        raise Deviation(f"the step was {step.status}", _next(state))

    def _could_not_begin(self, state: RunState, step: StepState, body: StepFailed) -> bool:
        """Whether the step fails because its action or its gate cannot be made."""
        if step.path in state.to_gate:
            command = _command_of(state, step.path, OpenGate)
            if command is None:
                bodies = [one.body for one in decide(state) if isinstance(one, Settle)]
                return any(_text(one) == _text(body) for one in bodies)
            # The program, its directory or what it is given: looked up outside the core.
            return step.step.kind == "action" and body.effect == "none"
        if step.path not in state.startable or body.effect != "none":
            return False
        try:
            self._attempts.request(state, step, step.attempt + 1)
        except (rendering.RenderError, FleetPromptError) as error:
            return canonical_json(error.to_data()) == canonical_json(body.error)
        return step.approval is not None or bool(step.step.uses)

    def _outcome(self, state: RunState, step: StepState, event: Event, body: Settled) -> None:
        """Hold what a program did against what the plan makes of it."""
        if isinstance(body, StepSkipped):
            raise Deviation("a step that runs is not skipped")
        if body.attempt != step.attempt:
            raise Deviation("another attempt was running", {"attempt": step.attempt})
        if isinstance(body, StepCanceled):
            if not state.cancels:
                raise Deviation("nobody had cancelled the run")
            return
        if step.step.tool_id in FLOW_TOOLS:
            self._computed(state, step, body)
        ends = [_end(body, effect) for effect in _effects(body)]
        # The clock was read a little before the event was made.
        judged = [
            judge(state, step, end, at) for end in ends for at in (state.last_ms, event.at_ms)
        ]
        if not any(_verdict(one) == _verdict(body) for one in judged):
            raise Deviation("the outcome is judged otherwise", _verdict(judged[0]))

    def _computed(self, state: RunState, step: StepState, body: Settled) -> None:
        """A `flow` step gives the same again."""
        done = self._flow.perform(self._attempts.request(state, step, step.attempt))
        given = getattr(body, "result", None) or {}
        if canonical_json(done.result) != canonical_json(given):
            raise Deviation("the step gives something else", {"result": _brief(done.result)})


def _effects(body: Settled) -> tuple[Literal["none", "done", "unknown"], ...]:
    """What the attempt may have reported; `step.unknown` does not keep it."""
    return ("unknown", "done") if isinstance(body, StepUnknown) else (_effect_of(body),)


def _effect_of(body: Settled) -> Literal["none", "done", "unknown"]:
    return body.effect if isinstance(body, StepSucceeded | StepFailed) else "unknown"


def _end(body: Settled, effect: Literal["none", "done", "unknown"]) -> AttemptEnd:
    """The end of the attempt as the runner saw it, before it was judged."""
    error = getattr(body, "error", None)
    result = getattr(body, "result", None) or {}
    if error is not None and error.get("code") == "step.postcondition":
        return AttemptEnd(True, result, None, effect, 0.0)
    return AttemptEnd(error is None, result, error, effect, 0.0)


def _verdict(body: Body) -> dict[str, Json]:
    """What the judgement decides of an outcome."""
    verdict: dict[str, Json] = {"type": body.type}
    if isinstance(body, StepFailed):
        verdict |= {"code": (body.error or {}).get("code"), "retryable": body.retryable}
    return verdict


# Retries and gates


def _retry(state: RunState, event: Event, body: StepRetryScheduled) -> Origin:
    command = _command_of(state, body.step_path, ScheduleRetry)
    if not isinstance(command, ScheduleRetry):
        raise Deviation("no retry was to be scheduled", _next(state))
    if body.attempt != command.attempt:
        raise Deviation("it is another attempt", {"attempt": command.attempt})
    least = command.delay_s * (1 - command.jitter) * 1000
    most = command.delay_s * (1 + command.jitter) * 1000
    wait = body.due_ms - event.at_ms
    if not least - CLOCK_SLACK_MS <= wait <= most + 1:
        raise Deviation(f"the pause is {wait} ms", {"least_ms": least, "most_ms": most})
    return "decided"


def _gate(state: RunState, body: GateOpened) -> Origin:
    if digest_of(body.action) != body.action_digest:
        raise Deviation("the digest is not that of the action that was shown")
    step = state.steps.get(body.step_path) if body.step_path is not None else None
    asked_again = step is not None and (step.approval is not None or step.step.uses)
    if step is not None and asked_again and step.path in state.startable:
        if step.approval is not None and step.approval.action_digest == body.action_digest:
            raise Deviation("this very action was approved")
        return "decided"
    command = _command_of(state, body.step_path, OpenGate)
    if not isinstance(command, OpenGate):
        raise Deviation("no gate was to be opened", _next(state))
    for name in ("kind", "prompt", "preview", "items", "response_schema"):
        wanted, found = getattr(command, name), getattr(body, name)
        if canonical_json(wanted) != canonical_json(found):
            raise Deviation(f"the gate's {name} is another", {name: _brief(wanted)})
    shown = body.action if isinstance(body.action, dict) else {}
    for key, wanted in (command.action or {}).items():
        if key not in _LOOKED_UP and canonical_json(shown.get(key)) != canonical_json(wanted):
            raise Deviation(f"the {key} of the gate's action is another", {key: _brief(wanted)})
    return "decided"


_LOOKED_UP = ("env", "stdin", "cwd", "tainted")
"""Of a gate's action: what the approver is shown in another form, or not at all."""


def _command_of(
    state: RunState, path: str | None, kind: type[OpenGate | ScheduleRetry]
) -> OpenGate | ScheduleRetry | None:
    for command in decide(state):
        if isinstance(command, kind) and command.step_path == path:
            return command
    return None


# Telling


def _check_same(wanted: Body, found: Body) -> None:
    if _text(wanted) != _text(found):
        type_, _, _, data = to_columns(wanted)
        raise Deviation(
            "the core would have journaled something else", {"type": type_, **_brief(data)}
        )


def _text(body: Body) -> str:
    return canonical_json(list(to_columns(body)))


def _next(state: RunState) -> list[dict[str, Json]]:
    """What the core called for, in short."""
    shown = []
    for command in decide(state)[:10]:
        entry: dict[str, Json] = {"command": type(command).__name__}
        if isinstance(command, Settle):
            type_, step_path, _, _ = to_columns(command.body)
            entry |= {"type": type_, "step_path": step_path}
        else:
            entry["step_path"] = command.step_path
        shown.append(entry)
    return shown


def _brief(value: Json, most: int = 2_000) -> Json:
    """The value, or the beginning of its text when it is long."""
    text = canonical_json(value)
    if len(text) <= most:
        return value
    return {"text": text[:most] + "…"} if isinstance(value, dict) else text[:most] + "…"
