"""The built-in steps depend on nothing but what they are given."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from fleetprompt_agent.language.plan import Output
from fleetprompt_agent.steps.contract import StepOutcome, StepRequest
from fleetprompt_agent.steps.flow import FLOW_TOOLS, MAX_MESSAGE_CHARACTERS, FlowRunner
from fleetprompt_protocol.ids import Correlation


def _request(tool_id: str, given: Any) -> StepRequest:
    return StepRequest(
        run_id="run",
        step_path="step",
        step_id="step",
        attempt=1,
        namespace="flow",
        tool_id=tool_id,
        action={"with": given},
        root=Path("/"),
        cwd=None,
        output=Output(),
        ok_exit_codes=(0,),
        max_output_bytes=1000,
        idempotency_key="run/step",
        correlation=Correlation("r", "c"),
    )


def _run(tool_id: str, given: Any) -> StepOutcome:
    return asyncio.run(FlowRunner().run(_request(tool_id, given), lambda *_: None))


@pytest.mark.parametrize("given", [None, {}, {"a": [1]}, [1], "x"])
def test_set_and_noop_give_what_they_are_given(given: Any) -> None:
    for tool_id in ("flow:set", "flow:noop"):
        outcome = _run(tool_id, given)
        assert outcome.ok
        assert outcome.result == {"json": given}
        assert outcome.effect == "none"


@pytest.mark.parametrize("given", [{"that": True}, {"that": [True, True]}, True])
def test_an_assertion_that_holds_succeeds(given: Any) -> None:
    assert _run("flow:assert", given).ok


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"that": False}, "Condition 1 does not hold."),
        ({"that": [True, 1]}, "Condition 2 does not hold."),
        ({"that": "true"}, "Condition 1 does not hold."),
        ({"that": []}, "There is no condition."),
        ({}, "Condition 1 does not hold."),
        ({"that": False, "message": "No cake."}, "No cake."),
    ],
)
def test_an_assertion_that_does_not_hold_fails_and_says_which(given: Any, message: str) -> None:
    outcome = _run("flow:assert", given)

    assert outcome.error == {"code": "step.failed", "message": message, "retryable": False}
    assert outcome.effect == "none"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (None, "The workflow says so."),
        ({"message": "Stop."}, "Stop."),
        ("Stop.", "Stop."),
        ({"message": {"a": 1}}, '{"a":1}'),
        ({"message": "x" * 5000}, "x" * MAX_MESSAGE_CHARACTERS + "…"),
    ],
)
def test_fail_fails_with_its_message(given: Any, message: str) -> None:
    outcome = _run("flow:fail", given)

    assert outcome.error is not None
    assert (outcome.error["code"], outcome.error["message"]) == ("step.failed", message)


def test_an_unknown_tool_is_refused_by_name() -> None:
    outcome = _run("flow:jump", None)

    assert outcome.error is not None
    assert outcome.error["code"] == "tool.not_found"
    for tool in FLOW_TOOLS:
        assert tool in outcome.error["message"]


def test_an_approver_sees_the_tool_and_its_input() -> None:
    assert FlowRunner().resolve_action(_request("flow:set", {"a": 1})) == {
        "tool": "flow:set",
        "with": {"a": 1},
    }
