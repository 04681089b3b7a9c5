"""The registry: every tool's name, description, input model, flags and handler.

Importing this costs nothing heavy: a tool's models and handler are imported at its first call.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fleetprompt_agent.engine.fitting import RESULT_BYTES
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pydantic import BaseModel

    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.engine.active import Listener
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_protocol.ids import Correlation

Json = Any


class Intent(Protocol):
    """How a host may allow the side effects of a run beforehand (a directive)."""

    async def __call__(self, plan: Plan) -> str | None:
        """The intent to record, or None when there is none: the run then opens a gate."""
        ...


@dataclass(slots=True)
class Call:
    """One call of a tool, with what its dialect knows of it."""

    agent: Agent
    correlation: Correlation
    actor_type: str = "agent"
    actor_id: str | None = None
    caller: str | None = None
    """Scope of idempotency keys: who calls, in the host's words."""
    channel: str = "token"
    """How authority comes with this dialect; recorded with decisions."""
    listener: Listener | None = None
    timeout_ms: int | None = None
    intent: Intent | None = None
    on_cancel: Callable[[Callable[[], None]], None] | None = None
    """Registers what to do when the call is cancelled."""
    cancel_reason: str = "the call was cancelled"
    """Why, in the words of who cancels."""
    result_bytes: int = RESULT_BYTES
    """About how long a run's result may be; see `engine.fitting`."""


class Tool(NamedTuple):
    """One tool. Its module has `<Name>Input` and an async function of the tool's name."""

    name: str
    description: str
    module: str
    input_model: str
    read_only: bool = False
    side_effects: tuple[str, ...] = ()
    streaming: bool = False
    cancellation: bool = False
    output_model: str | None = None
    """In `tools.outputs`."""
    destructive: bool = False
    """Whether a call may undo or overwrite something."""
    repeatable: bool = False
    """Whether the same call again changes nothing more."""
    defaults: Mapping[str, Json] | None = None
    """The input of a call that gives nothing, as the model would make it: such a call, often the
    first one of a process, does not pay for importing pydantic (70 ms)."""

    def model(self) -> type[BaseModel]:
        """The pydantic model of the input."""
        model: type[BaseModel] = getattr(
            import_module("fleetprompt_agent.tools.inputs"), self.input_model
        )
        return model

    def output_model_type(self) -> type[BaseModel] | None:
        """The pydantic model that describes the output, if there is one."""
        if self.output_model is None:
            return None
        model: type[BaseModel] = getattr(
            import_module("fleetprompt_agent.tools.outputs"), self.output_model
        )
        return model

    def handler(self) -> Callable[[Call, Any], Awaitable[dict[str, Json]]]:
        """The async function that does it: `(call, input) -> output`."""
        module = import_module(f"fleetprompt_agent.tools.{self.module}")
        found: Callable[[Call, Any], Awaitable[dict[str, Json]]] = getattr(module, self.name)
        return found

    def parse(self, given: Json) -> Any:
        """The input with the fields of the tool's model.

        Raises:
            RequestError: `tool.invalid_input`, listing every field that does not fit.
        """
        if self.defaults is not None and given == {}:
            return SimpleNamespace(**self.defaults)
        from pydantic import ValidationError

        from fleetprompt_protocol.rpc_error import invalid_params

        try:
            return self.model().model_validate(given)
        except ValidationError as error:
            raise invalid_params(error, code="tool.invalid_input") from None


TOOLS: dict[str, Tool] = {
    tool.name: tool
    for tool in (
        Tool(
            "fp_list_workflows",
            "List the workflows of the project, with what is known of them without running "
            "anything.",
            "workflows",
            "ListWorkflowsInput",
            read_only=True,
            output_model="ListWorkflowsOutput",
            defaults={"query": None, "status": None, "limit": 100, "cursor": None},
        ),
        Tool(
            "fp_describe_workflow",
            "Describe one workflow: inputs, outputs, steps, tools, permissions.",
            "workflows",
            "DescribeWorkflowInput",
            read_only=True,
            output_model="DescribeWorkflowOutput",
        ),
        Tool(
            "fp_validate_workflow",
            "Check one workflow and list every problem with its place and a hint.",
            "workflows",
            "ValidateWorkflowInput",
            read_only=True,
            output_model="ValidateWorkflowOutput",
        ),
        Tool(
            "fp_validate_project_resources",
            "Check all workflows of the project and list every problem.",
            "plans",
            "ValidateProjectInput",
            read_only=True,
            output_model="ValidateProjectOutput",
        ),
        Tool(
            "fp_plan_workflow",
            "Show what a run of a workflow would do, without doing any of it: order, rendered "
            "actions, gates, permissions; with `against`, what an edit changes for a recorded run.",
            "plans",
            "PlanWorkflowInput",
            read_only=True,
            output_model="PlanWorkflowOutput",
        ),
        Tool(
            "fp_run_workflow",
            "Run a workflow. Returns when the run has ended or waits for a person, or after "
            "wait_ms with the run's id.",
            "runs",
            "RunWorkflowInput",
            side_effects=("workflow",),
            streaming=True,
            cancellation=True,
            output_model="RunOutput",
            destructive=True,
        ),
        Tool(
            "fp_playbook",
            "Run a playbook, given as text or by its path, or resume one with its resumeToken; "
            "answers with the playbook envelope.",
            "playbook",
            "PlaybookInput",
            side_effects=("workflow",),
            cancellation=True,
            output_model="PlaybookOutput",
            destructive=True,
        ),
        Tool(
            "fp_get_run",
            "Show a run: status, steps, open gates, outputs.",
            "runs",
            "GetRunInput",
            read_only=True,
            output_model="RunOutput",
        ),
        Tool(
            "fp_list_runs",
            "List the project's runs, newest first.",
            "runs",
            "ListRunsInput",
            read_only=True,
            output_model="ListRunsOutput",
        ),
        Tool(
            "fp_resume_run",
            "Continue an interrupted run, or decide one of its gates with the gate's token.",
            "runs",
            "ResumeRunInput",
            side_effects=("workflow",),
            streaming=True,
            cancellation=True,
            output_model="RunOutput",
            destructive=True,
        ),
        Tool(
            "fp_cancel_execution",
            "Cancel a run: what runs is stopped, `finally` steps run.",
            "runs",
            "CancelExecutionInput",
            output_model="CancelOutput",
            destructive=True,
            repeatable=True,
        ),
        Tool(
            "fp_get_output",
            "Show what a step of a run wrote (stdout, stderr, or its value), or in full what "
            "the result of a run left out.",
            "replays",
            "GetOutputInput",
            read_only=True,
            output_model="GetOutputOutput",
        ),
        Tool(
            "fp_replay_run",
            "Fold a run's journal again and check that every decision in it follows from what "
            "stands before it.",
            "replays",
            "ReplayRunInput",
            read_only=True,
            output_model="ReplayRunOutput",
        ),
        Tool(
            "fp_prune_runs",
            "Forget the records of runs that ended long ago; never of one that waits or can go on.",
            "pruning",
            "PruneRunsInput",
            side_effects=("journal",),
            output_model="PruneRunsOutput",
            destructive=True,
            repeatable=True,
        ),
        Tool(
            "fp_get_timeline",
            "Show the events of a run, or of all runs under a correlation id.",
            "runs",
            "GetTimelineInput",
            read_only=True,
            output_model="GetTimelineOutput",
        ),
    )
}
"""By name, in the order in which they are listed."""


def find_tool(name: str) -> Tool:
    """The tool of this name.

    Raises:
        RequestError: `tool.not_found`.
    """
    tool = TOOLS.get(name)
    if tool is None:
        raise RequestError(
            "tool.not_found",
            f"There is no tool {name[:80]}; the tools are {', '.join(TOOLS)}.",
            rpc_code=-32601,
        )
    return tool


async def call_tool(tool: Tool, call: Call, given: Json) -> dict[str, Json]:
    """The output of the tool.

    Raises:
        FleetPromptError: the input does not fit, or the call could not be made.
    """
    return await tool.handler()(call, tool.parse(given))
