"""The engine in one process, over a real journal: what is hard to time through a pipe."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.plans import effect, plan, step

from fleetprompt_agent.engine.custody import NewRun
from fleetprompt_agent.engine.engine import Engine
from fleetprompt_agent.engine.journal import Journal
from fleetprompt_agent.engine.owner import Owner
from fleetprompt_agent.engine.requests import Asker, Decide, cancel_body
from fleetprompt_agent.engine.runner import STEPS_PER_TASK
from fleetprompt_agent.engine.slots import SLOTS
from fleetprompt_agent.language.plan import Approval, Concurrency, Need, plan_digest
from fleetprompt_agent.steps.contract import StepOutcome
from fleetprompt_agent.steps.flow import FlowRunner
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fleetprompt_agent.engine.active import Progress as HowFar
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.steps.contract import Progress, StepRequest, StepRunner

ASKER = Asker("req", "cor")


class Paused:
    """Steps that act only when they are let."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.is_full = asyncio.Event()
        self.acted: list[str] = []

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:  # noqa: ARG002 (the protocol)
        self.acted.append(request.step_path)
        if len(self.acted) == SLOTS:
            self.is_full.set()
        await self.may_end.wait()
        return StepOutcome(True, {}, None, "done", 0.0, {})

    def resolve_action(self, request: StepRequest) -> dict[str, Any]:
        return {"tool": request.tool_id}


class Watcher:
    """Does something when an event of a type is durable."""

    def __init__(self, type_: str, act: Any) -> None:
        self._type, self._act = type_, act

    def on_event(self, state: RunState, event: Event, progress: HowFar) -> None:  # noqa: ARG002 (the protocol)
        if event.body.type == self._type:
            self._act()

    def on_output(self, step_path: str, channel: str, text: str) -> None:
        pass


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(tmp_path / "journal.db")) as journal:
        yield journal


class Late(Journal):
    """A journal whose user is overtaken, once, just before a transaction."""

    overtake: Callable[[], None] | None = None

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[None]:
        overtake, self.overtake = self.overtake, None
        if overtake is not None:
            with ThreadPoolExecutor() as elsewhere:
                elsewhere.submit(overtake).result()
        return super().transaction(durable=durable)


def engine_over(journal: Journal, runner: StepRunner) -> Engine:
    runners: dict[str, StepRunner] = {"cli": runner, "awaited": runner, "flow": FlowRunner()}
    return Engine(journal, "/w", Owner.of_this_process(), runners)


def new_run(made: Plan) -> NewRun:
    return NewRun(replace(made, digest=plan_digest(made)), {}, intent="spawner")


def test_a_request_that_comes_as_the_run_ends_is_not_kept(journal: Journal) -> None:
    async def scenario() -> None:
        runner = Paused()
        engine = engine_over(journal, runner)

        def ask() -> None:
            with journal.transaction():
                journal.post("cor", "cancel", cancel_body("late", ASKER))
            runner.may_end.set()  # before the inbox is looked into again

        ended = await engine.start(
            new_run(plan(effect("act"))), ASKER, Watcher("step.started", ask), None
        )
        assert ended.status == "succeeded"
        assert journal.runs_with_requests() == set()

    asyncio.run(scenario())


def test_a_stop_before_a_step_has_begun_leaves_it_to_be_resumed(journal: Journal) -> None:
    async def scenario() -> None:
        runner = Paused()
        engine = engine_over(journal, runner)
        stopping: list[asyncio.Task[None]] = []

        def stop() -> None:
            # The step's own task is made after this, in the same turn, and begins after it.
            stopping.append(asyncio.ensure_future(engine.stop()))

        made = plan(effect("act", idempotent=True))
        await engine.start(new_run(made), ASKER, Watcher("step.started", stop), None)
        await stopping[0]
        assert runner.acted == []
        again = engine_over(journal, runner)
        runner.may_end.set()
        assert again.get("cor").status == "interrupted"
        assert again.get("cor").state.steps["act"].status == "interrupted"
        assert (await again.resume("cor", ASKER, None, None)).status == "succeeded"
        assert runner.acted == ["act"]
        await again.stop()

    asyncio.run(scenario())


def test_a_run_that_ended_elsewhere_in_the_meantime_is_not_taken_up_again(journal: Journal) -> None:
    async def interrupt() -> None:
        engine = engine_over(journal, Paused())
        watcher = Watcher("step.started", lambda: asyncio.ensure_future(engine.stop()))
        await engine.start(new_run(plan(effect("act", idempotent=True))), ASKER, watcher, None)

    async def end() -> None:
        with closing(Journal(journal.path)) as other:
            runner = Paused()
            runner.may_end.set()
            ended = await engine_over(other, runner).resume("cor", ASKER, None, None)
            assert ended.status == "succeeded"

    async def come_late() -> None:
        with closing(Late(journal.path)) as late:
            late.overtake = lambda: asyncio.run(end())
            runner = Paused()
            seen = await engine_over(late, runner).resume("cor", ASKER, None, None)
            assert (seen.status, runner.acted) == ("succeeded", [])

    asyncio.run(interrupt())
    asyncio.run(come_late())
    leases = [event for event in journal.load("cor") if event.body.type == "lease.taken"]
    assert len(leases) == 2


def test_the_runs_of_a_process_share_its_slots(journal: Journal) -> None:
    async def scenario() -> None:
        runner = Paused()
        engine = engine_over(journal, runner)
        made = plan(*(effect(f"s{n}", n) for n in range(SLOTS - 20)), max_parallel=100)
        runs = [
            asyncio.ensure_future(engine.start(new_run(made), Asker("r", name), None, None))
            for name in ("one", "two")
        ]
        await runner.is_full.wait()
        # One who only looks sees no more: what does not act needs no slot.
        looked = await engine.start(new_run(plan(step("a"))), ASKER, None, None)
        assert looked.status == "succeeded"
        assert len(runner.acted) == SLOTS
        runner.may_end.set()
        assert [(await run).status for run in runs] == ["succeeded"] * 2
        assert len(runner.acted) == 2 * (SLOTS - 20)

    asyncio.run(scenario())


class Marked:
    """Steps that wait for nothing, and note which task performs them, and in what state it is."""

    def __init__(self, stuck: str | None = None) -> None:
        self.stuck = stuck
        self.is_stuck = asyncio.Event()
        self.performed: dict[str, tuple[asyncio.Task[Any] | None, int]] = {}

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:  # noqa: ARG002 (the protocol)
        task = asyncio.current_task()
        self.performed[request.step_path] = (task, task.cancelling() if task is not None else 0)
        if request.step_path == self.stuck:
            self.is_stuck.set()
            await asyncio.Event().wait()
        return StepOutcome(True, {}, None, "none", 0.0, {})

    def resolve_action(self, request: StepRequest) -> dict[str, Any]:
        return {"tool": request.tool_id}


def chain(count: int, **fields: Any) -> Plan:
    """Steps that follow one another, of a runner that may be waited for."""
    needs = [(Need(f"s{n - 1}", "order"),) if n else () for n in range(count)]
    steps = (step(f"s{n}", n, needs=needs[n], namespace="awaited") for n in range(count))
    return plan(*steps, **fields)


def test_a_chain_goes_on_in_the_task_of_its_first_step_yet_lets_others_have_the_loop(
    journal: Journal,
) -> None:
    async def scenario() -> None:
        runner = Marked()
        engine = engine_over(journal, runner)
        rounds = 0

        async def count_rounds() -> None:
            nonlocal rounds
            while True:
                await asyncio.sleep(0)
                rounds += 1

        counting = asyncio.ensure_future(count_rounds())
        made = chain(3 * STEPS_PER_TASK)
        ended = await engine.start(new_run(made), ASKER, None, None)
        counting.cancel()
        assert ended.status == "succeeded"
        assert len(runner.performed) == 3 * STEPS_PER_TASK
        assert len({task for task, _ in runner.performed.values()}) == 3
        assert rounds >= 3

    asyncio.run(scenario())


@pytest.mark.parametrize("by", ["cancel", "timeout"])
def test_what_follows_a_stopped_step_is_not_performed_by_the_task_that_was_cancelled(
    journal: Journal, by: str
) -> None:
    async def scenario() -> None:
        runner = Marked(stuck="s1")
        engine = engine_over(journal, runner)
        made = chain(3, finally_steps=(step("tidy", 3, namespace="awaited"),))
        if by == "timeout":
            made = replace(made, timeout_s=0.01)
        started = asyncio.ensure_future(engine.start(new_run(made), ASKER, None, None))
        if by == "cancel":
            await runner.is_stuck.wait()
            await engine.cancel("cor", None, ASKER)
        ended = await started
        assert ended.status == ("canceled" if by == "cancel" else "failed")
        assert list(runner.performed) == ["s0", "s1", "tidy"]
        assert [cancelling for _, cancelling in runner.performed.values()] == [0, 0, 0]

    asyncio.run(scenario())


def test_a_queued_step_of_a_cancelled_run_does_not_begin(journal: Journal) -> None:
    async def scenario() -> None:
        runner = Paused()
        engine = engine_over(journal, runner)
        made = plan(*(effect(f"s{n}", n) for n in range(SLOTS)), max_parallel=100)
        first = asyncio.ensure_future(engine.start(new_run(made), Asker("r", "one"), None, None))
        await runner.is_full.wait()
        queued = await engine.start(new_run(plan(effect("late"))), Asker("r", "two"), None, 0)
        assert queued.status == "running"
        assert (await engine.cancel("two", None, ASKER))[0] is True
        assert engine.get("two").status == "canceled"
        runner.may_end.set()
        assert (await first).status == "succeeded"
        assert "late" not in runner.acted

    asyncio.run(scenario())


def test_a_reopened_run_replaces_those_of_its_group_as_a_new_one_does(journal: Journal) -> None:
    async def scenario() -> None:
        engine = engine_over(journal, Paused())
        group = Concurrency("g", "cancel_running")
        fails = plan(step("no", tool_id="flow:fail"), concurrency=group)
        failed = await engine.start(new_run(fails), Asker("r", "one"), None, None)
        assert failed.status == "failed"
        acts = plan(effect("act"), concurrency=group)
        second = asyncio.ensure_future(engine.start(new_run(acts), Asker("r", "two"), None, None))
        await asyncio.sleep(0)
        again = await engine.reopen("one", "no", ASKER, None, 30)
        assert again.status == "failed"
        ended = await second
        assert (ended.status, ended.state.cancel_reason) == ("canceled", "replaced by run one")

    asyncio.run(scenario())


def test_an_expired_token_opens_nothing_and_the_run_waits_for_a_new_one(journal: Journal) -> None:
    async def scenario() -> None:
        runner = Paused()
        runner.may_end.set()
        engine = engine_over(journal, runner)
        made = plan(effect("act", approval=Approval(expires_s=0)))
        waiting = await engine.start(new_run(made), ASKER, None, None)
        ((gate_id, token),) = waiting.tokens.items()
        with pytest.raises(RequestError) as refused:
            await engine.decide(
                "cor", Decide(gate_id, "approve", "token", token), ASKER, None, None
            )
        assert refused.value.code == "gate.expired"
        assert (engine.get("cor").status, runner.acted) == ("waiting", [])
        new = (await engine.reissue("cor", ASKER)).tokens[gate_id]
        done = await engine.decide(
            "cor", Decide(gate_id, "approve", "token", new), ASKER, None, None
        )
        assert (done.status, runner.acted) == ("succeeded", ["act"])

    asyncio.run(scenario())
