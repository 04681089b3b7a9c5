"""The built-in steps, `flow noop`, `set`, `assert` and `fail`: nothing but their input counts."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_agent.steps.contract import StepOutcome

if TYPE_CHECKING:
    from fleetprompt_agent.language.plan import Json
    from fleetprompt_agent.steps.contract import Progress, StepRequest

FLOW_TOOLS = ("flow:noop", "flow:set", "flow:assert", "flow:fail")
"""What this runner performs."""

MAX_MESSAGE_CHARACTERS = 1000
"""The longest message of `assert` and `fail`."""


class FlowRunner:
    """Performs `flow` steps.

    * `noop` gives its `with`, or null.
    * `set` gives its `with`.
    * `assert` gives its `with` when every condition in it is true: `with.that` is a boolean or a
      list of booleans; `with.message` says what to tell when it is not.
    * `fail` fails with `with.message`.
    """

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:  # noqa: ARG002 - the runner protocol
        """The outcome, at once."""
        return self.perform(request)

    def perform(self, request: StepRequest) -> StepOutcome:
        """The outcome; these steps wait for nothing and need no task of their own."""
        started = time.perf_counter()
        given = request.action.get("with")
        error = _failure(request.tool_id, given)
        return StepOutcome(
            ok=error is None,
            result={"json": given},
            error=error,
            effect="none",
            duration_ms=(time.perf_counter() - started) * 1000,
            metrics={},
        )

    def resolve_action(self, request: StepRequest) -> dict[str, Json]:
        """The tool and what it is given."""
        return {"tool": request.tool_id, "with": request.action.get("with")}


def _failure(tool_id: str, given: Json) -> dict[str, Json] | None:
    """Why the step fails, or None."""
    message = given.get("message") if isinstance(given, dict) else None
    match tool_id:
        case "flow:noop" | "flow:set":
            return None
        case "flow:fail":
            why = given if message is None else message
            return _error("step.failed", "The workflow says so." if why is None else why)
        case "flow:assert":
            that = given.get("that") if isinstance(given, dict) else given
            claims = that if isinstance(that, list) else [that]
            wrong = [number for number, claim in enumerate(claims, 1) if claim is not True]
            if claims and not wrong:
                return None
            why = f"Condition {wrong[0]} does not hold." if wrong else "There is no condition."
            return _error("step.failed", why if message is None else message)
    known = ", ".join(f"`{tool}`" for tool in FLOW_TOOLS)
    return _error("tool.not_found", f"There is no `{tool_id}`; the built-in steps are {known}.")


def _error(code: str, message: Json) -> dict[str, Json]:
    """An error whose message may come from data: bounded, since every copy of it carries it."""
    text = message if isinstance(message, str) else canonical_json(message)
    if len(text) > MAX_MESSAGE_CHARACTERS:
        text = text[:MAX_MESSAGE_CHARACTERS] + "…"
    return {"code": code, "message": text, "retryable": False}
