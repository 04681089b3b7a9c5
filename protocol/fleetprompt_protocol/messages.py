"""The messages of the router dialect, both ways (protocol.md §3 and §4), and the table of methods.

Envelopes are lenient: unknown fields are ignored. What is known must have its type: nothing is
converted. Importing this imports pydantic; the peer and the plain dialect do without.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetprompt_protocol.errors import ProtocolError, RequestError
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

    @classmethod
    def parse_answer(cls, answer: object, method: str) -> Self:
        """The message with which the other side has answered a request of ours.

        Raises:
            ProtocolError: `protocol.peer_error`, naming every field that is wrong.
        """
        try:
            return cls.parse(answer)
        except RequestError as error:
            _, _, problems = error.message.partition(": ")
            raise ProtocolError(
                "protocol.peer_error",
                f"The answer to {method} is not as the protocol says: {problems}",
                details=error.details,
            ) from None

    def to_json(self) -> JsonObject:
        """As it travels: without what is not set."""
        return self.model_dump(mode="json", exclude_none=True)


class ActorInfo(Message):
    """Who asks; metadata, never authority."""

    type: Literal["human", "agent", "system"] = Field(description="What kind of being asks.")
    id: Name = Field(description="Who, in the host's words; stands on the timeline.")
    display: Name | None = Field(default=None, description="For people; kept nowhere.")


class Meta(Message):
    """What travels beside every message."""

    v: int = Field(default=1, description="Of this object's own form.")
    ts: Instant | None = Field(default=None, description="When it was sent; RFC 3339, UTC.")
    request_id: Id | None = Field(default=None, description="One logical chain, end to end.")
    correlation_id: Id | None = Field(default=None, description="The timeline.")
    causation_id: Id | None = Field(default=None, description="The immediate cause.")
    actor: ActorInfo | None = Field(default=None, description="Who asks.")
    tenant: Name | None = Field(default=None, description="Not used yet.")
    traceparent: Annotated[str, Field(max_length=256)] | None = Field(
        default=None, description="W3C Trace Context; not passed on yet."
    )
    stream: bool | None = Field(
        default=None,
        description="Plain dialect: whether chunks are wanted. In the router's they always come.",
    )


class ErrorInfo(Message):
    """A failure as data; the codes are in `errors.CODES`."""

    code: Name = Field(description="Stable and dotted; see Errors.")
    message: Text = Field(description="What happened, where, and what to do; not stable.")
    details: JsonObject | None = Field(default=None, description="More of it; depends on the code.")
    retryable: bool = Field(default=False, description="Whether the same again may succeed.")
    where: JsonObject | None = Field(default=None, description="`{file, line, column}`.")


# --- the handshake


class ProtocolOffer(Message):
    """What the agent can speak."""

    supported_versions: Annotated[list[Name], Field(min_length=1, max_length=32)] = Field(
        description="The preferred one first."
    )
    capabilities: Annotated[list[Name], Field(max_length=256)] = Field(
        default=[], description="What it can do beside; see Who speaks first."
    )


class SdkInfo(Message):
    """What the agent is built with."""

    name: Name = Field(description="Of the library.")
    version: Name = Field(description="Of the library.")


class Hello(Message):
    """`agent.hello`: the agent introduces itself."""

    session_token: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, repr=False, description="Single use; from the environment."
    )
    agent_id: Name = Field(description="The first part of its tools' ids.")
    agent_version: Name = Field(description="Of its program.")
    manifest_hash: Name | None = Field(default=None, description="Of what it was installed from.")
    protocol: ProtocolOffer = Field(description="What it can speak.")
    sdk: SdkInfo | None = Field(default=None, description="What it is built with.")
    meta: Meta | None = Field(default=None, description="See Meta.")


class ServerInfo(Message):
    """The host."""

    core_version: Name = Field(description="Of its program.")
    instance_id: Name = Field(description="This process of it.")


class Welcome(Message):
    """The answer to `agent.hello`."""

    accepted_version: Name = Field(description="One of those that the hello offers.")
    session_id: Id = Field(description="Names the session in heartbeats.")
    heartbeat_interval_ms: Annotated[int, Field(ge=100, le=3_600_000)] = Field(
        default=15_000, description="How often `agent.heartbeat` is wanted."
    )
    max_frame_bytes: Annotated[int, Field(ge=1024, le=2**31)] = Field(
        default=4 * 1024 * 1024, description="The longest message that the host takes."
    )
    server: ServerInfo = Field(description="Who welcomes.")
    capabilities: Annotated[list[Name], Field(max_length=256)] = Field(
        default=[], description="Those of the agent's that the host wants: `workflow_signals`."
    )


# --- tools


class ToolDescription(Message):
    """One tool, as it is registered or found."""

    tool_id: ToolId
    name: Name = Field(description="The id's last part.")
    description: Text = Field(default="", description="What it does, for whoever chooses a tool.")
    input_schema: JsonObject = Field(
        default_factory=dict, description="JSON Schema of `input`; empty: anything."
    )
    output_schema: JsonObject | None = Field(default=None, description="JSON Schema of `output`.")
    capabilities: Annotated[list[Name], Field(max_length=64)] = Field(
        default=[], description="`streaming`, `cancellation`."
    )
    side_effects: bool = Field(default=True, description="True unless the tool changes nothing.")
    requires_directive: bool = Field(
        default=False,
        description="Whether it refuses to run without one. Ours open a gate instead.",
    )
    tags: Annotated[list[Name], Field(max_length=64)] = Field(
        default=[], description="For people who look for tools."
    )


class RegisterTools(Message):
    """`agent.tools.register`: the agent offers tools."""

    tools: Annotated[list[ToolDescription], Field(max_length=1024)] = Field(
        description="New ones, and changed ones in place of those with the same id."
    )
    replace: bool = Field(
        default=False, description="Whether tools that are not named are withdrawn."
    )
    meta: Meta | None = Field(default=None, description="See Meta.")


class UnregisterTools(Message):
    """`agent.tools.unregister`: the agent withdraws tools."""

    tool_ids: Annotated[list[ToolId], Field(max_length=1024)] = Field(
        description="Those that are not known are passed over."
    )
    meta: Meta | None = Field(default=None, description="See Meta.")


class Rejection(Message):
    """A tool that the host does not take, and why."""

    tool_id: ToolId
    error: ErrorInfo = Field(description="Why.")


class Registered(Message):
    """The answer to both: what is registered now, and what was refused."""

    registered: list[ToolId] = Field(
        description="Every tool of the agent's that can be called now."
    )
    rejected: list[Rejection] = Field(default=[], description="The others of this request.")


class ToolsQuery(Message):
    """`agent.tools.query`: which tools may the agent call?"""

    tool_ids: Annotated[list[ToolId], Field(max_length=1024)] | None = Field(
        default=None, description="Only these; all when absent."
    )
    meta: Meta | None = Field(default=None, description="See Meta.")


class ToolsFound(Message):
    """The answer to `agent.tools.query`."""

    tools: list[ToolDescription] = Field(description="Those that exist and may be called.")


class CallScope(Message):
    """Where a call belongs."""

    project_root: Annotated[str, Field(max_length=4096)] | None = Field(
        default=None,
        description="Refused with `root.denied` unless it lies within the agent's root.",
    )
    resource_paths: Annotated[
        list[Annotated[str, Field(max_length=4096)]], Field(max_length=1024)
    ] = Field(
        default=[],
        description="What the call is about, relative to the root; each is checked in the same "
        "way. They do not limit what steps touch.",
    )
    directive_id: Id | None = Field(
        default=None,
        description="A directive that this session has granted: it is intent for the plan that it "
        "was asked for, until it expires.",
    )
    parent_call_id: Id | None = Field(
        default=None,
        description="The call that this one was made for; the agent makes no use of it.",
    )


class ToolCall(Message):
    """`core.tool.call`: the host calls a tool of the agent."""

    call_id: Id = Field(description="Names the call in chunks and cancels; new for each call.")
    tool_id: ToolId
    input: JsonObject = Field(default_factory=dict, description="As the tool's schema says.")
    timeout_ms: Millis | None = Field(
        default=None,
        description="Of the call, not of the run: when it is over the call fails with "
        "`tool.timeout`, and the run goes on. The run's own limit is `timeout_ms` of the input.",
    )
    idempotency_key: Name | None = Field(
        default=None,
        description="For tools that run a workflow: the same key of the same caller with the same "
        "inputs gives the same run.",
    )
    caller: JsonObject | None = Field(
        default=None, description="On whose behalf; keys of different callers are different keys."
    )
    context: CallScope = Field(default_factory=CallScope, description="Where it belongs.")
    meta: Meta | None = Field(default=None, description="See Meta.")


class DownstreamCall(Message):
    """`agent.tool.call`: a step of a run calls a tool through the host."""

    call_id: Id = Field(description="Of this call; the agent's to choose.")
    parent_call_id: Id | None = Field(
        default=None,
        description="The `core.tool.call` whose run this step belongs to, while it lasts.",
    )
    tool_id: ToolId
    input: JsonObject = Field(default_factory=dict, description="What the step's `with` gives.")
    timeout_ms: Millis | None = Field(default=None, description="What is left of the step's time.")
    idempotency_key: Name | None = Field(
        default=None, description="The same for every attempt of the step: `run_id/step_path`."
    )
    meta: Meta | None = Field(
        default=None, description="The ids of the run; the cause is `step.started`."
    )


class ToolResult(Message):
    """The one result of a call; a failure is one too."""

    call_id: Id = Field(description="Of the call.")
    status: Literal["succeeded", "failed", "canceled"] = Field(
        description="A run that waits or still runs is a call that succeeded; `output.status` "
        "says how the run stands."
    )
    output: Any = Field(default=None, description="The tool's; kept when the call failed, too.")
    error: ErrorInfo | None = Field(default=None, description="Why it did not succeed.")
    started_at: Instant | None = Field(default=None, description="RFC 3339, UTC.")
    finished_at: Instant | None = Field(default=None, description="RFC 3339, UTC.")
    metrics: JsonObject | None = Field(default=None, description="`{duration_ms}`; more may come.")
    meta: Meta | None = Field(default=None, description="The ids of the call.")


class StatusData(Message):
    """The data of a `status` chunk: one transition of a step or run."""

    text: Text = Field(description="For people: `deploy: started`.")
    run_id: Id = Field(description="Which run; the first chunk of a call names it.")
    step_path: Annotated[str, Field(max_length=1024)] | None = Field(
        default=None,
        description="Which step: `deploy`, `deploy[3]`, `sub/deploy`; null: the run itself.",
    )
    step_id: Name | None = Field(default=None, description="The step's id in its file.")
    state: Literal[
        "started", "completed", "failed", "skipped", "waiting", "retrying", "canceled", "unknown"
    ] = Field(
        description="`waiting`: a gate has opened. `unknown`: nobody can tell whether the step "
        "acted. In the run's last chunk: how it stands when the call ends."
    )
    attempt: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="From 1; 0 before the first."
    )
    duration_ms: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Of the attempt that has ended."
    )
    error: ErrorInfo | None = Field(default=None, description="Why it failed.")
    gate: JsonObject | None = Field(
        default=None, description="What it waits for, as in the run's result, without a token."
    )
    completed: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Steps that are over."
    )
    total: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Steps known so far; grows with `for_each`."
    )
    event_id: Id | None = Field(
        default=None, description="The event of the timeline that this tells of."
    )
    at: Instant | None = Field(default=None, description="When; RFC 3339, UTC.")


class StreamChunk(Message):
    """`agent.tool.stream`, `core.tool.stream`: what a call says before its result."""

    call_id: Id = Field(description="Of the call.")
    seq: Annotated[int, Field(ge=1, description="From 1, without gaps.")]
    channel: Literal["stdout", "stderr", "log", "partial_result", "status"] = Field(
        description="`status`: a transition; the others: what a step says."
    )
    data: JsonObject = Field(
        description="`status`: StatusData. Others: `{text, step_path, coalesced?}`, of "
        "`partial_result` `{json, …}`; `coalesced`: earlier pieces were left out."
    )
    done: bool = Field(default=False, description="Whether it is the last one of its channel.")
    meta: Meta | None = Field(
        default=None, description="The ids of the call; the cause is the event."
    )


class CancelTool(Message):
    """`core.tool.cancel`, `agent.tool.cancel`."""

    call_id: Id = Field(description="Which call.")
    reason: Text | None = Field(default=None, description="Kept with the run.")
    deadline_ms: Millis | None = Field(
        default=None, description="How long `finally` steps may take; then they are cancelled, too."
    )
    meta: Meta | None = Field(default=None, description="See Meta.")


class CancelAnswer(Message):
    """Whether a call that is running was told to stop."""

    call_id: Id = Field(description="Which call.")
    accepted: bool = Field(
        description="False: no such call is in flight, or it was cancelled before."
    )
    note: Text | None = Field(default=None, description="Why not.")


# --- session


class Heartbeat(Message):
    """`agent.heartbeat`."""

    session_id: Id = Field(description="From the welcome.")
    uptime_ms: Annotated[int, Field(ge=0)] = Field(description="Since the agent began.")
    inflight_calls: Annotated[int, Field(ge=0)] = Field(description="Of the host's.")
    status: Literal["ok", "degraded", "unhealthy"] = Field(
        default="ok",
        description="`degraded`: runs pause until the host takes what waits for it. `unhealthy`: "
        "no step can be started; start another agent.",
    )
    details: JsonObject | None = Field(
        default=None, description="`{active_runs, downstream_calls, queued_bytes}`."
    )


class Ping(Message):
    """`core.ping`."""

    meta: Meta | None = Field(default=None, description="See Meta.")


class Pong(Message):
    """The answer to `core.ping`."""

    ts: Instant | None = Field(default=None, description="RFC 3339, UTC.")
    meta: Meta | None = Field(default=None, description="The ids of the ping.")


class Goodbye(Message):
    """`core.goodbye`: an orderly end."""

    reason: Text = Field(default="", description="For the log.")
    retry_after_ms: Millis | None = Field(
        default=None, description="When to come back; for who starts agents."
    )


class Signal(Message):
    """`agent.signal`: a fact, for the timeline."""

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.]{0,127}$")] = Field(
        description="See Signals."
    )
    at: Instant
    data: JsonObject = Field(default_factory=dict, description="See Signals.")
    meta: Meta | None = Field(default=None, description="The ids of the run.")


class DirectiveRequest(Message):
    """`agent.directive.request`: may this plan have these side effects?"""

    action: Text = Field(description="What would be done.")
    reason: Text = Field(description="Why.")
    side_effects: Annotated[list[JsonObject], Field(max_length=1024)] = Field(
        description="Each step that acts: `{step_path, tool, as_written, …}`."
    )
    plan_digest: Name = Field(description="What the directive is for: this plan and no other.")
    run_id: Id | None = Field(default=None, description="There is none before the run has begun.")
    meta: Meta | None = Field(default=None, description="The ids of the call.")


class Directive(Message):
    """The answer to `agent.directive.request`."""

    directive_id: Id | None = Field(default=None, description="Kept with the run as its intent.")
    granted: bool = Field(description="False: the run opens a gate before its first effect.")
    expires_at: Instant | None = Field(
        default=None, description="RFC 3339 with its offset; afterwards it is no intent."
    )
    reason: Text | None = Field(default=None, description="For people.")


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
