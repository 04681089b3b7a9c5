"""The tools as an MCP client sees them: names, schemas, annotations."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.dialects.mcp.inputs import MCP_INPUTS
from fleetprompt_agent.dialects.workflow_tools import inputs_schema, tool_description, tool_name
from fleetprompt_agent.engine.core.decide import effects_of
from fleetprompt_agent.tools.registry import TOOLS
from fleetprompt_agent.tools.schemas import plain_schema
from fleetprompt_protocol.redaction import escape_controls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetprompt_agent.dialects.options import Options
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.tools.registry import Tool

Json = Any

_FEW = (
    "fp_list_workflows", "fp_describe_workflow", "fp_plan_workflow", "fp_run_workflow",
    "fp_get_run", "fp_resume_run", "fp_cancel_execution",
)  # fmt: skip
"""What most clients need; each further tool costs every model that is shown it."""
_NOT_OFFERED = ("fp_playbook", "fp_prune_runs")
"""One runs workflow text that nobody has granted (security.md, The wire and the state); the other
removes what a model may have done from the record."""

_DESCRIPTIONS = {
    "fp_run_workflow": (
        "Run a workflow of this project. Returns when the run has ended or waits for a person or "
        "for your judgement, or after wait_ms with the run's id; then ask fp_get_run. Side effects "
        "may need a person's approval, which you cannot give."
    ),
    "fp_resume_run": (
        "Continue an interrupted run, ask a person again about one that waits, or answer a gate "
        "of kind judgement: a question to you, the calling model."
    ),
}
"""Where MCP's version of a tool differs."""


def offered_tools(options: Options) -> Mapping[str, Tool]:
    """The `fp_*` tools that a client is shown, by name, in the order of the list."""
    return {
        name: tool
        for name, tool in TOOLS.items()
        if name not in _NOT_OFFERED and (options.all_tools or name in _FEW)
    }


@cache
def described_tool(name: str) -> dict[str, Json]:
    """One of our own tools, as `tools/list` gives it."""
    tool = TOOLS[name]
    described: dict[str, Json] = {
        "name": name,
        "title": _title(name),
        "description": _DESCRIPTIONS.get(name, tool.description),
        "inputSchema": plain_schema(MCP_INPUTS.get(name) or tool.model()),
        "annotations": {
            "title": _title(name),
            "readOnlyHint": tool.read_only,
            "destructiveHint": tool.destructive,
            "idempotentHint": tool.read_only or tool.repeatable,
            "openWorldHint": bool(tool.side_effects),
        },
    }
    output = tool.output_model_type()
    if output is not None:
        described["outputSchema"] = plain_schema(output, may_be_null=True)
    return described


def described_workflow(plan: Plan) -> dict[str, Json]:
    """A workflow as a tool of its own. Its texts are the repository's, and marked as such."""
    acts = bool(effects_of(plan))
    run = TOOLS["fp_run_workflow"].output_model_type()
    described: dict[str, Json] = {
        "name": tool_name(plan.workflow_id),
        "title": escape_controls(plan.name),
        "description": tool_description(plan),
        "inputSchema": inputs_schema(plan),
        "annotations": {
            "title": escape_controls(plan.name),
            "readOnlyHint": not acts,
            "destructiveHint": acts,
            "idempotentHint": False,
            "openWorldHint": acts,
        },
    }
    if run is not None:
        described["outputSchema"] = plain_schema(run, may_be_null=True)
    return described


def _title(name: str) -> str:
    return name.removeprefix("fp_").replace("_", " ").capitalize()
