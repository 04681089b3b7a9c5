"""The tools, called by the SDK's client in both eras."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.mcp_project import HANDSHAKE, STATELESS, error_of, run_of, text_of

from fleetprompt_agent.language.schemas import schema_fault, schema_problems
from fleetprompt_agent.tools.registry import TOOLS

if TYPE_CHECKING:
    from fleetprompt_testing.mcp_project import McpProject

pytestmark = pytest.mark.anyio

HELLO = """\
description: Says hello
inputs:
  who: {type: string, default: world}
outputs: {said: $greet.json.text}
steps:
  - {id: greet, tool: flow:set, with: {text: "hello ${{ inputs.who }}"}}
"""
FAILING = """\
steps:
  - {id: fine, tool: flow:noop}
  - {id: stop, tool: flow:fail, with: {message: no}}
"""
FEW = ["list_workflows", "describe_workflow", "run_workflow", "get_run", "resume_run"]


async def test_few_tools_are_offered_unless_all_are_wanted(project: McpProject) -> None:
    async with project.connect(STATELESS) as client:
        few = [tool.name for tool in (await client.list_tools()).tools]
    assert set(few) == {f"fp_{name}" for name in [*FEW, "cancel_execution"]} | (
        {"fp_plan_workflow"}
    )
    async with project.connect(STATELESS, "--tools", "all") as client:
        every = [tool.name for tool in (await client.list_tools()).tools]
    assert set(every) == TOOLS.keys() - {"fp_playbook", "fp_prune_runs"}


async def test_every_tool_says_what_it_takes_gives_and_does(project: McpProject, era: str) -> None:
    async with project.connect(era, "--tools", "all") as client:
        for tool in (await client.list_tools()).tools:
            assert tool.title, tool.name
            assert len(tool.description or "") > 20, tool.name
            assert schema_fault(tool.input_schema) is None
            assert tool.input_schema["type"] == "object"
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint == TOOLS[tool.name].read_only
            text = json.dumps(tool.input_schema)
            assert "$ref" not in text
            assert "anyOf" not in text
            if TOOLS[tool.name].output_model is not None:
                assert tool.output_schema is not None
                assert schema_fault(tool.output_schema) is None


async def test_a_run_gives_structured_content_and_the_same_as_text(
    project: McpProject, era: str
) -> None:
    project.write("hello.yaml", HELLO)
    async with project.connect(era) as client:
        result = await client.call_tool(
            "fp_run_workflow", {"workflow": "hello", "inputs": {"who": "you"}}
        )
        run = run_of(result)
        assert not result.is_error
        assert (run["status"], run["outputs"]) == ("succeeded", {"said": "hello you"})
        shown = run_of(await client.call_tool("fp_get_run", {"run_id": run["run_id"]}))
        assert shown["outputs"] == run["outputs"]
        again = run_of(await client.call_tool("fp_get_run", {}))
        assert again["run_id"] == run["run_id"]


async def test_results_meet_the_schemas_that_the_tools_declare(
    project: McpProject, era: str
) -> None:
    project.write("hello.yaml", HELLO)
    project.write("failing.yaml", FAILING)
    project.write("broken.yaml", "steps: 3\n")
    calls: list[tuple[str, dict[str, Any]]] = [
        ("fp_list_workflows", {}),
        ("fp_describe_workflow", {"workflow": "hello"}),
        ("fp_describe_workflow", {"workflow": "broken"}),
        ("fp_validate_workflow", {"workflow": "broken"}),
        ("fp_run_workflow", {"workflow": "hello"}),
        ("fp_run_workflow", {"workflow": "failing"}),
        ("fp_get_run", {}),
        ("fp_list_runs", {}),
        ("fp_get_timeline", {"run_id": ""}),
        ("fp_validate_project_resources", {}),
        ("fp_plan_workflow", {"workflow": "hello"}),
        ("fp_plan_workflow", {"workflow": "broken"}),
        ("fp_replay_run", {"run_id": ""}),
    ]
    async with project.connect(era, "--tools", "all") as client:
        schemas = {t.name: t.output_schema for t in (await client.list_tools()).tools}
        for name, arguments in calls:
            result = await client.call_tool(name, arguments)
            assert schema_problems(schemas[name], result.structured_content) == [], name
        last = (await client.call_tool("fp_get_run", {})).structured_content or {}
        result = await client.call_tool("fp_cancel_execution", {"run_id": last["run_id"]})
        assert schema_problems(schemas["fp_cancel_execution"], result.structured_content) == []


async def test_a_failed_run_is_an_error_that_keeps_its_result(project: McpProject) -> None:
    project.write("failing.yaml", FAILING)
    async with project.connect(STATELESS) as client:
        result = await client.call_tool("fp_run_workflow", {"workflow": "failing"})
    assert result.is_error
    run = run_of(result)
    assert run["status"] == "failed"
    assert [step["status"] for step in run["steps"]] == ["succeeded", "failed"]


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("fp_run_workflow", {}, "tool.invalid_input", "workflow"),
    ("fp_run_workflow", {"workflow": 3}, "tool.invalid_input", "workflow"),
    ("fp_run_workflow", {"workflow": "helo"}, "workflow.not_found", "hello"),
    ("fp_run_workflow", {"workflow": "hello", "wait_ms": -1}, "tool.invalid_input", "wait_ms"),
    ("fp_run_workflow", {"workflow": "hello", "inputs": {"wo": 1}}, "inputs.invalid", "who"),
    ("fp_run_workflow", {"workflow": "hello", "inputs": {"who": 1}}, "inputs.invalid", "who"),
    ("fp_list_workflows", {"cursor": "garbage"}, "tool.invalid_input", "cursor"),
    ("fp_list_workflows", {"limit": True}, "tool.invalid_input", "limit"),
    ("fp_get_run", {"run_id": "nope"}, "run.not_found", "nope"),
    ("fp_get_run", {"run_id": "../etc"}, "tool.invalid_input", "run_id"),
    ("fp_get_run", {"reissue": True}, "tool.invalid_input", "reissue"),
    ("fp_resume_run", {"run_id": "x", "approve": True}, "tool.invalid_input", "approve"),
    ("fp_resume_run", {"token": "x", "approve": True}, "tool.invalid_input", "token"),
    ("fp_resume_run", {}, "tool.invalid_input", "run_id"),
    ("fp_cancel_execution", {"run_id": "nope"}, "run.not_found", "nope"),
]


async def test_wrong_arguments_are_errors_that_a_model_can_repair(project: McpProject) -> None:
    project.write("hello.yaml", HELLO)
    async with project.connect(HANDSHAKE) as client:
        for tool, arguments, code, said in WRONG:
            result = await client.call_tool(tool, arguments)
            assert error_of(result)["code"] == code, (tool, arguments)
            text = text_of(result)
            assert said in text
            for word in ("Traceback", "pydantic", "Error(", 'File "'):
                assert word not in text


async def test_an_error_names_the_tool_that_helps_and_moves_no_cursor(project: McpProject) -> None:
    async with project.connect(STATELESS) as client:
        result = await client.call_tool("fp_run_workflow", {"workflow": "\x1b[2J\u202e"})
        text = json.loads(text_of(result))
        assert "fp_list_workflows" in text["next"]
        assert r"\x1b[2J\u202e" in text["error"]["message"]
        assert "\x1b" not in text["error"]["message"]


async def test_an_unknown_tool_is_an_error_of_the_protocol(project: McpProject) -> None:
    from mcp import MCPError

    async with project.connect(STATELESS) as client:
        for name in ("nope", "fp_playbook", "wf_hello", "fp_list_runs"):
            with pytest.raises(MCPError) as caught:
                await client.call_tool(name, {})
            assert caught.value.error.code == -32602
        assert (await client.call_tool("fp_list_workflows", {})).structured_content == {
            "workflows": []
        }


async def test_a_call_comes_back_after_its_wait_and_the_run_goes_on(project: McpProject) -> None:
    gate = project.root / "gate"
    import os

    os.mkfifo(gate)
    project.write("slow.yaml", f"steps:\n  - {{id: block, command: cli cat {gate}}}\n")
    async with project.connect(HANDSHAKE, "--allow-side-effects") as client:
        result = await client.call_tool("fp_run_workflow", {"workflow": "slow", "wait_ms": 300})
        run = run_of(result)
        assert run["status"] == "running"
        assert run["run_id"] in run["next"]
        gate.write_text("through")
        ended = run_of(await client.call_tool("fp_resume_run", {"run_id": run["run_id"]}))
    assert (ended["status"], ended["output"]) == ("succeeded", "through")
    assert "next" not in ended


async def test_progress_names_the_run_first_and_always_grows(project: McpProject, era: str) -> None:
    steps = "\n".join(f"  - {{id: s{number}, command: cli true}}" for number in range(5))
    project.write("five.yaml", f"steps:\n{steps}\n")
    heard: list[tuple[float, float | None, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        heard.append((progress, total, message))

    async with project.connect(era, "--allow-side-effects") as client:
        result = await client.call_tool(
            "fp_run_workflow", {"workflow": "five"}, progress_callback=on_progress
        )
        run = run_of(result)
    amounts = [done for done, _, _ in heard]
    assert amounts == sorted(set(amounts))
    assert amounts[-1] == 5
    assert {total for _, total, _ in heard} == {5}
    assert run["run_id"] in (heard[0][2] or "")


async def test_the_same_idempotency_key_gives_the_same_run(project: McpProject) -> None:
    project.write("hello.yaml", HELLO)
    arguments = {"workflow": "hello", "idempotency_key": "one"}
    async with project.connect(HANDSHAKE) as client:
        runs = [run_of(await client.call_tool("fp_run_workflow", arguments)) for _ in range(2)]
        other = await client.call_tool("fp_run_workflow", {**arguments, "inputs": {"who": "other"}})
    assert runs[0]["run_id"] == runs[1]["run_id"]
    assert error_of(other)["code"] == "run.conflict"


async def test_the_ids_of_a_call_come_back_and_stand_on_the_timeline(project: McpProject) -> None:
    project.write("hello.yaml", HELLO)
    meta: Any = {
        "dev.fleetprompt/request_id": "req-1",
        "dev.fleetprompt/correlation_id": "corr-1",
    }
    async with project.connect(STATELESS, "--tools", "all") as client:
        result = await client.call_tool("fp_run_workflow", {"workflow": "hello"}, meta=meta)
        assert result.meta is not None
        assert {**result.meta, **meta} == dict(result.meta)
        run = run_of(result)
        assert (run["run_id"], run["meta"]["request_id"]) == ("corr-1", "req-1")
        timeline = await client.call_tool("fp_get_timeline", {"correlation_id": "corr-1"})
        events = (timeline.structured_content or {})["events"]
        assert {event["request_id"] for event in events} == {"req-1"}


async def test_calls_of_many_run_beside_each_other(project: McpProject) -> None:
    import anyio

    project.write("hello.yaml", HELLO)
    said: dict[int, str] = {}

    async with project.connect(STATELESS) as client, project.connect(STATELESS) as other:

        async def one(number: int) -> None:
            result = await (client, other)[number % 2].call_tool(
                "fp_run_workflow", {"workflow": "hello", "inputs": {"who": str(number)}}
            )
            said[number] = run_of(result)["outputs"]["said"]

        async with anyio.create_task_group() as group:
            for number in range(40):
                group.start_soon(one, number)
    assert said == {number: f"hello {number}" for number in range(40)}
