"""Each valid workflow as a prompt: a person picks it in their client, the model then runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.dialects.mcp.paging import page_of
from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.redaction import escape_controls

if TYPE_CHECKING:
    from fleetprompt_agent.dialects.workflow_tools import Workflows
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_indexer.entry import Entry

Json = Any

MAX_COMPLETIONS = 100
"""The most that an answer may hold (2025-11-25, Completion)."""
_MAX_TEXT = 600


class Prompts:
    """Answers `prompts/*`, and completes the values of a prompt's arguments."""

    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    def page(self, params: dict[str, Json]) -> dict[str, Json]:
        """A page of prompts."""
        return page_of(params, "prompts", self._workflows.entries(), self._described)

    def _described(self, entry: Entry) -> dict[str, Json] | None:
        plan = self._workflows.plan(entry)
        if plan is None:
            return None
        return {
            "name": plan.workflow_id,
            "title": escape_controls(plan.name),
            "description": _description(plan),
            "arguments": [
                _argument(name, schema, name in plan.required_inputs)
                for name, schema in plan.inputs.items()
            ],
        }

    def get(self, params: dict[str, Json]) -> dict[str, Json]:
        """The message that has a model run the workflow.

        Raises:
            RequestError: `inputs.invalid`: an argument is missing or unknown.
            WorkflowError: `workflow.not_found`.
        """
        plan = self._find(params["name"])
        given: dict[str, str] = params.get("arguments") or {}
        unknown = [name for name in given if name not in plan.inputs]
        missing = [name for name in plan.required_inputs if name not in given]
        if unknown or missing:
            what = f"has no argument {unknown[0][:64]}" if unknown else f"needs {missing[0]}"
            raise RequestError(
                "inputs.invalid",
                f"The prompt {plan.workflow_id} {what}; it takes "
                f"{', '.join(plan.inputs) or 'none'}.",
                rpc_code=-32602,
            )
        inputs = {name: _value(plan.inputs[name], text) for name, text in given.items()}
        text = (
            f"Run the workflow `{plan.workflow_id}` of this project with the tool "
            f"fp_run_workflow and these inputs:\n\n"
            f"{json.dumps(inputs, ensure_ascii=False, indent=2)}\n\n"
            "Then tell me how it ended, step by step. If it waits for a person's decision, show me "
            "what it wants to do and how I decide; do not try to decide for me."
        )
        return {
            "description": _description(plan),
            "messages": [{"role": "user", "content": {"type": "text", "text": text}}],
        }

    def complete(self, name: str, argument: str, begun: str) -> list[str]:
        """Values of an argument that begin so, as far as its type names any.

        Raises:
            WorkflowError: `workflow.not_found`.
        """
        schema = self._find(name).inputs.get(argument)
        return [value for value in _values(schema) if value.startswith(begun)]

    def _find(self, workflow_id: str) -> Plan:
        plan = self._workflows.find(workflow_id)
        if plan is None:
            raise RequestError(
                "workflow.not_found",
                f"There is no valid workflow {workflow_id[:80]}; prompts/list has them.",
                rpc_code=-32602,
            )
        return plan


def _description(plan: Plan) -> str:
    return _cut(plan.description or f"Runs the workflow {plan.workflow_id}.")


def _argument(name: str, schema: Json, is_required: bool) -> dict[str, Json]:
    described: dict[str, Json] = {"name": name, "required": is_required}
    if isinstance(schema, dict):
        notes = [str(schema["description"])] if isinstance(schema.get("description"), str) else []
        if isinstance(schema.get("type"), str) and schema["type"] != "string":
            notes.append(f"({schema['type']})")
        if notes:
            described["description"] = _cut(" ".join(notes))
    return described


def _value(schema: Json, text: str) -> Json:
    """A prompt's argument, which is always text, as the type that the workflow declares."""
    wanted = schema.get("type") if isinstance(schema, dict) else None
    if wanted == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _values(schema: Json) -> list[str]:
    if not isinstance(schema, dict):
        return []
    values: list[Json] = list(schema["enum"]) if isinstance(schema.get("enum"), list) else []
    if schema.get("type") == "boolean":
        values += [True, False]
    values += schema["examples"] if isinstance(schema.get("examples"), list) else []
    if "default" in schema:
        values.append(schema["default"])
    texts = (value if isinstance(value, str) else json.dumps(value) for value in values)
    return list(dict.fromkeys(texts))


def _cut(text: str) -> str:
    shown = escape_controls(text)
    return shown if len(shown) <= _MAX_TEXT else f"{shown[:_MAX_TEXT]}…"
