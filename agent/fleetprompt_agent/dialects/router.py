"""The router dialect (protocol.md §4): a host that calls the agent's tools by `core.tool.call`."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.agent import AGENT_ID
from fleetprompt_agent.engine.fitting import RESULT_BYTES
from fleetprompt_agent.tools.registry import TOOLS, Call, call_tool, find_tool
from fleetprompt_protocol.errors import FleetPromptError, ProtocolError, RequestError
from fleetprompt_protocol.ids import new_id
from fleetprompt_protocol.log import bound, get_logger
from fleetprompt_protocol.meta import meta_from, meta_json
from fleetprompt_protocol.peer import MARK_BYTES
from fleetprompt_protocol.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.dialects.downstream import Downstream
    from fleetprompt_agent.dialects.options import Options
    from fleetprompt_agent.dialects.workflow_tools import Workflows
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.tools.registry import Tool
    from fleetprompt_protocol.call import CallContext
    from fleetprompt_protocol.messages import ToolCall, Welcome
    from fleetprompt_protocol.peer import Peer

log = get_logger("router")

HELLO_TIMEOUT_S = 30.0
"""A host that gave a token answers `agent.hello` within this."""
DIRECTIVE_TIMEOUT_S = 600.0
"""A directive may be asked of a person."""
CAPABILITIES = [
    "streaming", "cancellation", "directives", "downstream_calls", "signals", "workflow_signals",
]  # fmt: skip
"""What the hello offers; a host asks for `workflow_signals` by naming it in its welcome."""
_MINIMAL = ("protocol.method_not_found",)


class RouterDialect:
    """The agent's side of a router session.

    Args:
        agent: What the tools act on.
        check_ready: Raises while the session does not serve yet.
        options: What the host is offered.
    """

    def __init__(
        self, agent: Agent, check_ready: Callable[[], None], options: Options | None = None
    ) -> None:
        self._agent = agent
        self._workflows: Workflows | None = None
        """Those that are tools of their own; None when there are no such tools."""
        if options is not None and options.workflow_tools:
            from fleetprompt_agent.dialects.workflow_tools import Workflows

            self._workflows = Workflows(agent)
        self._offered: dict[str, dict[str, Any]] = {}
        """The workflow tools that the host knows of, by id."""
        self._check_ready = check_ready
        self._calls: dict[str, _OpenCall] = {}
        self._directives: dict[str, tuple[str, str | None]] = {}
        """Granted by this session: directive id to plan digest and expiry."""
        self._calls_of_runs: dict[str, str] = {}
        """The call that a run belongs to while the call lasts, by run id."""
        self._downstream: Downstream | None = None
        self._began = time.monotonic()
        self._peer: Peer | None = None
        self.welcome: Welcome | None = None

    @property
    def methods(self) -> dict[str, Any]:
        """Handlers of the requests that a host sends."""
        return {"core.tool.call": self._tool_call, "core.ping": self._ping}

    @property
    def inline(self) -> dict[str, Any]:
        """What is answered in the reader, in order."""
        return {"core.tool.cancel": self._tool_cancel, "core.tool.stream": self._take_chunk}

    # The handshake

    async def hello(self, peer: Peer, token: str | None) -> None:
        """Introduce the agent, and heed the welcome.

        Raises:
            FleetPromptError: the host does not want this agent (`protocol.unauthorized`,
                `protocol.unsupported_version`), or did not answer.
        """
        from fleetprompt_protocol.messages import PROTOCOL_VERSIONS, Welcome

        params: dict[str, Any] = {
            "agent_id": AGENT_ID,
            "agent_version": __version__,
            "protocol": {
                "supported_versions": list(PROTOCOL_VERSIONS),
                "capabilities": CAPABILITIES,
            },
            "sdk": {"name": "fleetprompt", "version": __version__},
        }
        if token is not None:
            params["session_token"] = token
        answer = await peer.request("agent.hello", params, timeout_s=HELLO_TIMEOUT_S)
        welcome = Welcome.parse_answer(answer, "agent.hello")
        if welcome.accepted_version not in PROTOCOL_VERSIONS:
            raise ProtocolError(
                "protocol.unsupported_version",
                f"The host speaks version {welcome.accepted_version[:40]}; this agent speaks "
                f"{', '.join(PROTOCOL_VERSIONS)}.",
            )
        peer.max_send_bytes = welcome.max_frame_bytes
        self.welcome = welcome
        self._peer = peer

    async def serve(self, peer: Peer) -> None:
        """Offer the tools, then send heartbeats, for as long as the session lasts."""
        from fleetprompt_agent.dialects.downstream import Downstream

        self._downstream = self._agent.route = Downstream(peer, self._calls_of_runs.get)
        await self._register(peer)
        welcome = self.welcome
        if welcome is None:
            return
        from fleetprompt_agent.dialects.signals import WATCH_CAPABILITY, RunSignals

        self._agent.observe_runs(RunSignals(peer))
        watching = None
        is_told = WATCH_CAPABILITY in welcome.capabilities
        if is_told or self._workflows is not None:
            watching = asyncio.ensure_future(self._follow_workflows(peer, is_told=is_told))
        try:
            while not peer.is_ended:
                await asyncio.sleep(welcome.heartbeat_interval_ms / 1000)
                heartbeat = self._heartbeat(peer, welcome.session_id)
                peer.notify("agent.heartbeat", heartbeat, coalesce_key="agent.heartbeat")
        finally:
            if watching is not None:
                watching.cancel()

    async def _register(self, peer: Peer) -> None:
        # Compiling hundreds of workflows takes seconds, in which others are to be answered.
        self._offered = await asyncio.to_thread(self._workflow_descriptions)
        tools = [*_descriptions(), *self._offered.values()]
        await self._tell_of_tools(peer, "register", {"tools": tools, "replace": True})

    async def _tell_of_tools(self, peer: Peer, what: str, params: dict[str, Any]) -> None:
        from fleetprompt_protocol.messages import Registered

        try:
            answer = await peer.request(f"agent.tools.{what}", params)
            rejected = Registered.parse_answer(answer, f"agent.tools.{what}").rejected
        except FleetPromptError as error:
            if error.code not in _MINIMAL:
                log.warning(f"router.not_{what}ed", code=error.code, message=error.message)
            return
        for tool in rejected:
            log.warning("router.tool_rejected", tool_id=tool.tool_id, code=tool.error.code)

    async def _follow_workflows(self, peer: Peer, *, is_told: bool) -> None:
        """Keep the host's knowledge of workflow files and their tools up to date."""
        from fleetprompt_agent.dialects.changes import workflow_changes
        from fleetprompt_agent.dialects.signals import tell_of_workflows

        chain = new_id()
        try:
            async for changes in workflow_changes(self._agent):
                if is_told:
                    tell_of_workflows(changes, peer, chain)
                await self._offer_again(peer)
                await peer.writable()
        except Exception as fault:
            log.error("router.not_following", exc_info=fault)

    async def _offer_again(self, peer: Peer) -> None:
        """Register the workflow tools that are new or changed, and withdraw those that are gone."""
        now = await asyncio.to_thread(self._workflow_descriptions)
        offered, self._offered = self._offered, now
        new = [tool for name, tool in self._offered.items() if offered.get(name) != tool]
        gone = [tool_id for tool_id in offered if tool_id not in self._offered]
        if gone:
            await self._tell_of_tools(peer, "unregister", {"tool_ids": gone})
        if new:
            await self._tell_of_tools(peer, "register", {"tools": new})

    def _workflow_descriptions(self) -> dict[str, dict[str, Any]]:
        if self._workflows is None:
            return {}
        from fleetprompt_agent.dialects.workflow_tools import (
            MAX_ROUTER_TOOLS,
            inputs_schema,
            tool_description,
        )
        from fleetprompt_agent.engine.core.decide import effects_of

        return {
            f"{AGENT_ID}/{name}": _description(
                name,
                tool_description(plan),
                inputs_schema(plan),
                capabilities=["streaming", "cancellation"],
                side_effects=bool(effects_of(plan)),
            )
            for name, plan in self._workflows.tools(MAX_ROUTER_TOOLS).items()
        }

    def _workflow_of(self, name: str) -> str | None:
        """The path of the workflow whose tool this is; None for every other name."""
        if self._workflows is None or name in TOOLS:
            return None
        from fleetprompt_agent.dialects.workflow_tools import MAX_ROUTER_TOOLS

        plan = self._workflows.tools(MAX_ROUTER_TOOLS).get(name)
        return None if plan is None else plan.file_path

    def _heartbeat(self, peer: Peer, session_id: str) -> dict[str, Any]:
        agent = self._agent
        details = {
            "active_runs": agent.engine.active_count if agent.has_engine else 0,
            "downstream_calls": self._downstream.in_flight if self._downstream is not None else 0,
            "queued_bytes": peer.queued_bytes,
        }
        status = "ok"
        if peer.queued_bytes > MARK_BYTES:
            status = "degraded"  # runs pause until the host has taken what waits
        if not agent.can_run_programs:
            status = "unhealthy"
        return {
            "session_id": session_id,
            "uptime_ms": round((time.monotonic() - self._began) * 1000),
            "inflight_calls": len(self._calls),
            "status": status,
            "details": details,
        }

    def goodbye(self, reason: str) -> None:
        """Tell the host, if one has welcomed this agent, that the session ends in good order."""
        if self._peer is not None:
            self._peer.notify("core.goodbye", {"reason": reason})

    # What the host asks

    async def _ping(self, context: CallContext, /, params: dict[str, Any]) -> dict[str, Any]:
        del context
        meta = meta_from(params.get("meta"))
        return {"ts": _now(), "meta": meta_json(meta.correlation)}

    async def _tool_call(self, context: CallContext, /, params: dict[str, Any]) -> dict[str, Any]:
        from fleetprompt_protocol.messages import ToolCall as Envelope

        self._check_ready()
        envelope = Envelope.parse(params)
        agent_id, _, name = envelope.tool_id.rpartition("/")
        if agent_id not in ("", AGENT_ID):
            raise RequestError(
                "tool.not_found", f"This agent is {AGENT_ID}; {agent_id[:80]} is another."
            )
        workflow = self._workflow_of(name)
        tool = find_tool(name if workflow is None else "fp_run_workflow")
        if envelope.call_id in self._calls:
            raise ProtocolError(
                "protocol.duplicate_id",
                f"A call with the id {envelope.call_id} is in flight.",
                rpc_code=-32600,
            )
        self._calls[envelope.call_id] = _OpenCall(context)
        try:
            given = dict(envelope.input)
            if workflow is not None:
                given = {"workflow": workflow, "inputs": given}
            return await self._answer(context, tool, envelope, given, params.get("meta"))
        finally:
            del self._calls[envelope.call_id]
            for run_id, call_id in list(self._calls_of_runs.items()):
                if call_id == envelope.call_id:
                    del self._calls_of_runs[run_id]

    async def _answer(
        self,
        context: CallContext,
        tool: Tool,
        envelope: ToolCall,
        given: dict[str, Any],
        raw_meta: object,
    ) -> dict[str, Any]:
        meta = meta_from(raw_meta)
        began, started_at = time.perf_counter(), _now()
        call = Call(
            self._agent,
            meta.correlation,
            actor_type=meta.actor.type if meta.actor is not None else "agent",
            actor_id=meta.actor.id if meta.actor is not None else None,
            caller=_caller(envelope.caller),
            channel="host",
            intent=self._intent_of(envelope),
            result_bytes=min(RESULT_BYTES, context.peer.max_send_bytes // 2),
        )
        if envelope.idempotency_key is not None and tool.name == "fp_run_workflow":
            given.setdefault("idempotency_key", envelope.idempotency_key)
        stream = None
        if tool.streaming:
            from fleetprompt_agent.dialects.stream import CallStream

            stream = CallStream(
                context,
                envelope.call_id,
                meta.correlation,
                on_run=lambda run_id: self._calls_of_runs.update({run_id: envelope.call_id}),
            )
            call.listener = stream
            if envelope.timeout_ms is not None:
                asked = given.get("wait_ms")
                limit = envelope.timeout_ms
                given["wait_ms"] = min(asked, limit) if isinstance(asked, int) else limit
        if tool.cancellation:
            call.on_cancel = self._calls[envelope.call_id].cancelled_by(call)
        answer: dict[str, Any] = {"call_id": envelope.call_id, "status": "succeeded"}
        try:
            self._agent.check_root(envelope.context.project_root)
            for path in envelope.context.resource_paths:
                self._agent.check_root(str(self._agent.root / path))
            limit_s = None
            if envelope.timeout_ms is not None and not tool.streaming:
                limit_s = envelope.timeout_ms / 1000
            with bound(meta.correlation):
                async with asyncio.timeout(limit_s):
                    output = await call_tool(tool, call, given)
        except TimeoutError:
            answer |= _failed("tool.timeout", f"{tool.name} took longer than its time.")
        except FleetPromptError as error:
            answer |= {"status": "failed", "error": error.to_data()}
        else:
            if stream is not None:
                stream.finish(output)
            answer |= {"status": _status(output), "output": output}
            if "error" in output and answer["status"] != "succeeded":
                answer["error"] = output["error"]
            elif _is_out_of_time(envelope, given, output):
                answer |= _failed(
                    "tool.timeout",
                    f"The call's time is up; run {output['run_id']} goes on. "
                    "Ask fp_get_run how it stands.",
                )
        answer |= {
            "started_at": started_at,
            "finished_at": _now(),
            "metrics": {"duration_ms": round((time.perf_counter() - began) * 1000, 3)},
            "meta": meta_json(meta.correlation),
        }
        return answer

    def _tool_cancel(self, params: dict[str, Any]) -> dict[str, Any]:
        from fleetprompt_protocol.messages import CancelTool

        cancel = CancelTool.parse(params)
        open_call = self._calls.get(cancel.call_id)
        if open_call is None:
            return {
                "call_id": cancel.call_id,
                "accepted": False,
                "note": "No call with this id is in flight.",
            }
        accepted = open_call.cancel(cancel.reason)
        if cancel.deadline_ms is not None:
            asyncio.get_running_loop().call_later(cancel.deadline_ms / 1000, open_call.hurry)
        return {"call_id": cancel.call_id, "accepted": accepted}

    def _take_chunk(self, params: dict[str, Any]) -> None:
        if self._downstream is not None:
            self._downstream.take_chunk(params)

    # What the agent asks

    def _intent_of(self, envelope: ToolCall) -> Any:
        async def intent(plan: Plan) -> str | None:
            given = envelope.context.directive_id
            digest, expires_at = self._directives.get(given or "", (None, None))
            if digest == plan.digest and not _is_past(expires_at):
                return f"directive:{given}"
            return await self._request_directive(plan, envelope)

        return intent

    async def _request_directive(self, plan: Plan, envelope: ToolCall) -> str | None:
        """A directive of the host for this very plan, or None: the run then opens a gate."""
        from fleetprompt_agent.engine.core.decide import effects_of
        from fleetprompt_protocol.messages import Directive

        effects = effects_of(plan)
        if self._peer is None or not effects:
            return None
        request: dict[str, Any] = {
            "action": f"run workflow {plan.workflow_id}",
            "reason": f"call {envelope.call_id}",
            "side_effects": effects,
            "plan_digest": plan.digest,
        }
        if envelope.meta is not None:
            request["meta"] = envelope.meta.to_json()
        try:
            answer = await self._peer.request(
                "agent.directive.request", request, timeout_s=DIRECTIVE_TIMEOUT_S
            )
            directive = Directive.parse_answer(answer, "agent.directive.request")
        except FleetPromptError as error:
            if error.code not in _MINIMAL:
                log.warning("router.no_directive", code=error.code, message=error.message)
            return None
        if not directive.granted or directive.directive_id is None:
            return None
        if _is_past(directive.expires_at):
            log.warning("router.directive_expired", expires_at=directive.expires_at)
            return None
        self._directives[directive.directive_id] = plan.digest, directive.expires_at
        return f"directive:{directive.directive_id}"


class _OpenCall:
    """A call of the host's that is in flight."""

    def __init__(self, context: CallContext) -> None:
        self._context = context
        self._call: Call | None = None
        self._cancels: list[Callable[[], None]] = []

    def cancelled_by(self, call: Call) -> Callable[[Callable[[], None]], None]:
        """Gives `Call.on_cancel` for what the tool does when it is cancelled."""
        self._call = call

        def register(cancel: Callable[[], None]) -> None:
            self._cancels.append(cancel)
            self._context.on_cancel(cancel)

        return register

    def cancel(self, reason: str | None) -> bool:
        """Whether the call was cancelled by this."""
        if self._call is not None and reason:
            self._call.cancel_reason = reason
        return self._context.cancel()

    def hurry(self) -> None:
        """The time for an orderly end is over: a run that is cancelled twice ends its `finally`."""
        if not self._context.is_answered:
            for cancel in self._cancels:
                cancel()


def _is_past(instant: str | None) -> bool:
    """Whether a directive's expiry is over; one that cannot be read is."""
    if instant is None:
        return False
    try:
        at = datetime.fromisoformat(instant)
    except ValueError:
        return True
    return at.tzinfo is None or at <= datetime.now(UTC)


def _caller(caller: dict[str, Any] | None) -> str | None:
    from fleetprompt_agent.language.plan import canonical_json

    return None if caller is None else canonical_json(caller)


def _failed(code: str, message: str) -> dict[str, Any]:
    return {
        "status": "failed",
        "error": {"code": code, "message": message, "retryable": True},
    }


def _status(output: dict[str, Any]) -> str:
    """A run that waits or still runs is a call that succeeded; its output says so."""
    run_status = output.get("status") if "run_id" in output and "steps" in output else None
    if run_status == "failed":
        return "failed"
    return "canceled" if run_status == "canceled" else "succeeded"


def _is_out_of_time(envelope: ToolCall, given: dict[str, Any], output: dict[str, Any]) -> bool:
    return (
        envelope.timeout_ms is not None
        and given.get("wait_ms") == envelope.timeout_ms
        and output.get("status") == "running"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _descriptions() -> list[dict[str, Any]]:
    """The tools as they are registered with a host."""
    return [
        _description(
            tool.name,
            tool.description,
            tool.model().model_json_schema(),
            capabilities=[
                word
                for word, has in (
                    ("streaming", tool.streaming),
                    ("cancellation", tool.cancellation),
                )
                if has
            ],
            side_effects=bool(tool.side_effects),
        )
        for tool in TOOLS.values()
    ]


def _description(
    name: str,
    description: str,
    input_schema: dict[str, Any],
    *,
    capabilities: list[str],
    side_effects: bool,
) -> dict[str, Any]:
    return {
        "tool_id": f"{AGENT_ID}/{name}",
        "name": name,
        "description": description,
        "input_schema": input_schema,
        "capabilities": capabilities,
        "side_effects": side_effects,
        "requires_directive": False,
        "tags": ["workflow"],
    }
