"""Steps that can never run, told from the text alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt_agent.language.diagnostics import Report
    from fleetprompt_agent.language.plan import PlanStep
    from fleetprompt_agent.language.scopes import Draft


def warn_unreachable(drafts: Sequence[Draft], steps: Sequence[PlanStep], report: Report) -> None:
    """Warn of steps that wait for one that always fails, or that is never run."""
    never: dict[str, str] = {}
    fails: dict[str, str] = {}
    for draft, step in zip(drafts, steps, strict=True):
        reason = None
        for need in step.needs:
            if need.step_id in fails:
                reason = f"step `{need.step_id}` always fails"
            elif need.step_id in never and need.origin == "needs" and step.condition is None:
                reason = f"step `{need.step_id}` never runs"
            elif need.step_id in never and need.step_id in fails:
                reason = fails[need.step_id]
        if step.condition == "false":
            never[step.id] = "its `if` is false"
            continue
        if reason is not None:
            never[step.id] = reason
            if reason.endswith("always fails"):
                fails[step.id] = reason
            message = f"step `{step.id}` never runs: {reason}"
            report.add("step.unreachable", message, (*draft.location, "id"), severity="warning")
        elif (
            step.tool_id == "flow:fail"
            and step.condition is None
            and step.on_error == "fail"
            and step.for_each is None
        ):
            fails[step.id] = f"step `{step.id}` always fails"
