"""Results that a model can still be given: long runs, and gates of many items."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.mcp_project import run_of, text_of

if TYPE_CHECKING:
    from fleetprompt_testing.mcp_project import McpProject

pytestmark = pytest.mark.anyio

LIMIT = 64 * 1024 + 2_000
"""Of a run's result as text: 64 KiB, and what tells how to see the rest."""

LONG = """\
inputs: {items: {type: array, items: {type: integer}, required: true}}
outputs: {text: $large.json.text}
steps:
  - {id: large, tool: flow:set, with: {text: TEXT}}
  - {id: work, for_each: inputs.items, on_error: continue, tool: flow:fail, with: {message: TEXT}}
  - {id: ask, manual: Call somebody}
""".replace("TEXT", "long" * 100)

MANY = """\
inputs: {items: {type: array, items: {type: integer}, required: true}}
steps:
  - id: work
    for_each: inputs.items
    command: cli printf "TEXT" ${{ item }}
    approval: required
""".replace("TEXT", "long" * 100)


async def test_the_result_of_a_long_run_is_short_enough_for_a_model(
    project: McpProject, era: str
) -> None:
    project.write("long.yaml", LONG)
    given = {"workflow": "long", "inputs": {"items": list(range(400))}}
    async with project.connect(era) as client:
        result = await client.call_tool("fp_run_workflow", given)
    run = run_of(result)
    assert (run["status"], set(run["left_out"])) == ("waiting", {"steps"})
    assert len(text_of(result).encode()) < LIMIT
    assert json.loads(text_of(result)) == run
    assert run["metrics"]["steps"] == {"succeeded": 2, "waiting": 1, "failed": 400}
    assert {"large", "work", "ask"} < {step["step_path"] for step in run["steps"]}
    assert f"fleetprompt approve {run['run_id']}" in run["next"]
    assert f"fleetprompt show {run['run_id']}" in run["next"]


async def test_nobody_is_asked_about_items_that_are_not_shown(
    project: McpProject, era: str
) -> None:
    project.write("many.yaml", MANY)
    asked: list[Any] = []

    async def person(_: object, params: Any) -> Any:
        from mcp.types import ElicitResult

        asked.append(params.message)
        return ElicitResult(action="accept", content={"decision": "approve"})

    given = {"workflow": "many", "inputs": {"items": list(range(3000))}}
    flags = ("--allow-side-effects",)
    async with project.connect(era, *flags, elicitation_callback=person) as client:
        run = run_of(await client.call_tool("fp_run_workflow", given))
    assert (run["status"], asked) == ("waiting", [])
    (gate,) = run["gates"]
    assert len(gate["items"]) < gate["action"]["items"] == 3000
    assert "gates" in run["left_out"]
