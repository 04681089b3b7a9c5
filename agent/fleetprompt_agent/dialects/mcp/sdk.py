"""The MCP SDK's low-level server around our surface: the one file that imports the SDK.

It is imported when the stream is known to be MCP, and not before: the import is most of the cold
start. Nothing of a handler's exception passes: what is not a `FleetPromptError` is logged under a
reference, and the client gets the reference.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from fleetprompt_agent.dialects.mcp.import_cost import cheaper_import

with cheaper_import():
    import anyio
    import mcp_types as types
    from mcp.server.caching import CacheHint
    from mcp.server.lowlevel import NotificationOptions, Server
    from mcp.server.subscriptions import (
        InMemorySubscriptionBus,
        ListenHandler,
        PromptsListChanged,
        ResourcesListChanged,
        ToolsListChanged,
    )
    from mcp.shared.exceptions import MCPError
    from mcp.shared.message import ServerMessageMetadata, SessionMessage
    from mcp_types.version import MODERN_PROTOCOL_VERSIONS
    from pydantic import BaseModel, ValidationError

from fleetprompt_agent.dialects.mcp.caller import Caller, client_name
from fleetprompt_agent.dialects.mcp.changes import Changes
from fleetprompt_agent.dialects.mcp.results import shown_error
from fleetprompt_agent.dialects.mcp.surface import INSTRUCTIONS
from fleetprompt_protocol.errors import FleetPromptError, ProtocolError
from fleetprompt_protocol.log import get_logger
from fleetprompt_protocol.rpc_error import internal_error, invalid_params, new_ref
from fleetprompt_protocol.version import __version__

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from typing import Self

    from mcp.server.context import ServerRequestContext
    from mcp.server.session import ServerSession

    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.dialects.mcp.connection import McpConnection
    from fleetprompt_agent.dialects.mcp.surface import Surface
    from fleetprompt_agent.dialects.options import Options

    Context = ServerRequestContext[Any, Any]
    Handler = Callable[[Caller, dict[str, Any]], Awaitable[dict[str, Any]]]

log = get_logger("mcp")

_Answer = TypeVar("_Answer", bound=BaseModel)

SERVER_NAME = "fleetprompt"

_NOT_FOUND = ("workflow.not_found", "run.not_found")
_FRESH_MS = {
    "tools/list": 60_000,
    "prompts/list": 10_000,
    "resources/list": 0,
    "resources/templates/list": 60_000,
    "resources/read": 0,
}
"""How long a client of the stateless era may keep an answer; runs change all the time."""

_INBOX = 16
"""Messages that wait for the SDK's reader."""


class McpServer:
    """The server for one connection.

    Args:
        agent: What the tools act on.
        options: What the client is shown.
        surface: What answers.
    """

    def __init__(self, agent: Agent, options: Options, surface: Surface) -> None:
        self._options = options
        self._surface = surface
        self._bus = InMemorySubscriptionBus()
        self._listen = ListenHandler(self._bus)
        self._session: ServerSession | None = None
        """Of a connection of the handshake era: the way to tell it of changes."""
        self._changes = Changes(agent, self.tell_of_changes)
        self._params_types: dict[str, type[BaseModel]] = {}
        """Of the methods that our surface answers."""
        self._send, self._receive = anyio.create_memory_object_stream[SessionMessage | Exception](
            _INBOX
        )
        self.server = self._build()
        """The SDK's server; also served over HTTP, by the conformance tests."""
        _log_through_ours()

    def _build(self) -> Server[Any]:
        server: Server[Any] = Server(
            SERVER_NAME,
            version=__version__,
            title="FleetPrompt",
            instructions=INSTRUCTIONS,
            cache_hints={
                method: CacheHint(ttl_ms=ms)  # type: ignore[misc]  # the keys are a Literal there
                for method, ms in _FRESH_MS.items()
            },
        )
        surface = self._surface
        methods: tuple[tuple[str, type[BaseModel], Handler, bool], ...] = (
            ("tools/list", types.PaginatedRequestParams, surface.list_tools,
             self._options.workflow_tools),
            ("tools/call", types.CallToolRequestParams, surface.call_tool, False),
            ("prompts/list", types.PaginatedRequestParams, surface.list_prompts, True),
            ("prompts/get", types.GetPromptRequestParams, surface.get_prompt, False),
            ("resources/list", types.PaginatedRequestParams, surface.list_resources, True),
            ("resources/templates/list", types.PaginatedRequestParams, surface.list_templates,
             False),
            ("resources/read", types.ReadResourceRequestParams, surface.read_resource, False),
            ("completion/complete", types.CompleteRequestParams, surface.complete, False),
        )  # fmt: skip
        for method, params_type, handler, is_watched in methods:
            self._params_types[method] = params_type
            server.add_request_handler(method, params_type, self._wrapped(handler, is_watched))
        server.add_request_handler(
            "subscriptions/listen", types.SubscriptionsListenRequestParams, self._serve_listen
        )
        return server

    # Serving

    async def serve(self, connection: McpConnection) -> None:
        """Serve the connection until its end was said with `close`."""
        options = self.server.create_initialization_options(
            NotificationOptions(
                prompts_changed=True,
                resources_changed=True,
                tools_changed=self._options.workflow_tools,
            )
        )
        await self.server.run(self._receive, _Outgoing(connection), options)

    async def take(self, message: dict[str, Any]) -> None:
        """Hand over a message from the client.

        Raises:
            FleetPromptError: it is none, or a request whose parameters have another shape. The SDK
                would say so without a word of which.
        """
        try:
            parsed = types.jsonrpc_message_adapter.validate_python(message, by_name=False)
        except ValidationError:
            raise ProtocolError(
                "protocol.invalid_request",
                "This is not a request of MCP. It must be a JSON-RPC 2.0 message.",
            ) from None
        params_type = self._params_types.get(message.get("method", ""))
        if params_type is not None:
            try:
                params_type.model_validate(message.get("params") or {}, by_name=False)
            except ValidationError as error:
                raise invalid_params(error) from None
        try:
            await self._send.send(SessionMessage(parsed))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            log.debug("mcp.late_message")

    async def close(self) -> None:
        """The client is gone, or is to be left."""
        await self._changes.stop()
        self._send.close()

    # One request

    def _wrapped(self, handler: Handler, is_watched: bool) -> Any:
        """The handler as the SDK calls it.

        Args:
            handler: Takes and gives JSON, as it stands on the wire.
            is_watched: Whether clients want to hear when the answer would be another one.
        """

        async def handle(context: Context, params: BaseModel) -> dict[str, Any]:
            if context.protocol_version not in MODERN_PROTOCOL_VERSIONS:
                self._session = context.session
            try:
                given = params.model_dump(by_alias=True, mode="json", exclude_none=True)
                caller = _caller(context, may_elicit=self._options.elicitation)
                answer = await handler(caller, given)
            except FleetPromptError as error:
                raise _mcp_error(error, context.protocol_version) from None
            except MCPError:
                raise
            except Exception as fault:
                ref = new_ref()
                log.error("mcp.handler_failed", ref=ref, method=context.method, exc_info=fault)
                raise _mcp_error(internal_error(ref), context.protocol_version) from None
            if is_watched:
                self._changes.start()
            if context.protocol_version in MODERN_PROTOCOL_VERSIONS:
                answer.setdefault("resultType", "complete")
            return answer

        return handle

    async def _serve_listen(
        self, context: Context, params: types.SubscriptionsListenRequestParams
    ) -> types.SubscriptionsListenResult:
        self._changes.start()
        return await self._listen(context, params)

    async def tell_of_changes(self) -> None:
        """Workflow files have changed."""
        session = self._session
        if session is not None:
            if self._options.workflow_tools:
                await session.send_tool_list_changed()
            await session.send_prompt_list_changed()
            await session.send_resource_list_changed()
        if self._options.workflow_tools:
            await self._bus.publish(ToolsListChanged())
        await self._bus.publish(PromptsListChanged())
        await self._bus.publish(ResourcesListChanged())


class _Outgoing:
    """The SDK's write stream: its messages go to the connection's outbox."""

    def __init__(self, connection: McpConnection) -> None:
        self._connection = connection

    async def send(self, item: SessionMessage, /) -> None:
        await self._connection.send(
            item.message.model_dump(by_alias=True, mode="json", exclude_unset=True)
        )

    async def aclose(self) -> None:
        pass

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        pass


def _caller(context: Context, *, may_elicit: bool) -> Caller:
    session = context.session
    info = session.client_params.client_info if session.client_params is not None else None
    is_stateless = context.protocol_version in MODERN_PROTOCOL_VERSIONS
    capabilities = session.client_capabilities
    can_elicit = may_elicit and _shows_forms(capabilities)
    can_sample = capabilities is not None and capabilities.sampling is not None
    meta: dict[str, Any] = dict(context.meta or {})
    wants_progress = meta.get("progress_token", meta.get("progressToken")) is not None

    async def ask(
        request: types.ServerRequest, result_type: type[_Answer], timeout_s: float
    ) -> _Answer | None:
        try:
            return await session.send_request(
                request,
                result_type,
                request_read_timeout_seconds=timeout_s,
                metadata=ServerMessageMetadata(related_request_id=context.request_id),
            )
        except (MCPError, ValidationError) as error:
            log.info("mcp.no_answer", method=request.method, reason=type(error).__name__)
            return None

    async def elicit(
        message: str, schema: dict[str, Any], timeout_s: float
    ) -> dict[str, Any] | None:
        """What a person sent; None for every other end."""
        request = types.ElicitRequest(
            params=types.ElicitRequestFormParams(message=message, requested_schema=schema)
        )
        answer = await ask(request, types.ElicitResult, timeout_s)
        accepted = answer is not None and answer.action == "accept"
        return dict(answer.content or {}) if answer is not None and accepted else None

    async def sample(params: dict[str, Any], timeout_s: float) -> dict[str, Any] | None:
        """What a model gave; None for every other end."""
        asked = types.CreateMessageRequestParams.model_validate(params, by_name=False)
        request = types.CreateMessageRequest(params=asked)
        answer = await ask(request, types.CreateMessageResultWithTools, timeout_s)
        return None if answer is None else answer.model_dump(by_alias=True, mode="json")

    return Caller(
        era="stateless" if is_stateless else "handshake",
        client=client_name(info.name if info is not None else None),
        can_elicit=can_elicit,
        can_sample=can_sample,
        meta=meta,
        report=session.report_progress if wants_progress else None,
        elicit=elicit if can_elicit and not is_stateless else None,
        sample=sample if can_sample and not is_stateless else None,
    )


def _shows_forms(capabilities: types.ClientCapabilities | None) -> bool:
    """An empty capability means forms (2025-11-25, Elicitation)."""
    found = capabilities.elicitation if capabilities is not None else None
    return found is not None and (found.form is not None or found.url is None)


def _mcp_error(error: FleetPromptError, version: str) -> MCPError:
    """The error as a client of this version expects it."""
    number = error.rpc_code
    if number == -32000:
        number = types.INVALID_PARAMS
        if error.code in _NOT_FOUND and version not in MODERN_PROTOCOL_VERSIONS:
            number = -32002  # "resource not found" of the handshake era
    data = shown_error(error)
    if error.details is not None and "uri" in error.details:
        data["uri"] = error.details["uri"]  # where the stateless era looks for it
    return MCPError(code=number, message=data["message"], data=data)


class _SdkLog(logging.Handler):
    """What the SDK logs becomes lines of our own log; its texts never reach a client."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "error" if record.levelno >= logging.ERROR else "warning"
        fault = record.exc_info[1] if record.exc_info else None
        values = {} if fault is None else {"exc_info": fault}
        getattr(log, level)("mcp.sdk", text=record.getMessage(), **values)


def _log_through_ours() -> None:
    logger = logging.getLogger("mcp")
    if not any(isinstance(handler, _SdkLog) for handler in logger.handlers):
        logger.addHandler(_SdkLog(logging.WARNING))
        logger.propagate = False
