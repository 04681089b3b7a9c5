"""The host's end of the router dialect with one agent (protocol.md §4).

The agent opens the session with `agent.hello`, proving by its token that it is the one that was
spawned. The session is ready when the agent has registered its tools, which it does only after it
has read the welcome: no call can overtake the handshake.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fleetprompt_protocol.errors import FleetPromptError, ProtocolError, RequestError
from fleetprompt_protocol.ids import Correlation, new_id
from fleetprompt_protocol.messages import (
    PROTOCOL_VERSIONS,
    CallScope,
    CancelAnswer,
    CancelTool,
    Directive,
    DirectiveRequest,
    DownstreamCall,
    ErrorInfo,
    Hello,
    Meta,
    Registered,
    RegisterTools,
    Rejection,
    ServerInfo,
    ToolCall,
    ToolDescription,
    ToolResult,
    ToolsFound,
    ToolsQuery,
    UnregisterTools,
    Welcome,
)
from fleetprompt_protocol.peer import Peer
from fleetprompt_protocol.rpc_error import from_rpc_error
from fleetprompt_protocol.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt.router import Router
    from fleetprompt_protocol.call import CallContext
    from fleetprompt_protocol.dispatch import Handler
    from fleetprompt_protocol.transport import Transport

HEARTBEAT_INTERVAL_MS = 15_000
"""Often enough to tell a frozen agent from a busy one, too seldom to be seen in a profile."""

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""The longest message that either side takes (protocol.md §1)."""

READY_TIMEOUT_S = 30.0
"""How long an agent may take to start; a hundred times what it takes on a slow machine."""

DIRECTIVE_S = 900
"""How long a granted directive holds: long enough for what was asked about, no standing permit."""

Json: TypeAlias = Any

ChunkListener: TypeAlias = Callable[[dict[str, Json]], None]
"""Told of each chunk of a call's stream, in order: `{call_id, seq, channel, data, done?}`."""

DirectiveDecider: TypeAlias = Callable[[DirectiveRequest], Awaitable[bool]]
"""Says whether the side effects that an agent asks a directive for are granted."""

SignalListener: TypeAlias = Callable[[dict[str, Json]], None]
"""Told of each `agent.signal`."""


@dataclass(frozen=True, slots=True)
class ToolOutcome:
    """The final result of a call: exactly one per call."""

    status: Literal["succeeded", "failed", "canceled"]
    output: Json
    """Kept when the call failed, too."""
    error: FleetPromptError | None
    """Why it failed or was cancelled."""
    started_at: str | None
    finished_at: str | None
    metrics: dict[str, Json]


@dataclass(slots=True)
class _OpenCall:
    listener: ChunkListener | None
    last_seq: int = 0
    fault: Exception | None = None
    """What the listener raised; it is raised again to the caller, not into the reader."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """What travels with a call beside its input."""

    project_root: str | None = None
    timeout_ms: int | None = None
    idempotency_key: str | None = None
    actor: dict[str, Json] | None = None
    """`{type: human|agent|system, id, display?}`: who asks; never a permission."""
    correlation: Correlation | None = None
    """The three ids; new ones unless given."""
    context: dict[str, Json] = field(default_factory=dict)
    """More of `core.tool.call`'s context: `directive_id`, `parent_call_id` …"""
    call_id: str | None = None
    """The call's id, by which it can be cancelled; a new one unless given."""


class Session:
    """One session with one agent, from its hello to its end.

    Args:
        transport: The pipes of the agent's process.
        token: What the agent must show in its hello; single use.
        decide_directive: Asked about side effects; without it every directive is denied.
        on_signal: Told of the agent's signals.
        router: Knows the agents whose tools this one may call; without it there are none.
        capabilities: What the welcome names beside the protocol itself: `workflow_signals`.
    """

    def __init__(
        self,
        transport: Transport,
        token: str,
        *,
        decide_directive: DirectiveDecider | None = None,
        on_signal: SignalListener | None = None,
        router: Router | None = None,
        capabilities: Sequence[str] = (),
    ) -> None:
        self.agent_id = ""
        """Who the agent says it is; its tools are `<agent_id>/<name>`."""
        self.session_id = new_id()
        """The id that the welcome gives to the agent."""
        self.tools: dict[str, ToolDescription] = {}
        """What the agent has registered, by tool id."""
        self.last_heartbeat: dict[str, Json] | None = None
        """The params of the latest `agent.heartbeat`."""
        self.last_heard_s = time.monotonic()
        """When the latest heartbeat came, on the monotonic clock."""
        self.goodbye_reason: str | None = None
        """Why the agent ends the session, once it has said so."""
        self._router = router
        self._capabilities = list(capabilities)
        self._token = token
        self._is_greeted = False
        self._decide_directive = decide_directive
        self._on_signal = on_signal
        self._calls: dict[str, _OpenCall] = {}
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._running: asyncio.Task[str] | None = None
        # Inline methods are answered in the reader, in order, and without the dispatch library,
        # whose import takes longer than a short run.
        methods: dict[str, Handler] = {}
        inline: dict[str, Callable[[dict[str, Json]], Json]] = {
            "agent.hello": self._hello,
            "agent.tools.register": self._register,
            "agent.tools.unregister": self._unregister,
            "agent.tools.query": self._query,
            "agent.tool.cancel": self._tool_canceled,
            "core.ping": lambda _: {"ts": _now()},
        }
        if decide_directive is not None:
            methods["agent.directive.request"] = self._directive_requested
        else:
            inline["agent.directive.request"] = self._directive_denied
        if router is not None:
            methods["agent.tool.call"] = self._tool_routed
        else:
            inline["agent.tool.call"] = self._tool_called
        self._peer = Peer(
            transport,
            methods,
            inline=inline,
            on_notification=self._notified,
            framing="newline",
            max_frame_bytes=MAX_FRAME_BYTES,
        )

    async def open(self) -> None:
        """Serve the agent from now on; returns when it is ready to be called.

        Raises:
            ProtocolError: the handshake failed, the agent ended, or it took too long.
        """
        self._running = asyncio.create_task(self._peer.run(), name="session")
        self._running.add_done_callback(self._ended)
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                await self._ready
        except TimeoutError:
            raise ProtocolError(
                "protocol.timeout",
                f"The agent did not finish its handshake within {READY_TIMEOUT_S:g} s.",
            ) from None

    async def call(
        self,
        tool: str,
        given: dict[str, Json],
        options: CallOptions,
        on_chunk: ChunkListener | None = None,
    ) -> ToolOutcome:
        """The final result of a tool of the agent, after all chunks of its stream.

        Args:
            tool: The tool's id, or its name alone.
            given: Its input.
            options: What travels with it.
            on_chunk: Told of each chunk; without it no stream is asked for.

        Raises:
            FleetPromptError: the call could not be made, or the agent went away.
        """
        call_id = options.call_id or new_id()
        tool_id = tool if "/" in tool else f"{self.agent_id}/{tool}"
        open_call = self._calls[call_id] = _OpenCall(on_chunk)
        params = _call_params(call_id, tool_id, given, options, is_streamed=on_chunk is not None)
        try:
            result = await self._peer.request("core.tool.call", params, send_cancel=False)
        finally:
            del self._calls[call_id]
        if open_call.fault is not None:
            raise open_call.fault
        return _outcome(result)

    async def cancel_calls(self, reason: str) -> int:
        """Ask the agent to cancel every call in flight; gives how many it accepted."""
        asked = [
            self._peer.request("core.tool.cancel", {"call_id": call_id, "reason": reason})
            for call_id in self._calls
        ]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        return sum(isinstance(item, dict) and item.get("accepted") is True for item in answers)

    def cancel_call(self, call_id: str, reason: str) -> None:
        """Ask the agent to cancel one call, without waiting; its result still comes."""
        self._peer.notify("core.tool.cancel", {"call_id": call_id, "reason": reason})

    def goodbye(self, reason: str) -> None:
        """Tell the agent that the session ends in good order."""
        self._peer.notify("core.goodbye", {"reason": reason})

    async def ended(self) -> str:
        """Wait for the end of the session; gives why it ended, as the peer says."""
        assert self._running is not None  # noqa: S101  # open() has started it
        return await asyncio.shield(self._running)

    async def close(self) -> None:
        """End the session: what is queued goes out, then the pipes are closed."""
        await self._peer.close()

    # What the agent sends

    def _hello(self, params: dict[str, Json]) -> Json:
        try:
            return self._welcome(Hello.parse(params)).to_json()
        except FleetPromptError as error:
            if self._ready.done():
                self._peer.end()
            else:
                self._ready.set_exception(error)
            raise

    def _welcome(self, hello: Hello) -> Welcome:
        shown = (hello.session_token or "").encode("utf-8", "replace")
        if not hmac.compare_digest(shown, self._token.encode()) or self._is_greeted:
            raise ProtocolError(
                "protocol.unauthorized", "The session token is wrong or was used before."
            )
        version = next(
            (item for item in PROTOCOL_VERSIONS if item in hello.protocol.supported_versions), None
        )
        if version is None:
            raise ProtocolError(
                "protocol.unsupported_version",
                f"The host speaks version {', '.join(PROTOCOL_VERSIONS)} of the protocol; "
                f"the agent {', '.join(hello.protocol.supported_versions)}.",
            )
        self.agent_id = hello.agent_id
        if self._router is not None:
            self._router.attach(self)
        self._is_greeted = True
        return Welcome(
            accepted_version=version,
            session_id=self.session_id,
            heartbeat_interval_ms=HEARTBEAT_INTERVAL_MS,
            max_frame_bytes=MAX_FRAME_BYTES,
            server=ServerInfo(core_version=__version__, instance_id=_INSTANCE_ID),
            capabilities=self._capabilities,
        )

    def _check_greeted(self) -> None:
        if not self._is_greeted:
            raise ProtocolError("protocol.not_ready", "Say agent.hello first.")

    def _register(self, params: dict[str, Json]) -> Json:
        self._check_greeted()
        given = RegisterTools.parse(params)
        if given.replace:
            self.tools.clear()
        rejected: list[Rejection] = []
        for tool in given.tools:
            agent_id, _, name = tool.tool_id.rpartition("/")
            if agent_id == self.agent_id and name:
                self.tools[tool.tool_id] = tool
            else:
                error = RequestError(
                    "tool.denied", f"A tool of this agent is {self.agent_id}/<name>."
                )
                rejected.append(
                    Rejection(tool_id=tool.tool_id, error=ErrorInfo.parse(error.to_data()))
                )
        if not self._ready.done():
            self._ready.set_result(None)
        return Registered(registered=list(self.tools), rejected=rejected).to_json()

    def _unregister(self, params: dict[str, Json]) -> Json:
        self._check_greeted()
        for tool_id in UnregisterTools.parse(params).tool_ids:
            self.tools.pop(tool_id, None)
        return Registered(registered=list(self.tools)).to_json()

    def _query(self, params: dict[str, Json]) -> Json:
        self._check_greeted()
        query = ToolsQuery.parse(params)
        found = [] if self._router is None else self._router.tools_for(self, query)
        return ToolsFound(tools=found).to_json()

    def _tool_called(self, params: dict[str, Json]) -> Json:
        self._check_greeted()
        call = DownstreamCall.parse(params)
        raise RequestError("tool.not_found", f"This host offers agents no tool `{call.tool_id}`.")

    async def _tool_routed(self, context: CallContext, params: dict[str, Json]) -> Json:
        self._check_greeted()
        call = DownstreamCall.parse(params)
        assert self._router is not None  # noqa: S101  # else the method is not served
        return await self._router.call(self, call, context)

    def _tool_canceled(self, params: dict[str, Json]) -> Json:
        self._check_greeted()
        cancel = CancelTool.parse(params)
        accepted = self._router is not None and self._router.cancel(
            self, cancel.call_id, cancel.reason or "the caller gave it up"
        )
        return CancelAnswer(call_id=cancel.call_id, accepted=accepted).to_json()

    def _directive_denied(self, params: dict[str, Json]) -> Json:
        self._check_greeted()
        DirectiveRequest.parse(params)
        return Directive(granted=False, reason="Nobody is there to ask.").to_json()

    async def _directive_requested(self, context: CallContext, params: dict[str, Json]) -> Json:  # noqa: ARG002  # a handler's shape
        self._check_greeted()
        request = DirectiveRequest.parse(params)
        if self._decide_directive is None or not await self._decide_directive(request):
            return Directive(granted=False, reason="The host's user said no.").to_json()
        until = datetime.now(UTC) + timedelta(seconds=DIRECTIVE_S)
        return Directive(
            directive_id=new_id(), granted=True, expires_at=until.isoformat(timespec="milliseconds")
        ).to_json()

    def _notified(self, method: str, params: dict[str, Json]) -> None:
        if not self._is_greeted:
            return
        match method:
            case "agent.tool.stream":
                self._streamed(params)
            case "agent.heartbeat":
                self.last_heartbeat = params
                self.last_heard_s = time.monotonic()
            case "core.goodbye":
                reason = params.get("reason")
                self.goodbye_reason = reason if isinstance(reason, str) else ""
            case "agent.signal" if self._on_signal is not None:
                self._on_signal(params)
            case _:
                pass

    def _streamed(self, params: dict[str, Json]) -> None:
        call_id, seq = params.get("call_id"), params.get("seq")
        call = self._calls.get(call_id) if isinstance(call_id, str) else None
        if call is None or call.listener is None or not isinstance(seq, int):
            return
        if seq <= call.last_seq:
            return
        call.last_seq = seq
        if call.fault is None:
            try:
                call.listener(params)
            except Exception as error:  # noqa: BLE001  # the caller's own, raised when its call ends
                call.fault = error

    def _ended(self, task: asyncio.Task[str]) -> None:
        if self._router is not None and self._is_greeted:
            self._router.detach(self)
        error = None if task.cancelled() else task.exception()
        if not self._ready.done():
            self._ready.set_exception(
                ProtocolError("protocol.closed", "The agent ended before it was ready.")
            )
            self._ready.exception()  # whoever waits sees it; nobody must
        if error is not None:
            raise error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_INSTANCE_ID = new_id()
"""This process, in every welcome that it gives."""


def _call_params(
    call_id: str, tool_id: str, given: dict[str, Json], options: CallOptions, *, is_streamed: bool
) -> dict[str, Json]:
    ids = options.correlation or Correlation(new_id(), new_id())
    meta = {
        "ts": _now(),
        "request_id": ids.request_id,
        "correlation_id": ids.correlation_id,
        "causation_id": ids.causation_id or call_id,
        "actor": options.actor,
        "stream": is_streamed,
    }
    call = ToolCall(
        call_id=call_id,
        tool_id=tool_id,
        input=given,
        timeout_ms=options.timeout_ms,
        idempotency_key=options.idempotency_key,
        caller=options.actor,
        context=CallScope.parse({"project_root": options.project_root, **options.context}),
        meta=Meta.parse(meta),
    )
    return call.to_json() | {"input": given}


def _outcome(result: Json) -> ToolOutcome:
    answer = ToolResult.parse_answer(result, "core.tool.call")
    return ToolOutcome(
        status=answer.status,
        output=answer.output,
        error=None if answer.error is None else from_rpc_error({"data": answer.error.to_json()}),
        started_at=answer.started_at,
        finished_at=answer.finished_at,
        metrics=answer.metrics or {},
    )
