"""The tools that list, describe and check workflows; none of them runs anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.tools.paging import decode_cursor, encode_cursor
from fleetprompt_agent.tools.validations import keep_validations

if TYPE_CHECKING:
    from fleetprompt_agent.language.loader import Compiled
    from fleetprompt_agent.language.plan import Plan, PlanStep
    from fleetprompt_agent.tools.inputs import (
        DescribeWorkflowInput,
        ListWorkflowsInput,
        ValidateWorkflowInput,
    )
    from fleetprompt_agent.tools.registry import Call

Json = Any


async def fp_list_workflows(call: Call, given: ListWorkflowsInput) -> dict[str, Json]:
    """The root's entries, in the order of their paths, with what validation found of them."""
    from fleetprompt_agent.state_dir import state_dir_path
    from fleetprompt_indexer.listing import listed_entries

    listed = listed_entries(call.agent.scan(), state_dir_path() / "catalog.db")
    words = (given.query or "").casefold().split()
    entries = [
        entry
        for entry in (item.to_json() for item in listed)
        if (given.status is None or entry["status"] == given.status)
        and all(word in _searched(entry) for word in words)
    ]
    skip = decode_cursor(given.cursor, (int,))[0] if given.cursor else 0
    result: dict[str, Json] = {"workflows": entries[skip : skip + given.limit]}
    if skip + given.limit < len(entries):
        result["next_cursor"] = encode_cursor((skip + given.limit,))
    return result


def _searched(entry: dict[str, Json]) -> str:
    return " ".join(
        str(entry.get(field) or "") for field in ("workflow_id", "name", "description")
    ).casefold()


async def fp_validate_workflow(call: Call, given: ValidateWorkflowInput) -> dict[str, Json]:
    """Every problem of the workflow."""
    entry = call.agent.scan().find(given.workflow)
    loaded = call.agent.load_entry(entry)
    found = validity(loaded)
    if not loaded.rests_on_others:
        await keep_validations(call.agent.root, [(entry.relative, found)])
    return found


def validity(loaded: Compiled) -> dict[str, Json]:
    """A workflow's validity, as the validating tools give it."""
    plan = loaded.plan
    return {
        "workflow_id": loaded.workflow_id,
        "file_path": loaded.file,
        "valid": plan is not None,
        "sha256": loaded.sha256,
        "digest": plan.digest if plan is not None else None,
        "diagnostics": [item.to_json() for item in loaded.diagnostics],
    }


async def fp_describe_workflow(call: Call, given: DescribeWorkflowInput) -> dict[str, Json]:
    """What the workflow takes, does and gives; for an invalid one, its problems."""
    loaded = call.agent.load(given.workflow)
    described: dict[str, Json] = {
        "workflow_id": loaded.workflow_id,
        "file_path": loaded.file,
        "sha256": loaded.sha256,
        "valid": loaded.plan is not None,
        "diagnostics": [item.to_json() for item in loaded.diagnostics],
    }
    if loaded.plan is not None:
        described |= _plan_described(loaded.plan)
    return described


def _plan_described(plan: Plan) -> dict[str, Json]:
    tools = sorted({step.tool_id for step in plan.steps if step.tool_id})
    return {
        "name": plan.name,
        "description": plan.description,
        "version": plan.version,
        "type": plan.type,
        "digest": plan.digest,
        "inputs": {
            "type": "object",
            "properties": plan.inputs,
            "required": list(plan.required_inputs),
            "additionalProperties": False,
        },
        "outputs": sorted(plan.outputs),
        "steps": [_step_described(step) for step in plan.steps],
        "declared_tools": tools,
        "declared_agents": sorted({tool.split("/")[0] for tool in tools if _is_agent_tool(tool)}),
        "permissions": [
            {"permission": item.permission, "enforced": item.enforced, "why": item.why}
            for item in plan.permissions
        ],
    }


def _is_agent_tool(tool_id: str) -> bool:
    return "/" in tool_id and ":" not in tool_id.split("/", maxsplit=1)[0]


def _step_described(step: PlanStep) -> dict[str, Json]:
    return {
        "step_id": step.id,
        "name": step.name,
        "kind": step.kind,
        "tool_id": step.tool_id or None,
        "needs": [need.step_id for need in step.needs],
        "if": step.condition,
        "side_effects": step.side_effects,
        "approval": step.approval is not None or step.kind == "approval",
    }
