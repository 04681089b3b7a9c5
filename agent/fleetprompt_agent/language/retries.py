"""Retries: from the model to the plan, and those that could never happen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_agent.language import plan as plans
from fleetprompt_indexer.vocabulary import closest
from fleetprompt_protocol.errors import CODES

if TYPE_CHECKING:
    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.models import Retry
    from fleetprompt_agent.language.scopes import Draft

_OUTCOME_UNKNOWN = ("step.timeout", "step.signaled", "step.interrupted", "step.unknown_outcome")
"""After these nobody can tell whether the step took effect."""
_AFTER_THE_ACT = ("output.not_json", "output.schema", "output.truncated", "step.postcondition")
"""The act is done; what failed is a check of it."""
_NEVER = ("tool.denied", "step.denied", "inputs.invalid", "tool.invalid_input")
"""A second attempt would meet the same answer."""
_BRANCHES = ("step.", "tool.", "cli.", "output.", "limit.", "secret.", "supervisor.")
"""Which of the error codes a step can fail with."""


def plan_retry(retry: Retry) -> plans.Retry:
    """The retry as the plan keeps it."""
    return plans.Retry(
        max_attempts=retry.max_attempts,
        backoff=retry.backoff,
        initial_s=retry.initial,
        factor=float(retry.factor),
        max_s=retry.max,
        jitter=float(retry.jitter),
        on=tuple(retry.on),
    )


def check_retry(
    retry: Retry, draft: Draft, location: Location, report: Report, *, side_effects: bool
) -> None:
    """Report what could never make the step run again."""
    action = draft.action
    if action is not None and action.tool_id in ("flow:noop", "flow:set", "flow:fail"):
        message = f"`{action.tool_id.replace(':', ' ')}` never gives another answer"
        report.add("retry.never", message, location, on_key=True)
        return
    if retry.max_attempts == 1:
        message = "one attempt is no retry"
        hint = "write `max_attempts: 3`, or take `retry` away"
        report.add("retry.never", message, (*location, "max_attempts"), hint=hint)
    known = [code for code in CODES if code.startswith(_BRANCHES)]
    for number, code in enumerate(retry.on):
        where = (*location, "on", number)
        if code not in known:
            close = closest(code, known)
            hint = f"did you mean `{close}`?" if close else "the documentation lists the codes"
            report.add("value.choice", f"`{code}` is no error of a step", where, hint=hint)
        elif code in _NEVER:
            message = f"after `{code}` nothing is tried again: the answer would be the same"
            report.add("retry.never", message, where)
        elif side_effects and code in (*_OUTCOME_UNKNOWN, *_AFTER_THE_ACT):
            message = f"after `{code}` the step may have had its effect, so a person is asked"
            hint = "write `idempotent: true` if doing it twice is the same as doing it once"
            report.add("retry.never", message, where, hint=hint)
