"""Whatever a run goes through, its journal follows from itself."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

from fleetprompt_testing.memory_journal import MemoryJournal, MemoryStore
from fleetprompt_testing.plans import effect, plan, random_plan, step
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_agent.engine.core.events import StepInterrupted, StepUnknown
from fleetprompt_agent.engine.custody import NewRun
from fleetprompt_agent.engine.engine import Engine
from fleetprompt_agent.engine.owner import Owner
from fleetprompt_agent.engine.rehearsal import rehearse
from fleetprompt_agent.engine.replay import Replay
from fleetprompt_agent.engine.requests import DECISIONS, Asker, Decide
from fleetprompt_agent.engine.run_difference import difference
from fleetprompt_agent.language.plan import Need, Plan, Retry, plan_digest
from fleetprompt_agent.steps.contract import StepOutcome, StepRequest
from fleetprompt_agent.steps.flow import FlowRunner
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import GateState
    from fleetprompt_agent.steps.contract import Progress, StepRunner

ASKER = Asker("request", "run")


class DrawnRunner:
    """Performs `cli` steps with outcomes drawn at random."""

    def __init__(self, random: Random) -> None:
        self.random = random

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:  # noqa: ARG002 - the runner protocol
        await asyncio.sleep(0)
        luck = self.random.random()
        result = {"stdout": "1\n", "stderr": "", "exit_code": 0, "text": "1"}
        if luck < 0.75:
            return StepOutcome(True, result, None, "done", 1.0, {})
        error = {"code": "step.exit_code", "message": "no", "retryable": False}
        return StepOutcome(
            False, {**result, "exit_code": 1}, error, "unknown" if luck < 0.8 else "done", 1.0, {}
        )

    def resolve_action(self, request: StepRequest) -> dict[str, Any]:
        return {"tool": request.tool_id, "argv": request.action["argv"], "program": "/bin/x"}


def hastened(drawn: Plan) -> Plan:
    """The plan with pauses that cost no time."""
    soon = Retry(max_attempts=3, initial_s=0.001, max_s=0.001)

    def each(steps: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(
            replace(one, retry=soon) if one.retry.max_attempts > 1 else one for one in steps
        )

    workflows = {name: hastened(inner) for name, inner in drawn.workflows.items()}
    quick = replace(
        drawn,
        steps=each(drawn.steps),
        finally_steps=each(drawn.finally_steps),
        workflows=workflows,
    )
    return replace(quick, digest=plan_digest(quick))


def answer_to(gate: GateState, random: Random) -> Decide:
    """A person's decision, mostly in favour."""
    choices = DECISIONS[gate.kind]
    decision = choices[0] if random.random() < 0.8 else random.choice(choices)
    return Decide(gate.gate_id, decision, "terminal", response=random.randint(0, 2))


async def lived(drawn: Plan, random: Random) -> list[Event]:
    """The events of a run that is interrupted, taken over, decided about and sometimes canceled."""
    store = MemoryStore()

    def engine() -> Engine:
        runners: dict[str, StepRunner] = {"cli": DrawnRunner(random), "flow": FlowRunner()}
        return Engine(MemoryJournal(store), "/project", Owner.of_this_process(), runners)

    now = engine()
    intent = random.choice(["spawner", None])
    new = NewRun(plan=drawn, inputs={}, intent=intent)
    snapshot = await now.start(new, ASKER, None, 0.0 if random.random() < 0.3 else 5.0)
    for _ in range(60):
        state = snapshot.state
        if state.is_terminal:
            break
        luck = random.random()
        if luck < 0.15:
            await now.stop()
            now = engine()
        elif luck < 0.2:
            await now.cancel("run", "enough", ASKER)
        elif state.open_gates:
            gate = random.choice(state.open_gates)
            with suppress(RequestError):
                await now.decide("run", answer_to(gate, random), ASKER, None, 5.0)
        snapshot = await now.resume("run", ASKER, None, 5.0)
    await now.stop()
    return now.journal.load("run")


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_every_run_follows_from_itself(seed: int) -> None:
    random = Random(seed)
    events = asyncio.run(lived(hastened(random_plan(random)), random))
    replay = Replay("run")
    assert all(replay.take(event) for event in events), (seed, replay.difference)
    assert replay.decided + replay.outside == len(events)
    state = fold("run", events)
    assert replay.state is not None
    assert (replay.state.ended, replay.state.seq) == (state.ended, state.seq)


@settings(max_examples=60)
@given(st.integers(0, 2**32))
def test_a_run_rehearsed_under_its_own_plan_is_the_same_run(seed: int) -> None:
    """If it went by itself: nothing was stopped in the middle, and no outcome is unknown."""
    random = Random(seed)
    events = asyncio.run(lived(hastened(random_plan(random)), random))
    state = fold("run", events)
    by_itself = not state.cancels and not any(
        isinstance(event.body, StepInterrupted | StepUnknown) for event in events
    )
    again = rehearse("run", events, state.plan, state.inputs)
    changed = difference(again)
    assert {step["change"] for step in changed["steps"]} <= {"same", "changed", "new", "gone"}
    if not by_itself or state.ended is None:
        return
    assert again.state.ended == state.ended, seed
    assert changed["counts"]["same"] == len(changed["steps"]), (seed, changed)


def run_of(drawn: Plan, seed: int = 1) -> list[Event]:
    return asyncio.run(lived(hastened(drawn), Random(seed)))


def test_a_replay_stops_at_the_first_event_that_does_not_follow() -> None:
    events = run_of(plan(effect("a"), step("b", 1, needs=[Need("a", "order")])))
    for number in range(1, len(events)):
        missing = [*events[:number], *events[number + 1 :]]
        replay = Replay("run")
        taken = [replay.take(event) for event in missing]
        if number + 1 < len(events):
            assert taken[-1] is False
            assert replay.difference is not None
            assert replay.difference["seq"] == events[number + 1].seq
    replay = Replay("run")
    assert not all(replay.take(event) for event in (events[0], events[2], events[1]))
