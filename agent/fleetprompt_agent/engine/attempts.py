"""One attempt of one step: rendered, bound to what was approved, performed, described."""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from fleetprompt_agent.engine.core import rendering
from fleetprompt_agent.engine.core.outcomes import AttemptEnd
from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_agent.steps.contract import StepOutcome, StepRequest, stopped_outcome
from fleetprompt_protocol.errors import FleetPromptError, RequestError
from fleetprompt_protocol.ids import Correlation, new_id
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fleetprompt_agent.engine.core.events import Json
    from fleetprompt_agent.engine.core.outcomes import Stopped
    from fleetprompt_agent.engine.core.state import RunState, StepState
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.steps.artifacts import ArtifactStore
    from fleetprompt_agent.steps.contract import Progress, StepRunner

log = get_logger("engine")


@runtime_checkable
class InstantRunner(Protocol):
    """A step runner whose steps wait for nothing: they need no task of their own."""

    def perform(self, request: StepRequest) -> StepOutcome:
        """The outcome, at once."""
        ...


def digest_of(action: Json) -> str:
    """The sha256 (hex) by which a decision is bound to what was shown."""
    return hashlib.sha256(canonical_json(action).encode()).hexdigest()


class Attempts:
    """Performs attempts with the step runners, by namespace."""

    def __init__(
        self, step_runners: Mapping[str, StepRunner], artifacts: ArtifactStore | None = None
    ) -> None:
        self._artifacts = artifacts
        self._runners = step_runners
        self._instant = {
            name: runner
            for name, runner in step_runners.items()
            if isinstance(runner, InstantRunner)
        }
        self._roots: dict[str, Path] = {}

    def _runner(self, namespace: str) -> StepRunner:
        runner = self._runners.get(namespace)
        if runner is None:
            known = ", ".join(sorted(self._runners))
            raise RequestError(
                "tool.not_found",
                f"This agent cannot perform `{namespace}` steps; it knows {known}.",
            )
        return runner

    def request(
        self, state: RunState, step: StepState, attempt: int, cause: str | None = None
    ) -> StepRequest:
        """The attempt with every template rendered.

        Args:
            state: The run.
            step: Whose attempt it is.
            attempt: From 1.
            cause: The id of its `step.started`, which causes what the attempt does.

        Raises:
            rendering.RenderError: a template has no value.
            RequestError: the rendered action must not run (`cli.option_injection` …).
        """
        planned = step.step
        action = rendering.action(state, step)
        tainted = action.pop("tainted", None)
        if tainted is not None:
            from fleetprompt_agent.steps.arguments import check_argv

            check_argv(action["argv"], tainted)
        cap = planned.max_output_bytes
        if state.max_output_bytes is not None:
            cap = min(cap, state.max_output_bytes)
        return StepRequest(
            run_id=state.run_id,
            step_path=step.path,
            step_id=planned.id,
            attempt=attempt,
            namespace=planned.namespace,
            tool_id=planned.tool_id,
            action=action,
            root=self._root(state.root),
            cwd=state.cwd,
            output=planned.output,
            ok_exit_codes=planned.ok_exit_codes,
            max_output_bytes=cap,
            idempotency_key=state.key_of(step),
            correlation=Correlation(state.request_id, state.correlation_id, cause),
            artifacts=planned.artifacts,
        )

    def _root(self, text: str) -> Path:
        root = self._roots.get(text)
        if root is None:
            root = self._roots[text] = Path(text)
        return root

    def resolved(self, state: RunState, step: StepState, command: object) -> dict[str, Json]:
        """What an approver is shown first: what would run, made by the system."""
        shown: dict[str, Json] = {"plan_digest": state.plan.digest}
        if step.is_fanout:
            items = getattr(command, "items", None) or []
            return {**shown, "tool": step.step.tool_id, "items": len(items),
                    "items_digest": digest_of(items),
                    **used_files(self._root(state.root), step.step.uses)}  # fmt: skip
        request = self.request(state, step, step.attempt + 1)
        return {**self._resolved(request, step), **shown}

    def _resolved(self, request: StepRequest, step: StepState) -> dict[str, Json]:
        """What would run, with the content of the files that the step names as its own."""
        action = self._runner(request.namespace).resolve_action(request)
        return {**action, **used_files(request.root, step.step.uses)}

    def with_used_files(
        self, state: RunState, plan: Plan, action: dict[str, Json]
    ) -> dict[str, Json]:
        """The action of a gate for all steps of a plan, with the content of what they name."""
        return {**action, **used_files(self._root(state.root), _all_uses(plan))}

    def changed_since_approval(
        self, state: RunState, request: StepRequest, step: StepState
    ) -> dict[str, Json] | None:
        """The action as it is now, when it is not the one that was approved; else None.

        A step that is covered by another gate (that of its loop, of the workflow it belongs to, or
        of the run's side effects) is asked about when a file under its `uses:` has changed.

        Raises:
            RequestError: `plan.changed`: it has, in `finally`, where nobody can be asked.
        """
        own = step.approval
        if own is not None and own.kind == "approval":
            now = self._resolved(request, step)
            now["plan_digest"] = own.action.get("plan_digest")
            return None if digest_of(now) == own.action_digest else now
        if not step.step.uses:
            return None
        changed = _changed_files(state, step, request.root)
        if not changed:
            return None
        if step.scope.is_finally:
            raise RequestError(
                "plan.changed",
                f"What step {step.path} uses has changed since it was approved: "
                f"{', '.join(changed)}. In `finally` nobody can be asked again.",
            )
        return {**self._resolved(request, step), "plan_digest": state.plan.digest}

    def shown(self, request: StepRequest) -> dict[str, Json]:
        """The action as it is journaled: standard input by digest and size, not in full."""
        action = dict(request.action)
        stdin = action.pop("stdin", None)
        if stdin is not None:
            data = stdin if isinstance(stdin, bytes) else stdin.encode("utf-8", "surrogatepass")
            action["stdin_sha256"] = hashlib.sha256(data).hexdigest()
            action["stdin_bytes"] = len(data)
        return {key: value for key, value in action.items() if value not in (None, {})}

    def limit_s(self, step: StepState, now_ms: int) -> float | None:
        """How long this attempt may take: its own limit, within that of all attempts."""
        own = step.step.timeout_s
        if step.deadline_ms is None:
            return own
        left = max(0.0, (step.deadline_ms - now_ms) / 1000)
        return left if own is None else min(own, left)

    def is_instant(self, namespace: str) -> bool:
        """Whether such steps wait for nothing, so that they need neither a task nor a slot."""
        return namespace in self._instant

    def perform_at_once(self, request: StepRequest) -> AttemptEnd:
        """The end of an instant step."""
        try:
            return _end_of(self._instant[request.namespace].perform(request))
        except FleetPromptError as error:
            return AttemptEnd(False, {}, error.to_data(), "none", 0.0)

    async def perform(
        self,
        request: StepRequest,
        limit_s: float | None,
        on_output: Progress,
        why_stopped: Callable[[], Stopped],
    ) -> AttemptEnd:
        """How the attempt ended; it never raises, cancelled or not."""
        began = time.perf_counter()
        try:
            runner = self._runner(request.namespace)
            if limit_s is None:
                outcome = await runner.run(request, on_output)
                if request.artifacts:
                    outcome = await self._with_artifacts(request, outcome)
                return _end_of(outcome)
            request = replace(request, timeout_s=limit_s)
            async with asyncio.timeout(limit_s):
                outcome = await runner.run(request, on_output)
                if request.artifacts:
                    outcome = await self._with_artifacts(request, outcome)
            return _end_of(outcome)
        except TimeoutError as error:
            return _timed_out(request, limit_s, stopped_outcome(error), _since(began))
        except asyncio.CancelledError as error:
            why = why_stopped()
            partial = stopped_outcome(error)
            result = partial.result if partial is not None else {}
            if why == "timeout":
                return _timed_out(request, None, partial, _since(began))
            return AttemptEnd(False, result, None, "unknown", _since(began), stopped=why)
        except FleetPromptError as error:
            return AttemptEnd(False, {}, error.to_data(), "unknown", _since(began))
        except Exception as error:
            ref = new_id()
            log.error("step.runner_failed", ref=ref, step_path=request.step_path, exc_info=error)
            error_data = {
                "code": "protocol.internal",
                "message": "A fault of ours; the agent's log has the details under this reference.",
                "details": {"ref": ref},
                "retryable": False,
            }
            return AttemptEnd(False, {}, error_data, "unknown", _since(began))

    async def _with_artifacts(self, request: StepRequest, outcome: StepOutcome) -> StepOutcome:
        """The outcome with the files that the step made, which are kept now if it succeeded."""
        if not outcome.ok:
            return outcome
        if self._artifacts is None:
            raise RequestError("output.artifact", "This agent has no store for artifacts.")
        try:
            kept = await asyncio.to_thread(
                self._artifacts.collect,
                request.root,
                request.cwd,
                request.action.get("cwd"),
                request.artifacts,
            )
        except OSError as error:
            fault = RequestError(
                "output.artifact", f"The artifacts cannot be kept: {error.strerror}."
            )
            return replace(outcome, ok=False, error=fault.to_data())
        except RequestError as error:
            return replace(outcome, ok=False, error=error.to_data())
        listed = [artifact.to_json() for artifact in kept]
        return replace(outcome, result={**outcome.result, "artifacts": listed})


def _since(began: float) -> float:
    return (time.perf_counter() - began) * 1000


def _end_of(outcome: StepOutcome) -> AttemptEnd:
    return AttemptEnd(
        outcome.ok,
        outcome.result,
        outcome.error,
        outcome.effect,
        round(outcome.duration_ms, 3),
        outcome.metrics or None,
    )


def _timed_out(
    request: StepRequest,
    limit_s: float | None,
    partial: StepOutcome | None,
    duration_ms: float,
) -> AttemptEnd:
    limit = f" its limit of {limit_s:g} s" if limit_s is not None else " the run's time"
    error = {
        "code": "step.timeout",
        "message": f"Step {request.step_path} was stopped: it reached{limit}.",
        "retryable": True,
    }
    if partial is None:
        return AttemptEnd(False, {}, error, "none", duration_ms)
    return AttemptEnd(False, partial.result, error, partial.effect, round(duration_ms, 3))


def used_files(root: Path, paths: Iterable[str]) -> dict[str, Json]:
    """`{"uses": [{path, sha256}]}` for files as they are now; empty without any."""
    from fleetprompt_agent.language.surroundings import used_sha256

    used = [{"path": path, "sha256": used_sha256(root, path)} for path in paths]
    return {"uses": used} if used else {}


def _all_uses(plan: Plan) -> list[str]:
    """The files that steps of the plan name as theirs, those of embedded workflows included."""
    found = {path for step in (*plan.steps, *plan.finally_steps) for path in step.uses}
    for inner in plan.workflows.values():
        found.update(_all_uses(inner))
    return sorted(found)


def _changed_files(state: RunState, step: StepState, root: Path) -> list[str]:
    """The files of the step that are not as a gate that covers it has shown them."""
    gates = [state.gates.get(state.effects_gate or "")]
    around: StepState | None = step
    while around is not None:
        if around.parent is not None:
            gates.append(around.parent.approval)
        around = around.scope.owner
        gates.append(around.approval if around is not None else None)
    shown = [
        used
        for gate in gates
        if gate is not None and gate.decision == "approve"
        for used in gate.action.get("uses", ())
    ]
    if not shown:
        return []
    now = used_files(root, step.step.uses)["uses"]
    return [
        used["path"]
        for used in now
        if any(old["path"] == used["path"] and old["sha256"] != used["sha256"] for old in shown)
    ]
