"""One `tools/call`: the tool, then the questions that its run asks, then the result.

Theory of operation. A call that runs something has until its deadline. When a gate opens that a
person decides and the client can show forms, the person is asked; when it wants a judgement and
the client has a model to offer, the model is: in the handshake era within the call, in the
stateless era by answering with the question, whose answer comes with a second call. What does not
depend on the gate goes on meanwhile. Without an answer the run stays as it is, and the result says
how a person decides at a terminal, or how the calling model answers. A form is authority of its own
channel, so that no token is needed, and none is ever shown; a model's answer has no authority, and
fits no other gate than a judgement.

What follows a run is a task of its own: a cancel of the call asks the engine to cancel the run, and
leaves the task to see it through. A call whose run waits has no such task: to cancel it detaches it
from a run that goes on waiting.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.dialects.mcp.gate_watch import GateWatch
from fleetprompt_agent.dialects.mcp.gates import Answer, Question, question_of, read_answer
from fleetprompt_agent.dialects.mcp.inputs import DEFAULT_WAIT_MS, MCP_INPUTS
from fleetprompt_agent.dialects.mcp.judgements import is_answer, judgement_gate
from fleetprompt_agent.dialects.mcp.progress import ProgressReports
from fleetprompt_agent.dialects.mcp.request_state import Asked, RequestStates
from fleetprompt_agent.dialects.mcp.results import error_result, tool_result, without_authority
from fleetprompt_agent.dialects.mcp.sampling import (
    TRIES,
    BadAnswer,
    read_judgement,
    sampling_params,
)
from fleetprompt_agent.dialects.mcp.tool_list import offered_tools
from fleetprompt_agent.engine.projection import run_result
from fleetprompt_agent.engine.requests import Asker, Decide
from fleetprompt_agent.tools.registry import TOOLS, Call, call_tool
from fleetprompt_protocol.errors import FleetPromptError, RequestError
from fleetprompt_protocol.log import bound, get_logger
from fleetprompt_protocol.rpc_error import internal_error, invalid_params, new_ref

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.dialects.mcp.caller import Caller
    from fleetprompt_agent.dialects.options import Options
    from fleetprompt_agent.dialects.workflow_tools import Workflows
    from fleetprompt_agent.engine.active import Listener
    from fleetprompt_protocol.ids import Correlation

Json = Any

log = get_logger("mcp")

MAX_ROUNDS = 10
"""Questions with which one call is answered: clients of the stateless era give up after as many."""


class ToolCalls:
    """Answers `tools/call`.

    Args:
        agent: What the tools act on.
        options: Which tools there are.
        workflows: The workflows that may be tools.
        is_ending: Whether calls end because the connection ends, not because of a cancel.
    """

    def __init__(
        self,
        agent: Agent,
        options: Options,
        workflows: Workflows,
        is_ending: Callable[[], bool],
    ) -> None:
        self.agent = agent
        """What the tools act on."""
        self.is_ending = is_ending
        """Whether calls end because the connection ends."""
        self.states = RequestStates()
        """Of the questions that were asked."""
        self.left: set[asyncio.Future[Any]] = set()
        """Tasks whose call was cancelled; they end by themselves."""
        self.options = options
        """What the spawner lets the client see and do."""
        self._workflows = workflows

    async def call(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        """The result of a call, or a question of the stateless era.

        Raises:
            RequestError: `tool.not_found`; every other fault is a result that says so.
        """
        name = params["name"]
        workflow = self._workflow_of(name)
        correlation: Correlation | None = None
        try:
            correlation = caller.call_meta().correlation
            one = _OneCall(self, caller, correlation, params)
            with bound(correlation):
                if workflow is not None:
                    name, arguments = (
                        "fp_run_workflow",
                        {
                            "workflow": workflow,
                            "inputs": params.get("arguments") or {},
                        },
                    )
                else:
                    arguments = params.get("arguments") or {}
                return await one.perform(name, arguments)
        except FleetPromptError as error:
            return error_result(error, correlation)
        except Exception as fault:
            ref = new_ref()
            log.error("mcp.tool_failed", ref=ref, tool=name, exc_info=fault)
            return error_result(internal_error(ref), correlation)

    def _workflow_of(self, name: str) -> str | None:
        """The path of the workflow whose tool this is; None for one of our own tools."""
        if name in offered_tools(self.options):
            return None
        if self.options.workflow_tools:
            plan = self._workflows.tools().get(name)
            if plan is not None:
                return plan.file_path
        raise RequestError(
            "tool.not_found",
            f"There is no tool {name[:80]}. Ask tools/list which there are.",
            rpc_code=-32602,
        )


class _OneCall:
    """What belongs to one call."""

    def __init__(
        self, calls: ToolCalls, caller: Caller, correlation: Correlation, params: dict[str, Json]
    ) -> None:
        self._calls = calls
        self._agent = calls.agent
        self._caller = caller
        self._correlation = correlation
        self._params = params
        self._watch = GateWatch()
        self._deadline = time.monotonic()
        self._following: asyncio.Future[dict[str, Json]] | None = None
        """Gives the run when it has come to rest, or the call's time is up."""
        self._cancel_run: Callable[[], None] = _nothing
        self._passed: set[str] = set()
        """Gates that are not asked about again in this call."""
        self._asks_model = caller.can_sample
        self._asks_person = caller.can_elicit

    async def perform(self, name: str, arguments: dict[str, Json]) -> dict[str, Json]:
        tool = TOOLS[name]
        given = _checked(name, arguments)
        self._deadline += given.get("wait_ms", DEFAULT_WAIT_MS) / 1000
        if not tool.streaming:
            return self._shown(await call_tool(tool, self._call(), given))
        try:
            if self._caller.report is None:
                return await self._perform_run(name, given)
            async with ProgressReports(self._caller.report) as self._watch.reports:
                return await self._perform_run(name, given)
        except asyncio.CancelledError:
            if self._following is not None and not self._following.done():
                self._leave(self._following)
                if not self._calls.is_ending():
                    self._cancel_run()
                self._following = None
            raise
        finally:
            if self._following is not None:
                self._following.cancel()  # the call has its answer; the run needs nobody

    async def _perform_run(self, name: str, given: dict[str, Json]) -> dict[str, Json]:
        state = self._params.get("requestState")
        asked: Asked | None = None
        bad: dict[str, BadAnswer] = {}
        if state is not None:
            asked = self._calls.states.open(state, self._params["name"], self._arguments)
            responses = self._params.get("inputResponses") or {}
            run, bad = await self._take_answers(asked, responses)
        elif name == "fp_resume_run" and is_answer(given):
            run = await self._judge(given["run_id"], given.get("step_path"), given.get("answer"))
        else:
            run = await self._start(name, given)
        if self._caller.era == "handshake":
            return self._shown(await self._ask_all(run))
        while (question := self._question(run, asked, bad)) is None and self._may_go_on(run):
            run = await self._go_on(run["run_id"])
        return question or self._shown(run)

    # Following a run

    async def _start(self, name: str, given: dict[str, Json]) -> dict[str, Json]:
        call = self._call()
        call.listener = self._watch
        cancels: list[Callable[[], None]] = []
        call.on_cancel = cancels.append

        def cancel() -> None:
            for registered in cancels:
                registered()

        for own in ("answer", "step_path"):
            given.pop(own, None)
        given["wait_ms"] = self._left_ms()
        return await self._follow(call_tool(TOOLS[name], call, given), cancel)

    def _may_go_on(self, run: dict[str, Json]) -> bool:
        """Whether the run does something that this call has time for."""
        return run["status"] == "running" and self._left_ms() > 0

    async def _go_on(self, run_id: str) -> dict[str, Json]:
        """The run when it has come to rest or asks something, or when the time is up."""
        if self._is_following:
            return await self._until_asked()
        return await self._start("fp_resume_run", {"run_id": run_id})

    async def _decide(
        self, run_id: str, gate_id: str, answer: Answer, *, is_person: bool = True,
        usage: Json = None, follow: bool = True,
    ) -> dict[str, Json]:  # fmt: skip
        """The run after a person's decision, or a model's answer.

        It is followed as `_go_on` does, unless it is followed already or shall not be.
        """
        engine = self._agent.engine
        caller = self._caller
        request = Decide(
            gate_id=gate_id,
            decision=answer.decision,
            channel=caller.channel if is_person else caller.model,
            reason=answer.reason,
            response=answer.response,
            usage=usage,
        )
        asker = self._asker("human" if is_person else "agent", caller.client)
        decider = asker if is_person else self._asker("agent", caller.model)

        async def decide(listener: Listener | None, wait_s: float) -> dict[str, Json]:
            snapshot = await engine.decide(run_id, request, asker, listener, wait_s, decider)
            return run_result(snapshot, request_id=self._correlation.request_id)

        def cancel() -> None:
            reason = "the call was cancelled"
            self._leave(asyncio.ensure_future(engine.cancel(run_id, reason, asker)))

        if not follow or self._is_following:
            return await decide(None, 0)
        return await self._follow(decide(self._watch, self._left_ms() / 1000), cancel)

    @property
    def _is_following(self) -> bool:
        return self._following is not None and not self._following.done()

    async def _follow(
        self, work: Coroutine[Any, Any, dict[str, Json]], cancel: Callable[[], None]
    ) -> dict[str, Json]:
        """The run that the work gives, or as it is when it asks something before.

        Args:
            work: Ends when the run has come to rest, or the time is up.
            cancel: What a cancel of this call does, while the work is under way.
        """
        self._following, self._cancel_run = asyncio.ensure_future(work), cancel
        return await self._until_asked()

    async def _until_asked(self) -> dict[str, Json]:
        following = self._following
        assert following is not None  # noqa: S101
        asked = asyncio.ensure_future(self._watch.asked.wait())
        try:
            await asyncio.wait((following, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        if following.done():
            return following.result()
        self._watch.asked.clear()
        return self._look(self._watch.run_id)

    def _leave(self, task: asyncio.Future[Any]) -> None:
        """Let a task end by itself."""
        left = self._calls.left
        left.add(task)

        def forget(done: asyncio.Future[Any]) -> None:
            left.discard(done)
            if not done.cancelled() and (fault := done.exception()) is not None:
                log.info("mcp.call_left", reason=type(fault).__name__)

        task.add_done_callback(forget)

    # Asking within the call

    async def _ask_all(self, run: dict[str, Json]) -> dict[str, Json]:
        """The run after everything that somebody answers within the call's time."""
        while run["status"] in ("running", "waiting"):
            asking = self._next_question(run)
            if asking is None:
                if not self._may_go_on(run):
                    break
                run = await self._go_on(run["run_id"])
                continue
            gate, question = asking
            if question is None:
                run = await self._sample(run, gate)
                continue
            answer = await self._ask(gate, question)
            if answer is None:
                self._asks_person = False  # who has closed one form is not shown the next
                run = self._look(run["run_id"])
                continue
            run = await self._decide(run["run_id"], gate["gate_id"], answer)
        return run

    def _next_question(
        self, run: dict[str, Json]
    ) -> tuple[dict[str, Json], Question | None] | None:
        """The first gate that can be asked about, and its form; no form for a judgement."""
        for gate in run["gates"]:
            if gate["gate_id"] in self._passed:
                continue
            if gate["kind"] == "judgement":
                if self._asks_model:
                    return gate, None
            elif self._asks_person and (question := question_of(run, gate)) is not None:
                return gate, question
        return None

    async def _ask(self, gate: dict[str, Json], question: Question) -> Answer | None:
        """What a person answers within the call's time."""
        left_ms = self._left_ms()
        if self._caller.elicit is None or left_ms == 0:
            return None
        fields = await self._caller.elicit(question.message, question.schema, left_ms / 1000)
        return None if fields is None else read_answer(gate, fields)

    async def _sample(self, run: dict[str, Json], gate: dict[str, Json]) -> dict[str, Json]:
        """The run after the model's answer; as it is now, without one that can be taken.

        The gate is then not asked about again, and no other one when the client asks no model.
        """
        bad: BadAnswer | None = None
        for _ in range(TRIES):
            left_ms = self._left_ms()
            result = None
            if self._caller.sample is not None and left_ms > 0:
                result = await self._caller.sample(sampling_params(gate, bad), left_ms / 1000)
            if result is None:
                self._asks_model = False
                return self._look(run["run_id"])
            after = await self._take_judgement(run["run_id"], gate["gate_id"], result)
            if not isinstance(after, BadAnswer):
                return after
            bad = after
        self._passed.add(gate["gate_id"])
        return self._look(run["run_id"])

    async def _take_judgement(
        self, run_id: str, gate_id: str, result: dict[str, Json], *, follow: bool = True
    ) -> dict[str, Json] | BadAnswer:
        """The run after a model's answer, or what is wrong with it."""
        judged = read_judgement(result)
        if isinstance(judged, BadAnswer):
            return judged
        try:
            return await self._decide(
                run_id, gate_id, Answer("respond", judged.value), is_person=False,
                usage=judged.usage, follow=follow,
            )  # fmt: skip
        except RequestError as error:
            if error.code in _DECIDED_MEANWHILE:
                return await self._go_on(run_id) if follow else self._look(run_id)
            if error.code != "gate.bad_response":
                raise
            problems = (error.details or {}).get("problems") or [error.message]
            return BadAnswer(judged.text, "; ".join(problems) + ".")

    # Asking by answering with a question

    def _question(
        self, run: dict[str, Json], asked: Asked | None, bad: dict[str, BadAnswer]
    ) -> dict[str, Json] | None:
        """The run's open questions, as the call's answer; None when there are none to ask."""
        rounds = 1 if asked is None else asked.rounds + 1
        if run["status"] not in ("running", "waiting") or rounds > MAX_ROUNDS:
            return None
        known = () if asked is None else asked.gate_ids
        tries = {} if asked is None else dict(asked.tries)
        requests: dict[str, Json] = {}
        is_new = False
        for gate in run["gates"]:
            gate_id = gate["gate_id"]
            if gate["kind"] == "judgement":
                # One that was asked and has no answer is asked again only with what was wrong.
                may_ask = gate_id not in known or (gate_id in bad and tries.get(gate_id, 0) < TRIES)
                if not self._caller.can_sample or not may_ask:
                    continue
                tries[gate_id] = tries.get(gate_id, 0) + 1
                params = sampling_params(gate, bad.get(gate_id))
                requests[gate_id] = {"method": "sampling/createMessage", "params": params}
                is_new = True
            elif self._caller.can_elicit and (question := question_of(run, gate)) is not None:
                requests[gate_id] = _form_request(question)
                is_new |= gate_id not in known
        if not is_new:
            return None  # all of it was asked, and nobody decided
        now = Asked(run["run_id"], sorted({*known, *requests}), tries, rounds)
        return {
            "resultType": "input_required",
            "inputRequests": requests,
            "requestState": self._calls.states.seal(now, self._params["name"], self._arguments),
        }

    async def _take_answers(
        self, asked: Asked, responses: dict[str, Json]
    ) -> tuple[dict[str, Json], dict[str, BadAnswer]]:
        """The run after every answer that can be taken, and by gate what was wrong with others."""
        run = self._look(asked.run_id)
        bad: dict[str, BadAnswer] = {}
        is_decided = False
        for gate in run["gates"]:
            gate_id = gate["gate_id"]
            response = responses.get(gate_id)
            if gate_id not in asked.gate_ids or not isinstance(response, dict):
                continue
            if gate["kind"] == "judgement":
                after = await self._take_judgement(asked.run_id, gate_id, response, follow=False)
                if isinstance(after, BadAnswer):
                    bad[gate_id] = after
                    continue
            else:
                fields = response.get("content")
                if response.get("action") != "accept" or not isinstance(fields, dict):
                    continue
                answer = read_answer(gate, fields)
                if answer is None:
                    continue
                await self._decide(asked.run_id, gate_id, answer, follow=False)
            is_decided = True
        if not is_decided and run["status"] == "waiting":
            return run, bad
        # With the answers, or because somebody else has decided meanwhile, the run goes on.
        return await self._go_on(asked.run_id), bad

    # The calling model's own word

    async def _judge(self, prefix: str, step_path: str | None, answer: Json) -> dict[str, Json]:
        """The run with one judgement gate answered by the calling model."""
        engine = self._agent.engine
        run_id = engine.find(prefix)
        gate = judgement_gate(engine.get(run_id).state, step_path)
        return await self._decide(run_id, gate.gate_id, Answer("respond", answer), is_person=False)

    # Small things

    @property
    def _arguments(self) -> Json:
        return self._params.get("arguments") or {}

    def _left_ms(self) -> int:
        return max(0, round((self._deadline - time.monotonic()) * 1000))

    def _look(self, run_id: str) -> dict[str, Json]:
        snapshot = self._agent.engine.get(run_id)
        return run_result(snapshot, request_id=self._correlation.request_id)

    def _shown(self, output: dict[str, Json]) -> dict[str, Json]:
        may_elicit = self._calls.options.elicitation
        shown = without_authority(output, self._agent.root, may_elicit=may_elicit)
        return tool_result(shown, self._correlation)

    def _asker(self, actor_type: str, actor_id: str) -> Asker:
        ids = self._correlation
        return Asker(ids.request_id, ids.correlation_id, ids.causation_id, actor_type, actor_id)

    def _call(self) -> Call:
        return Call(
            self._agent,
            self._correlation,
            actor_type="agent",
            actor_id=self._caller.client,
            caller=self._caller.channel,
            channel=self._caller.channel,
        )


def _nothing() -> None:
    pass


_DECIDED_MEANWHILE = ("run.conflict", "gate.closed")
"""While the model was being asked, somebody else answered, or the run was cancelled."""


def _form_request(question: Question) -> dict[str, Json]:
    return {
        "method": "elicitation/create",
        "params": {
            "mode": "form",
            "message": question.message,
            "requestedSchema": question.schema,
        },
    }


def _checked(name: str, arguments: dict[str, Json]) -> dict[str, Json]:
    """The arguments as the tool takes them, without what only stands for a default.

    Raises:
        RequestError: `tool.invalid_input`, listing every field that does not fit.
    """
    model = MCP_INPUTS.get(name)
    if model is None:
        return arguments
    from pydantic import ValidationError

    try:
        parsed = model.model_validate(arguments)
    except ValidationError as error:
        raise invalid_params(error, code="tool.invalid_input") from None
    return parsed.model_dump(exclude_none=True)
