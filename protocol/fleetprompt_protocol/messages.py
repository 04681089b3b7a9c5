"""The messages of the router dialect, both ways (protocol.md §3 and §4), and the table of methods.

Envelopes are lenient: unknown fields are ignored. What is known must have its type: nothing is
converted. Importing this imports pydantic; the peer and the plain dialect do without.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetprompt_protocol.rpc_error import invalid_params

PROTOCOL_VERSIONS = ("1",)
"""The versions of the router protocol that this distribution speaks, the preferred one first."""

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]{1,128}$", description="An id.")]
ToolId = Annotated[str, Field(min_length=1, max_length=256, description="`agent/tool`.")]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(max_length=16_384)]
Millis = Annotated[int, Field(ge=0, le=10**12, description="Milliseconds.")]
Instant = Annotated[str, Field(max_length=64, description="RFC 3339, UTC.")]
JsonObject = dict[str, Any]

M = TypeVar("M", bound="Message")


class Message(BaseModel):
    """What every message has in common: lenient to unknown fields, strict about types."""

    # Each validator is built when first used: building all of them costs 100 ms.
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, defer_build=True)

    @classmethod
    def parse(cls, params: object) -> Self:
        """The message that the params hold.

        Raises:
            RequestError: `protocol.invalid_params`, naming every field that is wrong.
        """
        try:
            return cls.model_validate(params)
        except ValidationError as exc:
            raise invalid_params(exc) from None

    def to_json(self) -> JsonObject:
        """As it travels: without what is not set."""
        return self.model_dump(mode="json", exclude_none=True)


class ActorInfo(Message):
    """Who asks; metadata, never authority."""

    type: Literal["human", "agent", "system"]
    id: Name
    display: Name | None = None


class Meta(Message):
    """What travels beside every message."""

    v: int = 1
    ts: Instant | None = None
    request_id: Id | None = Field(None, description="One logical chain, end to end.")
    correlation_id: Id | None = Field(None, description="The timeline.")
    causation_id: Id | None = Field(None, description="The immediate cause.")
    actor: ActorInfo | None = None
    tenant: Name | None = None
    traceparent: Annotated[str, Field(max_length=256)] | None = None
    stream: bool | None = Field(None, description="Whether chunks are wanted.")


class ErrorInfo(Message):
    """A failure as data; the codes are in `errors.CODES`."""

    code: Name
    message: Text
    details: JsonObject | None = None
    retryable: bool = False
    where: JsonObject | None = Field(None, description="`{file, line, column}`.")


# --- the handshake


class ProtocolOffer(Message):
    """What the agent can speak."""

    supported_versions: Annotated[list[Name], Field(min_length=1, max_length=32)]
    capabilities: Annotated[list[Name], Field(max_length=256)] = []


class SdkInfo(Message):
    """What the agent is built with."""

    name: Name
    version: Name


class Hello(Message):
    """`agent.hello`: the agent introduces itself."""

    session_token: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        None, repr=False, description="Single use; from the environment."
    )
    agent_id: Name
    agent_version: Name
    manifest_hash: Name | None = None
    protocol: ProtocolOffer
    sdk: SdkInfo | None = None
    meta: Meta | None = None


class ServerInfo(Message):
    """The host."""

    core_version: Name
    instance_id: Name


class Welcome(Message):
    """The answer to `agent.hello`."""

    accepted_version: Name
    session_id: Id
    heartbeat_interval_ms: Annotated[int, Field(ge=100, le=3_600_000)] = 15_000
    max_frame_bytes: Annotated[int, Field(ge=1024, le=2**31)] = 4 * 1024 * 1024
    server: ServerInfo
    capabilities: Annotated[list[Name], Field(max_length=256)] = []


# --- tools


class ToolDescription(Message):
    """One tool, as it is registered or found."""

    tool_id: ToolId
    name: Name
    description: Text = ""
    input_schema: JsonObject = Field(default_factory=dict)
    output_schema: JsonObject | None = None
    capabilities: Annotated[list[Name], Field(max_length=64)] = []
    side_effects: bool = Field(True, description="True unless the tool changes nothing.")
    requires_directive: bool = False
    tags: Annotated[list[Name], Field(max_length=64)] = []


class RegisterTools(Message):
    """`agent.tools.register`: the agent offers tools."""

    tools: Annotated[list[ToolDescription], Field(max_length=1024)]
    replace: bool = Field(False, description="Whether tools that are not named are withdrawn.")
    meta: Meta | None = None


class UnregisterTools(Message):
    """`agent.tools.unregister`: the agent withdraws tools."""

    tool_ids: Annotated[list[ToolId], Field(max_length=1024)]
    meta: Meta | None = None


class Rejection(Message):
    """A tool that the host does not take, and why."""

    tool_id: ToolId
    error: ErrorInfo


class Registered(Message):
    """The answer to both: what is registered now, and what was refused."""

    registered: list[ToolId]
    rejected: list[Rejection] = []


class ToolsQuery(Message):
    """`agent.tools.query`: which tools may the agent call?"""

    tool_ids: Annotated[list[ToolId], Field(max_length=1024)] | None = None
    meta: Meta | None = None


class ToolsFound(Message):
    """The answer to `agent.tools.query`."""

    tools: list[ToolDescription]


class CallScope(Message):
    """Where a call belongs and what it may touch."""

    project_root: Annotated[str, Field(max_length=4096)] | None = None
    resource_paths: Annotated[
        list[Annotated[str, Field(max_length=4096)]], Field(max_length=1024)
    ] = []
    directive_id: Id | None = None
    parent_call_id: Id | None = None


class ToolCall(Message):
    """`core.tool.call`: the host calls a tool of the agent."""

    call_id: Id
    tool_id: ToolId
    input: JsonObject = Field(default_factory=dict)
    timeout_ms: Millis | None = None
    idempotency_key: Name | None = None
    caller: JsonObject | None = None
    context: CallScope = Field(default_factory=CallScope)
    meta: Meta | None = None


class DownstreamCall(Message):
    """`agent.tool.call`: a step of a run calls a tool through the host."""

    call_id: Id
    parent_call_id: Id | None = None
    tool_id: ToolId
    input: JsonObject = Field(default_factory=dict)
    timeout_ms: Millis | None = None
    idempotency_key: Name | None = None
    meta: Meta | None = None


class ToolResult(Message):
    """The one result of a call; a failure is one too."""

    call_id: Id
    status: Literal["succeeded", "failed", "canceled"]
    output: Any = None
    error: ErrorInfo | None = None
    started_at: Instant | None = None
    finished_at: Instant | None = None
    metrics: JsonObject | None = None
    meta: Meta | None = None


class StatusData(Message):
    """The data of a `status` chunk: one transition of a step or run."""

    text: Text
    run_id: Id
    step_path: Annotated[str, Field(max_length=1024)] | None = None
    step_id: Name | None = None
    state: Literal[
        "started", "completed", "failed", "skipped", "waiting", "retrying", "canceled", "unknown"
    ]
    attempt: Annotated[int, Field(ge=1)] | None = None
    duration_ms: Millis | None = None
    error: ErrorInfo | None = None
    gate: JsonObject | None = None
    completed: Annotated[int, Field(ge=0)] | None = None
    total: Annotated[int, Field(ge=0)] | None = None


class StreamChunk(Message):
    """`agent.tool.stream`, `core.tool.stream`: what a call says before its result."""

    call_id: Id
    seq: Annotated[int, Field(ge=1, description="From 1, without gaps.")]
    channel: Literal["stdout", "stderr", "log", "partial_result", "status"]
    data: JsonObject = Field(description="`{text…}`; of `partial_result`, `{json}`.")
    done: bool = Field(False, description="Whether it is the last one of its channel.")
    meta: Meta | None = None


class CancelTool(Message):
    """`core.tool.cancel`, `agent.tool.cancel`."""

    call_id: Id
    reason: Text | None = None
    deadline_ms: Millis | None = None
    meta: Meta | None = None


class CancelAnswer(Message):
    """Whether a call that is running was told to stop."""

    call_id: Id
    accepted: bool
    note: Text | None = None


# --- session


class Heartbeat(Message):
    """`agent.heartbeat`."""

    session_id: Id
    uptime_ms: Millis
    inflight_calls: Annotated[int, Field(ge=0)]
    status: Literal["ok", "degraded", "unhealthy"] = "ok"
    details: JsonObject | None = None


class Ping(Message):
    """`core.ping`."""

    meta: Meta | None = None


class Pong(Message):
    """The answer to `core.ping`."""

    ts: Instant | None = None


class Goodbye(Message):
    """`core.goodbye`: an orderly end."""

    reason: Text = ""
    retry_after_ms: Millis | None = None


class Signal(Message):
    """`agent.signal`: a fact, for the timeline."""

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]{0,127}$")]
    at: Instant
    data: JsonObject = Field(default_factory=dict)
    meta: Meta | None = None


class DirectiveRequest(Message):
    """`agent.directive.request`: may this plan have these side effects?"""

    action: Text = Field(description="What would be done.")
    reason: Text = Field(description="Why.")
    side_effects: Annotated[list[JsonObject], Field(max_length=1024)]
    plan_digest: Name
    run_id: Id | None = None
    meta: Meta | None = None


class Directive(Message):
    """The answer to `agent.directive.request`."""

    directive_id: Id | None = None
    granted: bool
    expires_at: Instant | None = None
    reason: Text | None = None


# --- the table


class MethodInfo(NamedTuple):
    """One method of the router dialect."""

    name: str
    kind: Literal["request", "notification", "either"]
    params: type[Message]
    result: type[Message] | None
    about: str


METHODS: tuple[MethodInfo, ...] = (
    MethodInfo("agent.hello", "request", Hello, Welcome, "The agent introduces itself."),
    MethodInfo(
        "agent.tools.register", "request", RegisterTools, Registered, "The agent offers tools."
    ),
    MethodInfo(
        "agent.tools.unregister", "request", UnregisterTools, Registered, "It withdraws tools."
    ),
    MethodInfo("agent.tools.query", "request", ToolsQuery, ToolsFound, "Which tools may it call?"),
    MethodInfo("core.tool.call", "request", ToolCall, ToolResult, "The host calls a tool."),
    MethodInfo("agent.tool.stream", "notification", StreamChunk, None, "Chunks of such a call."),
    MethodInfo("core.tool.cancel", "either", CancelTool, CancelAnswer, "The host cancels a call."),
    MethodInfo(
        "agent.tool.call", "request", DownstreamCall, ToolResult, "A step calls a tool by the host."
    ),
    MethodInfo("core.tool.stream", "notification", StreamChunk, None, "Chunks of such a call."),
    MethodInfo("agent.tool.cancel", "notification", CancelTool, None, "The agent cancels it."),
    MethodInfo("agent.heartbeat", "notification", Heartbeat, None, "The agent is alive."),
    MethodInfo("agent.signal", "notification", Signal, None, "A fact, for the timeline."),
    MethodInfo(
        "agent.directive.request",
        "request",
        DirectiveRequest,
        Directive,
        "May this plan have side effects?",
    ),
    MethodInfo("core.ping", "request", Ping, Pong, "Is the agent there?"),
    MethodInfo("core.goodbye", "notification", Goodbye, None, "An orderly end, by either side."),
)
"""Every method of the router dialect; `core.*` is sent by the host, `agent.*` by the agent."""
