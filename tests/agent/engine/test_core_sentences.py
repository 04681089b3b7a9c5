"""Sentences of the design about effects, items, closing and deciding, one test for each."""

from __future__ import annotations

import pytest
from fleetprompt_testing.plans import effect, plan, step

from fleetprompt_agent.engine.core.events import (
    RunCancelRequested,
    StepInterrupted,
    StepLateResult,
    StepStarted,
)
from fleetprompt_agent.language.plan import Approval, Ask, ForEach, Need, Retry

from .test_core_semantics import begin, end, resolve, statuses


def test_a_failed_check_after_the_act_is_a_known_failure() -> None:
    sim = begin(plan(effect("a")))
    end(sim, "a", code="output.schema")
    assert (statuses(sim)["a"], sim.state.steps["a"].effect) == ("failed", "done")


@pytest.mark.parametrize("code", ["output.schema", "step.postcondition", "output.not_json"])
def test_after_the_act_a_retry_asks_instead_of_acting_again(code: str) -> None:
    sim = begin(plan(effect("a", retry=Retry(max_attempts=3))))
    end(sim, "a", code=code)
    assert [gate.kind for gate in sim.state.open_gates] == ["unknown_outcome"]
    assert sim.acts == {"a": 1}


def test_after_the_act_what_may_be_repeated_is_tried_again() -> None:
    sim = begin(plan(effect("a", idempotent=True, retry=Retry(max_attempts=3))))
    end(sim, "a", code="output.schema")
    assert sim.acts == {"a": 2}


@pytest.mark.parametrize(
    "code", ["tool.denied", "step.denied", "inputs.invalid", "tool.invalid_input"]
)
def test_what_would_meet_the_same_answer_is_never_tried_again(code: str) -> None:
    sim = begin(plan(step("a", retry=Retry(max_attempts=5))))
    end(sim, "a", code=code, effect="none")
    assert (sim.state.ended, sim.state.steps["a"].attempt) == ("failed", 1)


def test_every_attempt_of_a_step_has_the_same_idempotency_key() -> None:
    sim = begin(plan(effect("a", retry=Retry(max_attempts=3))))
    end(sim, "a", code="step.exit_code")
    end(sim, "a", code="step.exit_code")
    keys = [e.body.idempotency_key for e in sim.events if isinstance(e.body, StepStarted)]
    assert keys == ["run-1/a"] * 3


def test_for_each_fails_fast_and_lets_finish_what_runs() -> None:
    sim = begin(plan(effect("a", for_each=ForEach("[1, 2, 3, 4]", max_parallel=2))))
    end(sim, "a[0]", code="step.exit_code")
    assert "a[2]" not in sim.state.steps
    end(sim, "a[1]")
    assert sim.state.ended == "failed"
    assert sim.state.error["step_path"] == "a"
    assert sim.state.steps["a"].error["step_path"] == "a[0]"


def test_one_approval_lists_every_item_of_a_for_each() -> None:
    sim = begin(plan(effect("a", for_each=ForEach("['x', 'y']"), approval=Approval())), intent=None)
    (gate,) = sim.state.open_gates
    assert (gate.kind, len(gate.items)) == ("approval", 2)
    resolve(sim, "approve")
    assert list(sim.state.running) == ["a[0]", "a[1]"]


def test_unknown_outcomes_are_asked_about_item_by_item() -> None:
    sim = begin(plan(effect("a", for_each=ForEach("[1, 2]"))))
    sim.crash()
    sim.settle_commands()
    assert [gate.step_path for gate in sim.state.open_gates] == ["a[0]", "a[1]"]
    resolve(sim, "succeed_with", response="told")
    assert sim.state.is_waiting
    resolve(sim, "retry")
    end(sim, "a[1]")
    assert sim.state.output == ["told", {"n": 1}]


@pytest.mark.parametrize(("count", "ended"), [(10_000, None), (10_001, "failed")])
def test_for_each_takes_ten_thousand_items(count: int, ended: str | None) -> None:
    sim = begin(
        plan(step("a", for_each=ForEach("inputs.items"))), inputs={"items": list(range(count))}
    )
    assert sim.state.ended == ended


def test_in_finally_nothing_is_asked() -> None:
    sim = begin(plan(step("a"), finally_steps=(effect("close"), step("tell", 1))), intent=None)
    end(sim, "a")
    assert sim.state.open_gates == []
    assert sim.state.steps["close"].skip_reason == "not_allowed"
    end(sim, "tell")
    assert sim.state.ended == "succeeded"


def test_in_finally_an_unknown_outcome_is_a_failure() -> None:
    sim = begin(plan(step("a"), finally_steps=(effect("close"),)))
    end(sim, "a")
    end(sim, "close", code="step.timeout", effect="unknown")
    assert (sim.state.ended, sim.state.steps["close"].effect) == ("failed", "unknown")
    assert sim.state.gates == {}


def test_finally_has_its_own_time_and_ends_with_it() -> None:
    sim = begin(plan(step("a"), finally_steps=(effect("close"), effect("never", 1))))
    end(sim, "a")
    sim.emit(RunCancelRequested("finally", timed_out=True, ends_finally=True))
    sim.settle_commands()
    assert sim.state.error["code"] == "run.timeout"
    assert "finally" in sim.state.error["message"]


def test_an_interruption_does_not_run_finally() -> None:
    sim = begin(plan(step("a"), finally_steps=(effect("close"),)))
    sim.emit(StepInterrupted("a", 1))
    assert not sim.state.is_terminal
    assert "close" not in sim.state.steps
    assert sim.state.root_scope.phase == "main"


def test_finally_may_refer_to_every_step_and_to_how_the_run_went() -> None:
    told = step("tell", arguments="${{ [run.status, run.error.code, steps.a.status] }}")
    sim = begin(plan(effect("a"), finally_steps=(told,)))
    end(sim, "a", code="step.exit_code")
    assert list(sim.state.running) == ["tell"]


def test_the_output_is_that_of_the_last_step_and_not_of_finally() -> None:
    sim = begin(plan(step("a"), finally_steps=(step("close"),)))
    end(sim, "a")
    end(sim, "close")
    assert sim.state.output == {"n": 1}
    skipped = begin(plan(step("a"), step("b", 1, condition="false", needs=[Need("a", "order")])))
    end(skipped, "a")
    assert skipped.state.output == {"n": 1}


def test_a_result_that_comes_late_is_recorded_and_not_used() -> None:
    sim = begin(plan(effect("a"), finally_steps=(effect("close"),)))
    sim.emit(RunCancelRequested("enough"))
    sim.settle_commands()
    sim.emit(StepLateResult("a", 1, ok=True))
    assert statuses(sim)["a"] == "canceled"
    assert sim.state.steps["a"].result == {}


def test_a_denied_question_cancels_the_run() -> None:
    sim = begin(plan(step("a", kind="ask", namespace="", ask=Ask("?", {"type": "integer"})),
                     effect("b", 1, needs=["a"])))  # fmt: skip
    resolve(sim, "deny", reason="not now")
    assert (sim.state.ended, sim.state.cancel_reason) == ("canceled", "not now")
    assert sim.acts == {}


@pytest.mark.parametrize(("decision", "status"), [("complete", "succeeded"), ("skip", "skipped")])
def test_a_manual_step_is_completed_or_skipped(decision: str, status: str) -> None:
    sim = begin(plan(step("a", kind="manual", namespace="", manual="Do it.")))
    resolve(sim, decision)
    assert statuses(sim)["a"] == status


def test_a_reopened_run_keeps_what_succeeded_and_runs_finally_again() -> None:
    sim = begin(plan(effect("a"), effect("b", 1, needs=["a"]), finally_steps=(effect("close"),)))
    end(sim, "a")
    end(sim, "b", code="step.exit_code")
    end(sim, "close")
    sim.odds.reopen = 1
    assert sim.reopens()
    sim.settle_commands()
    assert (statuses(sim)["a"], list(sim.state.running)) == ("succeeded", ["b"])
    end(sim, "b")
    end(sim, "close")
    assert sim.state.ended == "succeeded"
    assert sim.acts == {"a": 1, "b": 2, "close": 2}
