"""What an attempt's end means for the step: which event it becomes (engine.md §3, Effects)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.core.events import (
    Effect,
    StepCanceled,
    StepFailed,
    StepInterrupted,
    StepSucceeded,
    StepUnknown,
)
from fleetprompt_agent.record import record

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Body, Json
    from fleetprompt_agent.engine.core.state import RunState, StepState

Stopped = Literal["timeout", "cancel", "interrupt"]
"""Why the engine itself ended an attempt."""

NEVER_RETRIED = frozenset({"tool.denied", "step.denied", "inputs.invalid", "tool.invalid_input"})
"""A second attempt would meet the same answer (engine.md §3)."""

AFTER_THE_ACT = frozenset(
    {
        "output.not_json",
        "output.schema",
        "output.truncated",
        "output.artifact",
        "step.postcondition",
    }
)
"""The act is done and known; what failed is a check of it."""


@record
class AttemptEnd:
    """How an attempt ended, as the runner saw it."""

    ok: bool
    result: dict[str, Json]
    error: dict[str, Json] | None
    effect: Effect
    duration_ms: float
    metrics: Json = None
    stopped: Stopped | None = None


def judge(state: RunState, step: StepState, end: AttemptEnd, now_ms: int) -> Body:
    """The event that the end of the step's current attempt becomes.

    Args:
        state: The run.
        step: The step whose attempt has ended.
        end: How.
        now_ms: When, in epoch milliseconds: no attempt begins after the step's deadline.
    """
    path, attempt = step.path, step.attempt
    if end.stopped == "interrupt":
        return StepInterrupted(path, attempt)
    if end.stopped == "cancel":
        return StepCanceled(path, attempt, end.duration_ms, end.result)
    error = end.error
    if end.ok and step.step.postcondition is not None:
        error = _postcondition_error(state, step, end)
    if error is None:
        return StepSucceeded(path, attempt, end.result, end.duration_ms, end.effect, end.metrics)
    effectful = not state.may_repeat(step.step)
    retries = step.step.retry.max_attempts > 1
    in_finally = step.scope.is_finally
    checked_late = error.get("code") in AFTER_THE_ACT
    if effectful and not in_finally and (
        end.effect == "unknown" or (checked_late and retries)
    ):  # fmt: skip
        return StepUnknown(path, attempt, error, end.result, end.duration_ms)
    return StepFailed(
        path,
        attempt,
        error,
        end.result,
        end.duration_ms,
        end.effect,
        retryable=_may_retry(step, error, now_ms),
        metrics=end.metrics,
    )


def _may_retry(step: StepState, error: dict[str, Json], now_ms: int) -> bool:
    code = error.get("code")
    if code in NEVER_RETRIED:
        return False
    if step.deadline_ms is not None and now_ms >= step.deadline_ms:
        return False
    wanted = step.step.retry.on
    return step.step.retry.max_attempts > 1 and (not wanted or code in wanted)


def _postcondition_error(
    state: RunState, step: StepState, end: AttemptEnd
) -> dict[str, Json] | None:
    source = step.step.postcondition or "true"
    try:
        if rendering.postcondition_holds(state, step, source, end.result):
            return None
    except rendering.RenderError as error:
        return error.to_data("step.postcondition")
    return {
        "code": "step.postcondition",
        "message": f"Step {step.path} acted, but `{source}` does not hold afterwards.",
        "retryable": False,
    }
