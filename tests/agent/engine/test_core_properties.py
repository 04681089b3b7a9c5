"""Properties of the pure core over generated plans, outcomes, interleavings and crashes."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

from fleetprompt_testing.plans import random_plan
from fleetprompt_testing.simulation import Odds, Simulation
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_agent.engine.core.decide import decide
from fleetprompt_agent.engine.core.events import (
    Event,
    RunCancelRequested,
    RunReopened,
    StepStarted,
    body_from,
    to_columns,
)
from fleetprompt_agent.engine.core.schedule import may_not_start
from fleetprompt_agent.engine.core.state import MAX_JUDGEMENTS, SETTLED, RunState
from fleetprompt_agent.language.plan import plan_from_json, plan_to_json

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.state import StepState

seeds = st.integers(0, 2**32)
several = settings(max_examples=150)


def simulation(seed: int, odds: Odds | None = None) -> Simulation:
    random = Random(seed)
    return Simulation(
        random_plan(random), random, intent=random.choice([None, "spawner"]), odds=odds or Odds()
    )


def picture(state: RunState) -> dict[str, object]:
    """Everything of a state that a caller could see or that decides what follows."""
    return {
        "steps": {
            path: (step.status, step.attempt, step.failures, step.result, step.error)
            for path, step in state.steps.items()
        },
        "gates": {key: (gate.decision, gate.step_path) for key, gate in state.gates.items()},
        "commands": [repr(command) for command in decide(state)],
        "ended": state.ended,
        "outputs": state.outputs,
        "waiting": state.is_waiting,
        "running": list(state.running),
    }


@several
@given(seeds)
def test_every_run_comes_to_an_end(seed: int) -> None:
    state = simulation(seed).run()
    assert state.is_terminal
    assert decide(state) == ()


@several
@given(seeds)
def test_a_fold_of_the_journal_gives_the_state_that_wrote_it(seed: int) -> None:
    sim = simulation(seed)
    sim.run()
    assert picture(fold("run-1", sim.events)) == picture(sim.state)


@several
@given(seeds, st.floats(0, 1))
def test_a_journal_cut_anywhere_is_legal_and_can_be_continued(seed: int, where: float) -> None:
    sim = simulation(seed)
    sim.run()
    sim.events = sim.events[: max(2, int(len(sim.events) * where))]
    sim.state = fold("run-1", sim.events)
    sim.epoch += 1
    if not sim.state.is_terminal:
        sim.take_lease()
    assert sim.run().is_terminal


@several
@given(seeds)
def test_a_finished_step_never_starts_again(seed: int) -> None:
    sim = simulation(seed)
    sim.run()
    finished: dict[str, str] = {}
    for event in sim.events:
        path = str(getattr(event.body, "step_path", None))
        if isinstance(event.body, StepStarted):
            assert path not in finished
        elif event.body.type in ("step.succeeded", "step.skipped", "step.canceled"):
            finished[path] = event.body.type
        elif event.body.type == "run.reopened":
            # What succeeded stays, but for `finally`, which closes every end of the run.
            finished = {
                name: type_
                for name, type_ in finished.items()
                if type_ == "step.succeeded" and not closes(name)
            }


def closes(path: str) -> bool:
    """Whether the path is that of a `finally` step of a generated plan, or below one."""
    return any(part in ("close", "last") for part in path.split("/"))


@several
@given(seeds)
def test_a_step_starts_only_when_its_needs_have_settled(seed: int) -> None:
    sim = simulation(seed)
    seen = 0
    while not sim.state.is_terminal:
        sim.turn()
        for event in sim.events[seen:]:
            if isinstance(event.body, StepStarted):
                _assert_needs_settled(sim.state.steps[event.body.step_path])
        seen = len(sim.events)


def _assert_needs_settled(step: StepState) -> None:
    phase = {planned.id for planned in step.scope.plan.finally_steps}
    for need in step.step.needs:
        if step.step.id in phase and need.step_id not in phase:
            continue
        assert step.scope.steps[need.step_id].status in SETTLED


@several
@given(seeds, st.integers(0, 40))
def test_a_cancel_at_any_point_ends_the_run(seed: int, after: int) -> None:
    sim = simulation(seed, Odds(cancel=0))
    for _ in range(after):
        if sim.state.is_terminal:
            return
        sim.turn()
    if sim.state.is_terminal:
        return
    all_done = sim.state.finish is not None
    sim.emit(RunCancelRequested("stop"))
    assert sim.run().is_terminal
    assert all_done or sim.state.ended == "canceled"


@several
@given(seeds)
def test_deciding_twice_gives_the_same_commands(seed: int) -> None:
    sim = simulation(seed)
    while not sim.state.is_terminal:
        assert decide(sim.state) == decide(sim.state)
        sim.turn()


@several
@given(seeds)
def test_no_more_questions_to_a_model_are_open_than_there_is_room_for(seed: int) -> None:
    sim = simulation(seed)
    while not sim.state.is_terminal:
        sim.turn()
        state = sim.state
        asking = {
            step.path
            for step in state.steps.values()
            if step.asks_model and step.status == "waiting" and not may_not_start(state, step)
        }
        assert set(state.judging) == asking or state.is_terminal
        assert len(asking) <= min(state.plan.max_parallel, MAX_JUDGEMENTS)


@several
@given(seeds)
def test_an_effect_is_repeated_only_where_somebody_allowed_it(seed: int) -> None:
    """A side-effecting step that may have acted starts again by retry, consent, or `idempotent`."""
    sim = simulation(seed)
    sim.run()
    last_start: dict[str, int] = {}
    for place, event in enumerate(sim.events):
        if not isinstance(event.body, StepStarted):
            continue
        path = event.body.step_path
        step = sim.state.steps[path]
        if step.is_composite or not step.step.side_effects:
            continue
        if path in last_start:
            between = sim.events[last_start[path] + 1 : place]
            known = any(
                item.body.type == "step.failed" and getattr(item.body, "step_path", "") == path
                for item in between
            )
            asked = any(
                (item.body.type == "gate.resolved" and getattr(item.body, "step_path", "") == path)
                or (item.body.type == "run.reopened" and (closes(path) or named(item, path)))
                for item in between
            )
            trusted = step.step.idempotent and sim.state.trusts_author
            assert known or asked or trusted
        last_start[path] = place


def named(event: Event, path: str) -> bool:
    """Whether whoever reopened the run named this step."""
    return isinstance(event.body, RunReopened) and event.body.from_step == path


@several
@given(seeds)
def test_events_and_plans_survive_json(seed: int) -> None:
    sim = simulation(seed)
    sim.run()
    again = []
    for event in sim.events:
        type_, path, attempt, data = to_columns(event.body)
        body = body_from(type_, path, attempt, json.loads(json.dumps(data)))
        again.append(Event(event.seq, event.at_ms, body, event.event_id, "req-1", "cor-1", None))
    assert picture(fold("run-1", again)) == picture(sim.state)
    assert plan_from_json(json.loads(json.dumps(plan_to_json(sim.plan)))) == sim.plan
