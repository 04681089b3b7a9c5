"""The rules of a run, one by one, on plans written by hand."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from fleetprompt_testing.plans import effect, judgement, plan, step
from fleetprompt_testing.simulation import Odds, Simulation

from fleetprompt_agent.engine.core.apply import apply, fold
from fleetprompt_agent.engine.core.commands import OpenGate, StartStep
from fleetprompt_agent.engine.core.decide import decide, retry_delay_s
from fleetprompt_agent.engine.core.events import (
    GateResolved,
    RunCancelRequested,
    StepStarted,
    StepSucceeded,
)
from fleetprompt_agent.engine.core.outcomes import AttemptEnd, judge
from fleetprompt_agent.language.plan import Approval, ForEach, Need, Plan, Retry
from fleetprompt_protocol.errors import JournalError

CALM = Odds(failure=0, unknown=0, crash=0, cancel=0, denial=0)


def begin(of: Plan, **options: Any) -> Simulation:
    """The run with every command performed that waits for nothing."""
    sim = Simulation(of, Random(0), odds=CALM, **options)
    sim.settle_commands()
    return sim


def end(sim: Simulation, path: str, *, code: str | None = None, effect: str = "done") -> None:
    """The step ends well, or with the code, and what follows is performed."""
    error = None if code is None else {"code": code, "message": "so", "retryable": False}
    result = {"json": {"n": 1}, "text": "1"}
    ended = AttemptEnd(code is None, result, error, effect, 1.0)  # type: ignore[arg-type]
    sim.emit(judge(sim.state, sim.state.steps[path], ended, 0))
    sim.settle_commands()


def resolve(sim: Simulation, decision: str, **fields: Any) -> None:
    """The first open gate is resolved, and what follows is performed."""
    gate = sim.state.open_gates[0]
    sim.emit(
        GateResolved(gate.gate_id, decision, "test", step_path=gate.step_path, **fields)  # type: ignore[arg-type]
    )
    sim.settle_commands()


def statuses(sim: Simulation) -> dict[str, str]:
    return {path: found.status for path, found in sim.state.steps.items()}


def test_independent_steps_start_at_once_up_to_the_limit() -> None:
    sim = begin(plan(*(effect(f"s{n}", n) for n in range(5)), max_parallel=3))
    assert list(sim.state.running) == ["s0", "s1", "s2"]
    end(sim, "s1")
    assert list(sim.state.running) == ["s0", "s2", "s3"]


def test_an_order_edge_does_not_carry_a_skip_but_needs_does() -> None:
    sim = begin(
        plan(
            step("a", condition="false"),
            step("b", 1, needs=[Need("a", "order")]),
            step("c", 2, needs=[Need("a", "needs")]),
            step("d", 3, needs=[Need("a", "needs")], condition="true"),
        )
    )
    assert sim.state.steps["a"].skip_reason == "condition"
    assert sim.state.steps["c"].skip_reason == "need_skipped"
    assert set(sim.state.running) == {"b", "d"}


def test_a_failure_stops_what_is_new_and_lets_finish_what_runs() -> None:
    sim = begin(plan(effect("a"), effect("b", 1), effect("c", 2, needs=["b"])))
    end(sim, "a", code="step.exit_code")
    assert not sim.state.is_terminal
    end(sim, "b")
    assert sim.state.ended == "failed"
    assert sim.state.error["step_path"] == "a"
    assert statuses(sim)["c"] == "pending"


def test_on_error_continue_shows_the_failure_to_what_follows() -> None:
    sim = begin(
        plan(
            effect("a", on_error="continue"),
            step("b", 1, needs=["a"], condition="steps.a.status == 'failed'"),
        )
    )
    end(sim, "a", code="step.exit_code")
    end(sim, "b")
    assert sim.state.ended == "succeeded"


def test_skip_rest_ends_the_run_well_with_what_there_is() -> None:
    sim = begin(plan(effect("a"), effect("b", 1, needs=["a"], on_error="skip_rest"),
                     effect("c", 2, needs=["b"])))  # fmt: skip
    end(sim, "a")
    end(sim, "b", code="step.exit_code")
    assert sim.state.ended == "succeeded"
    assert sim.state.output == {"n": 1}


def test_finally_runs_after_success_failure_and_cancel() -> None:
    for how in ("succeeded", "failed", "canceled"):
        sim = begin(plan(effect("a"), finally_steps=(effect("close"),)))
        if how == "canceled":
            sim.emit(RunCancelRequested("enough"))
            sim.settle_commands()
        else:
            end(sim, "a", code=None if how == "succeeded" else "step.exit_code")
        assert list(sim.state.running) == ["close"]
        end(sim, "close")
        assert sim.state.ended == how


def test_a_second_cancel_ends_finally() -> None:
    sim = begin(plan(effect("a"), finally_steps=(effect("close"),)))
    sim.emit(RunCancelRequested("enough"))
    sim.settle_commands()
    sim.emit(RunCancelRequested("now"))
    sim.settle_commands()
    assert sim.state.ended == "canceled"
    assert statuses(sim)["close"] == "canceled"


def test_without_intent_one_gate_lists_every_effect_and_pure_steps_go_on() -> None:
    sim = begin(
        plan(effect("a"), step("b", 1), effect("c", 2), finally_steps=(effect("close"),)),
        intent=None,
    )
    (gate,) = sim.state.open_gates
    assert gate.kind == "effects"
    assert [item["step_path"] for item in gate.items] == ["a", "c", "close"]
    assert list(sim.state.running) == ["b"]
    resolve(sim, "approve")
    assert set(sim.state.running) == {"a", "b", "c"}


def test_a_denied_effects_gate_cancels_the_run() -> None:
    sim = begin(plan(effect("a")), intent=None)
    resolve(sim, "deny", reason="no")
    assert sim.state.ended == "canceled"
    assert sim.acts == {}


def test_an_approval_covers_the_intent_of_its_step() -> None:
    sim = begin(plan(effect("a", approval=Approval())), intent=None)
    assert [gate.kind for gate in sim.state.open_gates] == ["approval"]
    resolve(sim, "approve")
    assert list(sim.state.running) == ["a"]


def test_a_denial_with_continue_skips_the_step_and_says_so() -> None:
    sim = begin(
        plan(
            effect("a", approval=Approval(on_deny="continue")),
            step("b", 1, needs=[Need("a", "order")], condition="steps.a.approved == false"),
        )
    )
    resolve(sim, "deny")
    assert sim.state.steps["a"].skip_reason == "denied"
    assert list(sim.state.running) == ["b"]


def test_a_gate_holds_back_only_what_depends_on_it() -> None:
    sim = begin(plan(effect("a", approval=Approval()), effect("b", 1), effect("c", 2, needs=["b"])))
    assert not sim.state.is_waiting
    end(sim, "b")
    end(sim, "c")
    assert sim.state.is_waiting


def test_a_crash_restarts_what_only_reads_and_asks_about_what_acts() -> None:
    sim = begin(plan(step("reads"), effect("acts", 1), effect("may", 2, idempotent=True)))
    sim.crash()
    sim.settle_commands()
    assert set(sim.state.running) == {"reads", "may"}
    (gate,) = sim.state.open_gates
    assert (gate.kind, gate.step_path) == ("unknown_outcome", "acts")


def test_idempotent_counts_only_under_the_spawners_intent() -> None:
    sim = begin(plan(effect("may", idempotent=True)), intent=None)
    resolve(sim, "approve")
    sim.crash()
    sim.settle_commands()
    assert [gate.kind for gate in sim.state.open_gates] == ["unknown_outcome"]


@pytest.mark.parametrize(
    ("decision", "status"),
    [("retry", "running"), ("succeed_with", "succeeded"), ("fail", "failed")],
)
def test_a_person_settles_an_unknown_outcome(decision: str, status: str) -> None:
    sim = begin(plan(effect("acts")))
    sim.crash()
    sim.settle_commands()
    resolve(sim, decision, response={"told": 1})
    assert statuses(sim)["acts"] == status
    if decision == "succeed_with":
        assert sim.state.output == {"told": 1}


def test_a_known_failure_is_retried_and_an_unknown_one_asks() -> None:
    sim = begin(plan(effect("a", retry=Retry(max_attempts=3))))
    end(sim, "a", code="step.exit_code")
    assert sim.state.steps["a"].attempt == 2
    end(sim, "a", code="step.timeout", effect="unknown")
    assert statuses(sim)["a"] == "unknown"


def test_retries_end_and_the_delay_grows_to_its_limit() -> None:
    sim = begin(plan(effect("a", retry=Retry(max_attempts=2))))
    end(sim, "a", code="step.exit_code")
    end(sim, "a", code="step.exit_code")
    assert sim.state.ended == "failed"
    retry = Retry(initial_s=1, factor=2, max_s=5)
    assert [retry_delay_s(retry, n) for n in (1, 2, 3, 4, 900)] == [1, 2, 4, 5, 5]


def test_for_each_gives_results_in_order_and_holds_no_slot() -> None:
    sim = begin(plan(effect("a", for_each=ForEach("[1, 2, 3]", max_parallel=2)), max_parallel=2))
    assert list(sim.state.running) == ["a[0]", "a[1]"]
    end(sim, "a[1]")
    end(sim, "a[0]")
    end(sim, "a[2]")
    assert sim.state.ended == "succeeded"
    assert sim.state.output == [{"n": 1}] * 3


def test_a_sub_workflows_gate_pauses_what_depends_on_it() -> None:
    sub = plan(effect("x", approval=Approval()), outputs={"n": "${{ steps.x.json.n }}"})
    sim = begin(
        plan(
            step("call", kind="workflow", workflow="sub", namespace="", tool_id=""),
            step("after", 1, needs=["call"]),
            workflows={"sub": sub},
        )
    )
    assert sim.state.is_waiting
    resolve(sim, "approve")
    end(sim, "call/x")
    assert sim.state.steps["call"].result["json"] == {"n": 1}
    assert list(sim.state.running) == ["after"]


def test_outputs_that_cannot_be_computed_fail_the_run() -> None:
    sim = begin(plan(step("a"), outputs={"x": "${{ steps.a.json.n + 'text' }}"}))
    end(sim, "a")
    assert sim.state.error["code"] == "outputs.invalid"


def test_cut_output_cannot_be_consumed() -> None:
    sim = begin(plan(effect("a"), effect("b", 1, needs=["a"], stdin="$a.stdout")))
    cut = {"stdout": "abc", "truncated": {"stdout": {"truncated": True, "bytes": 9}}}
    sim.emit(StepSucceeded("a", 1, cut))
    sim.settle_commands()
    assert sim.state.steps["b"].error["code"] == "output.truncated"


def test_a_condition_that_is_no_bool_fails_the_step() -> None:
    sim = begin(plan(step("a", condition="1")))
    assert sim.state.steps["a"].error["code"] == "step.expression"
    assert sim.state.ended == "failed"


def test_commands_come_in_file_order() -> None:
    sim = Simulation(plan(*(step(f"s{n}", n) for n in range(4)), max_parallel=9), Random(0))
    assert [c.step_path for c in decide(sim.state) if isinstance(c, StartStep)] == [
        "s0", "s1", "s2", "s3",
    ]  # fmt: skip


def test_an_approval_gate_shows_what_would_run() -> None:
    sim = Simulation(
        plan(effect("a", approval=Approval("Sure?", preview="${{ inputs.who }}"))),
        Random(0),
        inputs={"who": "me"},
    )
    (command,) = decide(sim.state)
    assert isinstance(command, OpenGate)
    assert command.action["argv"] == ["x"]
    assert (command.prompt, command.preview) == ("Sure?", "me")


def test_an_impossible_event_names_the_run_and_the_place() -> None:
    sim = begin(plan(step("a")))
    end(sim, "a")
    with pytest.raises(JournalError) as caught:
        sim.emit(StepStarted("a", 2, "k"))
    assert caught.value.code == "journal.corrupt"
    assert caught.value.details == {"run_id": "run-1", "seq": 6, "type": "step.started"}


def test_a_missing_event_is_noticed() -> None:
    sim = begin(plan(step("a"), step("b", 1)))
    with pytest.raises(JournalError):
        fold("run-1", [*sim.events[:2], *sim.events[3:]])
    with pytest.raises(JournalError):
        apply(sim.state, sim.events[0])


def test_a_question_to_a_model_is_rendered_and_its_answer_is_the_result() -> None:
    sim = begin(
        plan(
            judgement("a", prompt="About ${{ inputs.who }}?"),
            step("b", 1, needs=["a"], tool_id="flow:set", arguments={"n": "$a.json"}),
        ),
        inputs={"who": "me"},
    )
    (gate,) = sim.state.open_gates
    assert (gate.kind, gate.prompt, gate.response_schema) == (
        "judgement", "About me?", {"type": "integer"},
    )  # fmt: skip
    assert sim.state.is_waiting
    resolve(sim, "respond", response=3, usage={"model": "m"})
    a = sim.state.steps["a"]
    assert (a.status, a.result["json"], a.result["usage"]) == ("succeeded", 3, {"model": "m"})
    assert list(sim.state.running) == ["b"]


def test_a_question_that_is_too_long_fails_its_step() -> None:
    long = plan(judgement("a", prompt="${{ inputs.text }}", on_error="continue"), step("b", 1))
    for text, status in (("x" * 131_000, "waiting"), ("x" * 131_100, "failed")):
        sim = begin(long, inputs={"text": text})
        assert sim.state.steps["a"].status == status
    assert sim.state.steps["a"].error["code"] == "step.expression"
    assert "`prompt` of step a" in sim.state.steps["a"].error["message"]


@pytest.mark.parametrize(("limit", "most"), [(64, 8), (3, 3)])
def test_few_questions_are_open_at_once_and_the_run_waits_with_them(limit: int, most: int) -> None:
    asking = judgement("a", prompt="${{ item }}?", for_each=ForEach("[1, 2, 3, 4]", "item", 64))
    many = plan(*(judgement(f"s{n}", n) for n in range(12)), asking, max_parallel=limit)
    sim = begin(many)
    answered = 0
    while not sim.state.is_terminal:
        assert len(sim.state.open_gates) == min(most, 16 - answered)
        assert sim.state.is_waiting
        resolve(sim, "respond", response=answered)
        answered += 1
    assert answered == 16
    assert sim.state.steps["a"].result["json"] == [12, 13, 14, 15]


def test_questions_of_a_workflow_that_was_left_take_no_room() -> None:
    sub = plan(
        judgement("x"), effect("y", 1, on_error="skip_rest"), outputs={"done": True}
    )  # fmt: skip
    sim = begin(
        plan(
            step("call", kind="workflow", workflow="sub", namespace="", tool_id=""),
            judgement("after", 1, needs=["call"]),
            workflows={"sub": sub},
            max_parallel=1,
        )
    )
    end(sim, "call/y", code="step.exit_code")
    assert statuses(sim)["call"] == "succeeded"
    assert [gate.step_path for gate in sim.state.open_gates][-1] == "after"


def test_a_cancel_at_a_question_ends_the_run() -> None:
    sim = begin(plan(judgement("a"), effect("b", 1, needs=["a"])))
    sim.emit(RunCancelRequested("enough"))
    sim.settle_commands()
    assert (sim.state.ended, sim.state.open_gates) == ("canceled", [])
    assert fold("run-1", sim.events).ended == "canceled"
