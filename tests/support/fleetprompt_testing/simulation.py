"""Runs of the pure core in memory: every outcome, interleaving and crash is drawn at random.

The simulation plays the runner and the world. It performs commands in any order that the core
allows, ends attempts when it likes, answers gates, cancels, and loses its memory: after a crash the
state is folded again from the events, as a new owner would.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.core.apply import apply, begin, fold
from fleetprompt_agent.engine.core.commands import (
    CancelStep,
    Command,
    OpenGate,
    ScheduleRetry,
    Settle,
    StartStep,
)
from fleetprompt_agent.engine.core.decide import decide
from fleetprompt_agent.engine.core.events import (
    Body,
    Event,
    GateOpened,
    GateResolved,
    LeaseTaken,
    RunCancelRequested,
    RunCreated,
    RunReopened,
    StepCanceled,
    StepFailed,
    StepRetryScheduled,
    StepStarted,
)
from fleetprompt_agent.engine.core.outcomes import AttemptEnd, judge
from fleetprompt_agent.engine.requests import DECISIONS
from fleetprompt_agent.language.plan import Plan, plan_digest, plan_to_json

if TYPE_CHECKING:
    from random import Random

    from fleetprompt_agent.engine.core.state import RunState, StepState


@dataclass
class Odds:
    """How likely the world does what, per step end or per turn (0 to 1)."""

    failure: float = 0.1
    unknown: float = 0.05
    crash: float = 0.02
    cancel: float = 0.005
    denial: float = 0.05
    reopen: float = 0.3
    """Per failed run, once it has ended."""


@dataclass
class Simulation:
    """One run in memory."""

    plan: Plan
    random: Random
    inputs: dict[str, Any] = field(default_factory=dict)
    intent: str | None = "spawner"
    odds: Odds = field(default_factory=Odds)
    events: list[Event] = field(default_factory=list)
    acts: dict[str, int] = field(default_factory=dict)
    """Path to number of times that the step acted on the world."""
    crashes: int = 0
    epoch: int = 0

    def __post_init__(self) -> None:
        if not self.plan.digest:
            self.plan = replace(self.plan, digest=plan_digest(self.plan))
        first = self._event(
            RunCreated(plan_to_json(self.plan), self.inputs, "/workspace", None, self.intent), 1
        )
        self.events.append(first)
        self.state: RunState = begin("run-1", first)
        self.take_lease()

    def _event(self, body: Body, seq: int) -> Event:
        return Event(seq, 1_000_000 + seq * 10, body, f"e{seq}", "req-1", "cor-1", None)

    def emit(self, body: Body) -> None:
        """Journal and fold one event."""
        event = self._event(body, self.state.seq + 1)
        self.events.append(event)
        apply(self.state, event)

    def take_lease(self) -> None:
        """A new owner adopts the run."""
        self.epoch += 1
        self.emit(LeaseTaken("owner", self.epoch))

    def crash(self) -> None:
        """The owner dies; another one folds the journal and goes on."""
        self.crashes += 1
        self.state = fold("run-1", self.events)
        self.take_lease()

    def perform(self, command: Command) -> bool:
        """Do what the core asked; whether the state has changed."""
        state = self.state
        match command:
            case Settle(body):
                path = getattr(body, "step_path", None)
                due = state.finish if path is None else state.settle.get(path)
                if due is not body and path not in state.to_gate:
                    return False
                self.emit(body)
            case StartStep():
                if command.step_path not in state.startable:
                    return False
                self._start(state.steps[command.step_path], command.attempt)
            case OpenGate():
                path = command.step_path
                if path is None and (not state.held or state.effects_gate is not None):
                    return False
                if path is not None and path not in state.to_gate:
                    return False
                number = len(state.gates) + 1
                self.emit(
                    GateOpened(
                        f"g{number}", command.kind, command.action, "digest", "hash", 10**15,
                        path, command.prompt, command.preview, command.items,
                        command.response_schema,
                    )
                )  # fmt: skip
            case ScheduleRetry():
                if command.step_path not in state.startable:
                    return False
                self.emit(StepRetryScheduled(command.step_path, command.attempt, 1))
            case CancelStep():
                step = state.running.get(command.step_path)
                if step is None:
                    return False
                self.emit(StepCanceled(step.path, step.attempt))
        return True

    def _start(self, step: StepState, attempt: int) -> None:
        if not step.is_composite:
            try:
                rendering.action(self.state, step)
            except rendering.RenderError as error:
                self.emit(StepFailed(step.path, step.attempt, error.to_data()))
                return
            self.acts[step.path] = self.acts.get(step.path, 0) + 1
        self.emit(StepStarted(step.path, attempt, f"run-1/{step.path}"))

    def settle_commands(self) -> None:
        """Perform commands until none changes anything."""
        changed = True
        while changed:
            changed = False
            for command in decide(self.state):
                changed |= self.perform(command)

    def end_attempt(self, step: StepState) -> None:
        """The world has done something with a running step."""
        roll = self.random.random()
        if roll < self.odds.unknown:
            error = {"code": "step.timeout", "message": "late", "retryable": True}
            end = AttemptEnd(False, {}, error, "unknown", 1.0)
        elif roll < self.odds.unknown + self.odds.failure:
            error = {"code": "step.exit_code", "message": "bad", "retryable": True}
            end = AttemptEnd(False, {"exit_code": 1}, error, "done", 1.0)
        else:
            result = {"json": self.random.randrange(3), "text": "ok", "stdout": "ok\n"}
            end = AttemptEnd(True, result, None, "done" if step.step.side_effects else "none", 1.0)
        self.emit(judge(self.state, step, end, 0))

    def answer_gate(self) -> None:
        """Somebody decides one of the open gates."""
        gate = self.random.choice(self.state.open_gates)
        options = DECISIONS[gate.kind]
        decision = options[0]
        if len(options) > 1 and self.random.random() < self.odds.denial:
            decision = self.random.choice(options[1:])
        self.emit(GateResolved(gate.gate_id, decision, "test", None, 1, gate.step_path))

    def turn(self) -> None:
        """One random thing happens."""
        if self.random.random() < self.odds.crash:
            self.crash()
            return
        if self.random.random() < self.odds.cancel:
            self.emit(RunCancelRequested("because"))
            return
        commands = decide(self.state)
        running = [step for step in self.state.running.values() if not step.in_doubt]
        choices: list[str] = []
        if commands:
            choices += ["command"] * 3
        if running:
            choices.append("end")
        if self.state.open_gates:
            choices.append("gate")
        match self.random.choice(choices):
            case "command":
                for command in self.random.sample(commands, k=len(commands)):
                    if self.perform(command):
                        break
            case "end":
                self.end_attempt(self.random.choice(running))
            case "gate":
                self.answer_gate()

    def run(self, most_turns: int = 20_000) -> RunState:
        """The state at the end of the run.

        Raises:
            AssertionError: the run does not come to an end.
        """
        for _ in range(most_turns):
            if self.state.is_terminal and not self.reopens():
                return self.state
            self.turn()
        raise AssertionError(f"no end after {most_turns} turns: {self.describe()}")

    def reopens(self) -> bool:
        """Whether somebody reopens the run, which has ended."""
        if self.state.ended != "failed" or self.random.random() >= self.odds.reopen:
            return False
        failed = [step.path for step in self.state.steps.values() if step.status == "failed"]
        if not failed:
            return False
        self.take_lease()
        self.emit(RunReopened(self.random.choice(failed)))
        return True

    def describe(self) -> dict[str, Any]:
        """What the run looks like, for a failed assertion."""
        return {
            "steps": {path: step.status for path, step in self.state.steps.items()},
            "commands": [type(command).__name__ for command in decide(self.state)],
            "phase": self.state.root_scope.phase,
            "stop": self.state.root_scope.stop,
            "open": self.state.root_scope.open,
            "busy": self.state.root_scope.busy,
            "last": [event.body.type for event in self.events[-10:]],
        }
