"""The engine in one process, over a real journal: what is hard to time through a pipe."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.plans import effect, plan

from fleetprompt_agent.engine.engine import Engine, NewRun
from fleetprompt_agent.engine.journal import Journal
from fleetprompt_agent.engine.owner import Owner
from fleetprompt_agent.engine.requests import Asker, cancel_body
from fleetprompt_agent.language.plan import plan_digest
from fleetprompt_agent.steps.contract import StepOutcome
from fleetprompt_agent.steps.flow import FlowRunner

if TYPE_CHECKING:
    from collections.abc import Iterator
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
        self.acted: list[str] = []

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:  # noqa: ARG002 (the protocol)
        self.acted.append(request.step_path)
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


def engine_over(journal: Journal, runner: Paused) -> Engine:
    runners: dict[str, StepRunner] = {"cli": runner, "flow": FlowRunner()}
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
