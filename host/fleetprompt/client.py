"""The typed client: workflows of a repository from Python, through an agent of their own.

async with fleetprompt.Client(root=".") as client:
    result = await client.run("repo-health")
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fleetprompt.agent_process import AgentProcess, agent_command
from fleetprompt_protocol.errors import FleetPromptError, OperatorError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from pydantic import BaseModel

    from fleetprompt.results import (
        Cancellation,
        Description,
        Diagnostic,
        OutputPiece,
        PruneResult,
        ReplayResult,
        RunResult,
        RunSummary,
        StepOutput,
        StepStatus,
        TimelineEvent,
        Validation,
        WorkflowPlan,
        WorkflowSummary,
    )
    from fleetprompt.router import Router
    from fleetprompt.session import CallOptions, DirectiveDecider, Session, ToolOutcome

    ModelT = TypeVar("ModelT", bound=BaseModel)

Json = Any


_PAGE_CHARACTERS = 400_000
"""Of long output, in one answer: what the agent allows at most."""


class Client:
    """An agent for one root, as an async context manager.

    Entering spawns the agent and waits until it is ready; leaving ends it. Runs that are unfinished
    then stay resumable. Every method raises `FleetPromptError` with a stable code when the agent
    cannot do what was asked; a run that fails is a result, not an exception.

    Args:
        root: The directory that holds `.fleetprompt/`; by default the nearest one upwards.
        allow_side_effects: Whether runs may change things without asking first. Explicit
            approvals are asked for in any case.
        command: Another agent's command line; by default this distribution's own.
        environ: The agent's environment; by default this process's.
        stderr: A descriptor for the agent's log; None for this process's standard error.
        actor: Who asks: `{type: human|agent|system, id, display?}`.
        decide_directive: Asked when the agent wants a directive for side effects; denied without.
        agents: Command lines of other agents, whose tools the steps of workflows may call.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        *,
        allow_side_effects: bool = False,
        command: Sequence[str] | None = None,
        environ: Mapping[str, str] | None = None,
        stderr: int | None = None,
        actor: dict[str, Json] | None = None,
        decide_directive: DirectiveDecider | None = None,
        agents: Sequence[Sequence[str]] = (),
    ) -> None:
        self._given_root = root
        self._allow_side_effects = allow_side_effects
        self._command = command
        self._environ = environ
        self._stderr = stderr
        self._actor = actor
        self._decide_directive = decide_directive
        self._agents = agents
        self._others: list[tuple[AgentProcess, Session]] = []
        self.agent_exit_code: int | None = None
        """How the agent ended, once it has; negative for a signal."""
        self._process: AgentProcess | None = None
        self._session: Session | None = None
        self._root = Path()

    # Life

    async def __aenter__(self) -> Self:
        from fleetprompt.roots import chosen_root

        self._root = chosen_root(self._given_root)
        command = self._command or agent_command(
            self._root, allow_side_effects=self._allow_side_effects
        )
        environ = os.environ if self._environ is None else self._environ
        process = AgentProcess(command, environ=environ, stderr=self._stderr)
        self._process = process
        # Imported while the agent starts: both take about as long.
        from fleetprompt.session import Session

        router = None
        if self._agents:
            from fleetprompt.router import Router

            router = Router(self._may_call)
        self._session = Session(
            process.transport,
            process.token,
            decide_directive=self._decide_directive,
            router=router,
        )
        try:
            if router is not None:
                for other in self._agents:
                    await self._attach(other, environ, router)
            await self._session.open()
        except BaseException as error:
            await self._end_others()
            await self._session.close()
            self._session = None
            code = self.agent_exit_code = await process.end()
            if isinstance(error, ProtocolError) and error.code == "protocol.closed":
                raise _agent_ended(code, "was ready") from None
            raise
        return self

    def _may_call(self, caller: str, _tool_id: str) -> bool:
        """Steps may call what the user has brought in; those agents may not call back."""
        return self._session is not None and caller == self._session.agent_id

    async def _attach(
        self, command: Sequence[str], environ: Mapping[str, str], router: Router
    ) -> None:
        from fleetprompt.session import Session

        process = AgentProcess(command, environ=environ, stderr=self._stderr)
        session = Session(process.transport, process.token, router=router)
        self._others.append((process, session))
        try:
            await session.open()
        except ProtocolError as error:
            if error.code == "protocol.closed":
                await session.close()
                how = f"It ended with {_ending(await process.end())} before it was ready."
            else:
                how = error.message
            raise OperatorError(
                "agent.not_started",
                f"The agent `{command[0]}` cannot be used. {how} "
                "It has to speak the router dialect on its standard input and output.",
            ) from None

    async def _end_others(self) -> None:
        others, self._others = self._others, []
        for process, session in others:
            session.goodbye("done")
            await session.close()
            await process.end()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._session is None or self._process is None:
            return
        session, self._session = self._session, None
        session.goodbye("done")
        await session.close()
        self.agent_exit_code = await self._process.end()
        await self._end_others()

    @property
    def root(self) -> Path:
        """The root that the agent serves."""
        return self._root

    @property
    def agent_pid(self) -> int | None:
        """The process id of the agent, once it has been spawned."""
        return None if self._process is None else self._process.pid

    # Workflows

    async def list(self) -> tuple[WorkflowSummary, ...]:
        """The workflows of the root."""
        from fleetprompt.results import WorkflowSummary

        return await self._pages("fp_list_workflows", "workflows", {"limit": 1000}, WorkflowSummary)

    async def describe(self, workflow: str) -> Description:
        """What a workflow takes, gives and does, without running it."""
        from fleetprompt.results import Description

        return _as(Description, await self._call("fp_describe_workflow", {"workflow": workflow}))

    async def validate(self, workflow: str) -> Validation:
        """The findings about a workflow; one that is invalid is a result, not an exception."""
        from fleetprompt.results import Validation

        return _as(Validation, await self._call("fp_validate_workflow", {"workflow": workflow}))

    async def validate_all(self) -> tuple[tuple[Validation, ...], tuple[Diagnostic, ...]]:
        """The findings about every workflow of the root, and those about the root itself."""
        from fleetprompt.results import Diagnostic, Validation

        found: list[Validation] = []
        cursor: Json = None
        while True:
            page = await self._call("fp_validate_project_resources", _set({"cursor": cursor}))
            found += [_as(Validation, item) for item in page.get("workflows") or ()]
            cursor = page.get("next_cursor")
            if cursor is None:
                problems = tuple(_as(Diagnostic, item) for item in page.get("problems") or ())
                return tuple(found), problems

    async def plan(
        self,
        workflow: str,
        inputs: Mapping[str, Json] | None = None,
        *,
        against: str | None = None,
        graph: str | None = None,
    ) -> WorkflowPlan:
        """What a run would do; nothing is executed.

        Args:
            workflow: An id, or a path relative to the root.
            inputs: Values by input name; placeholders stand for those that are missing.
            against: A run whose recorded outcomes are put through the workflow; empty for the
                latest run of this workflow.
            graph: `mermaid` or `dot`: give the graph as text too.
        """
        from fleetprompt.results import WorkflowPlan

        given = {"workflow": workflow, "inputs": dict(inputs or {}), "against": against}
        return _as(
            WorkflowPlan, await self._call("fp_plan_workflow", _set({**given, "graph": graph}))
        )

    # Runs

    async def run(
        self,
        workflow: str,
        inputs: Mapping[str, Json] | None = None,
        *,
        idempotency_key: str | None = None,
        cwd: str | None = None,
        metadata: Mapping[str, Json] | None = None,
        wait_ms: int | None = None,
        timeout_ms: int | None = None,
        on_status: Callable[[StepStatus], None] | None = None,
    ) -> RunResult:
        """Run a workflow until it has ended, waits for a decision, or `wait_ms` have passed.

        Args:
            workflow: An id, or a path relative to the root.
            inputs: Values by input name.
            idempotency_key: The same key and inputs give the same run again.
            cwd: The working directory of its steps, relative to the root.
            metadata: Kept with the run.
            wait_ms: How long to wait; without it as long as the run takes.
            timeout_ms: How long the run may take.
            on_status: Told of every step that starts, ends or waits, in order.
        """
        given: dict[str, Json] = {
            "workflow": workflow,
            "inputs": dict(inputs or {}),
            "idempotency_key": idempotency_key,
            "cwd": cwd,
            "metadata": None if metadata is None else dict(metadata),
            "wait_ms": wait_ms,
            "timeout_ms": timeout_ms,
        }
        return await self._run_call("fp_run_workflow", _set(given), on_status)

    async def resume(
        self,
        run_id: str,
        *,
        from_step: str | None = None,
        wait_ms: int | None = None,
        on_status: Callable[[StepStatus], None] | None = None,
    ) -> RunResult:
        """Continue an interrupted run; steps that finished do not run again.

        Args:
            run_id: Its id, or a prefix that no other run has.
            from_step: Continue a failed run from this step, named by its path; what succeeded
                stays.
            wait_ms: How long to wait; without it as long as the run takes.
            on_status: As for `run`.
        """
        given = _set({"run_id": run_id, "from_step": from_step, "wait_ms": wait_ms})
        return await self._run_call("fp_resume_run", given, on_status)

    async def decide(
        self,
        token: str,
        answer: Mapping[str, Json],
        *,
        reason: str | None = None,
        wait_ms: int | None = None,
        on_status: Callable[[StepStatus], None] | None = None,
    ) -> RunResult:
        """Decide the gate that the token opens, and follow the run.

        Args:
            token: From the result that opened the gate, or `get(run_id, reissue=True)`.
            answer: One of `{approve: bool}`, `{response: json}`, `{retry: true}`,
                `{succeed_with: json}`, `{fail: true}`, `{complete: true}`, `{skip: true}`.
            reason: Kept with the decision.
            wait_ms: How long to wait; without it as long as the run takes.
            on_status: As for `run`.
        """
        given = {"token": token, **answer, **_set({"reason": reason, "wait_ms": wait_ms})}
        return await self._run_call("fp_resume_run", given, on_status)

    async def cancel(self, run_id: str, *, reason: str | None = None) -> Cancellation:
        """Ask for a run to be cancelled, whichever process drives it."""
        from fleetprompt.results import Cancellation

        given = _set({"run_id": run_id, "reason": reason})
        return _as(Cancellation, await self._call("fp_cancel_execution", given))

    async def get(self, run_id: str = "", *, reissue: bool = False) -> RunResult:
        """A run as it stands.

        Args:
            run_id: Its id, or a prefix that no other run has; empty for the latest run.
            reissue: Give its open gates new tokens; the old ones are void then.
        """
        given: dict[str, Json] = {"run_id": run_id}
        if reissue:
            given["reissue"] = True
        return await self._run_call("fp_get_run", given, None)

    async def runs(self, *, status: str | None = None, limit: int = 20) -> tuple[RunSummary, ...]:
        """The latest runs of the root, the newest first, at most `limit`, all or of one status."""
        from fleetprompt.results import RunSummary

        given = {"status": status, "limit": max(1, min(limit, 200))}
        return await self._pages("fp_list_runs", "runs", given, RunSummary, most=limit)

    async def timeline(
        self, *, run_id: str | None = None, correlation_id: str | None = None
    ) -> tuple[TimelineEvent, ...]:
        """What happened, in order, to one run (empty: the latest) or under a correlation id."""
        from fleetprompt.results import TimelineEvent

        given = {"run_id": run_id, "correlation_id": correlation_id, "limit": 1000}
        return await self._pages("fp_get_timeline", "events", given, TimelineEvent)

    # Looking back

    async def output(
        self,
        run_id: str,
        step_path: str,
        *,
        channel: str | None = None,
        attempt: int | None = None,
    ) -> StepOutput:
        """What a step wrote; `next_output` gives the rest of what is long.

        Args:
            run_id: Its id, or a prefix that no other run has; empty for the latest run.
            step_path: As the run's steps name it; empty for the run itself.
            channel: `stdout`, `stderr` or `json`, all without it; of the run `outputs`, `output`,
                `steps` or `gates`.
            attempt: The last one with output, if not given.
        """
        from fleetprompt.results import StepOutput

        given = {"run_id": run_id, "step_path": step_path, "channel": channel, "attempt": attempt}
        return _as(StepOutput, await self._call("fp_get_output", _set(given)))

    async def next_output(self, output: StepOutput, channel: str, offset: int) -> OutputPiece:
        """The part of a channel that begins at the character `offset`."""
        given = {
            "run_id": output.run_id,
            "step_path": output.step_path,
            "channel": channel,
            "attempt": output.attempt,
            "offset": offset,
            "limit": _PAGE_CHARACTERS,
        }
        from fleetprompt.results import StepOutput

        more = _as(StepOutput, await self._call("fp_get_output", given))
        return more.channels[channel]

    async def replay(self, run_id: str = "") -> ReplayResult:
        """Whether what a run's journal says follows from itself; empty for the latest run."""
        from fleetprompt.results import ReplayResult

        return _as(ReplayResult, await self._call("fp_replay_run", {"run_id": run_id}))

    async def prune(
        self,
        *,
        older_than_s: float | None = None,
        max_bytes: int | None = None,
        dry_run: bool = False,
    ) -> PruneResult:
        """Forget runs that ended long ago; never one that waits or can go on.

        Args:
            older_than_s: Since they ended; 30 days if not given.
            max_bytes: Then the oldest ones, until the rest takes no more; 1 GB if not given.
            dry_run: Only tell which they are.
        """
        from fleetprompt.results import PruneResult

        given = {"older_than_s": older_than_s, "max_bytes": max_bytes, "dry_run": dry_run}
        return _as(PruneResult, await self._call("fp_prune_runs", _set(given)))

    # Calls

    async def cancel_calls(self, reason: str) -> int:
        """Cancel what other tasks are waiting for here; their calls give their last result."""
        return 0 if self._session is None else await self._session.cancel_calls(reason)

    async def abandon(self) -> None:
        """Leave at once: the agent notices that its host is gone and keeps its runs resumable."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    async def _run_call(
        self,
        tool: str,
        given: dict[str, Json],
        on_status: Callable[[StepStatus], None] | None,
    ) -> RunResult:
        from fleetprompt.results import RunResult, StepStatus

        def on_chunk(chunk: dict[str, Json]) -> None:
            if on_status is not None and chunk.get("channel") == "status":
                on_status(_as(StepStatus, chunk.get("data")))

        outcome = await self._outcome(tool, given, on_chunk if on_status is not None else None)
        output = outcome.output
        if isinstance(output, dict) and "run_id" in output:
            if isinstance(output.get("left_out"), dict):
                output = await self._completed(output)
            return _as(RunResult, output)
        raise _error_of(outcome)

    async def _completed(self, result: dict[str, Json]) -> dict[str, Json]:
        """The result of a run with everything that it left out because it would be too long."""
        whole = {name: value for name, value in result.items() if name != "left_out"}
        tokens = {gate["gate_id"]: gate["token"] for gate in result["gates"] if "token" in gate}
        for name in result["left_out"]:
            output = await self.output(result["run_id"], "", channel=name)
            piece = output.channels[name]
            texts = [piece.text]
            while piece.next_offset is not None:
                piece = await self.next_output(output, name, piece.next_offset)
                texts.append(piece.text)
            whole[name] = json.loads("".join(texts))
        for gate in whole["gates"]:
            if gate["gate_id"] in tokens:
                gate["token"] = tokens[gate["gate_id"]]
        return whole

    async def _pages(
        self,
        tool: str,
        field: str,
        given: dict[str, Json],
        model: type[ModelT],
        *,
        most: int | None = None,
    ) -> tuple[ModelT, ...]:
        """The entries of a listing, page after page."""
        found: list[ModelT] = []
        cursor: Json = None
        while True:
            answer = await self._call(tool, _set({**given, "cursor": cursor}))
            items = answer.get(field)
            found += [_as(model, item) for item in (items if isinstance(items, list) else ())]
            cursor = answer.get("next_cursor")
            if cursor is None or (most is not None and len(found) >= most):
                return tuple(found[:most])

    async def _call(self, tool: str, given: dict[str, Json]) -> dict[str, Json]:
        outcome = await self._outcome(tool, given, None)
        if outcome.status == "succeeded" and isinstance(outcome.output, dict):
            return outcome.output
        raise _error_of(outcome)

    async def _outcome(
        self,
        tool: str,
        given: dict[str, Json],
        on_chunk: Callable[[dict[str, Json]], None] | None,
    ) -> ToolOutcome:
        if self._session is None:
            raise RuntimeError("the client is not open; use it in `async with`")
        try:
            return await self._session.call(tool, given, self._options(), on_chunk)
        except ProtocolError as error:
            if error.code != "protocol.closed" or self._process is None:
                raise
            raise _agent_ended(await self._process.end(), "answered") from None

    def _options(self) -> CallOptions:
        from fleetprompt.session import CallOptions

        return CallOptions(project_root=str(self._root), actor=self._actor)


def _as(model: type[ModelT], data: Json) -> ModelT:
    """The data as a model.

    Raises:
        ProtocolError: the agent's answer has not the shape that protocol.md §7 fixes.
    """
    from pydantic import ValidationError

    try:
        return model.model_validate(data)
    except ValidationError as error:
        from fleetprompt_protocol.rpc_error import invalid_params

        problems = invalid_params(error).details
        raise ProtocolError(
            "protocol.peer_error",
            f"The agent's answer is not a {model.__name__} as the protocol defines it.",
            details=problems,
        ) from None


def _error_of(outcome: ToolOutcome) -> FleetPromptError:
    if outcome.error is not None:
        return outcome.error
    if outcome.status == "canceled":
        return FleetPromptError("tool.canceled", "The call was cancelled.")
    return ProtocolError(
        "protocol.peer_error", f"The agent answered `{outcome.status}` without saying more."
    )


def _set(given: dict[str, Json]) -> dict[str, Json]:
    """What is given, without what is left open."""
    return {key: value for key, value in given.items() if value is not None}


def _agent_ended(code: int, before: str) -> ProtocolError:
    return ProtocolError(
        "protocol.closed",
        f"The agent ended with {_ending(code)} before it {before}; its log says more. "
        "Unfinished runs can be resumed.",
        details={"exit_code": code},
    )


def _ending(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {-code}"
