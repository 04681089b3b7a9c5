"""Workflows as tools, prompts and resources, and what clients hear when files change."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.mcp_project import HANDSHAKE, STATELESS, error_of, run_of
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.dialects.workflow_tools import MAX_NAME, MAX_TOOLS, tool_name

if TYPE_CHECKING:
    from fleetprompt_testing.mcp_project import McpProject

pytestmark = pytest.mark.anyio

DEPLOY = """\
name: Deploy
description: Ships a version
inputs:
  target: {type: string, enum: [staging, production], required: true}
  copies: {type: integer, default: 1}
  force: {type: boolean, default: false}
outputs: {said: $say.json.text}
steps:
  - {id: say, tool: flow:set, with: {text: "${{ inputs.target }} ${{ inputs.copies }}"}}
"""
IDS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)


@settings(max_examples=200)
@given(first=IDS, second=IDS)
def test_tool_names_are_short_plain_and_each_of_one_workflow(first: str, second: str) -> None:
    for workflow_id in (first, second):
        assert re.fullmatch(rf"wf_[A-Za-z0-9_-]{{1,{MAX_NAME - 3}}}", tool_name(workflow_id))
    if first != second:
        assert tool_name(first) != tool_name(second)


def test_a_plain_id_is_kept_whole() -> None:
    assert tool_name("deploy-all_2") == "wf_deploy-all_2"
    assert tool_name("a.b") != tool_name("a_b")


async def test_workflows_are_tools_only_when_wanted_valid_and_few(project: McpProject) -> None:
    project.write("deploy.yaml", DEPLOY)
    project.write("broken.yaml", "steps: 3\n")
    for number in range(30):
        project.write(f"many{number:02}.yaml", "steps:\n  - {id: a, command: cli true}\n")
    async with project.connect(STATELESS, "--no-workflow-tools") as client:
        names = [tool.name for tool in (await client.list_tools()).tools]
        assert not [name for name in names if name.startswith("wf_")]
    async with project.connect(STATELESS, "--workflow-tools") as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert len([name for name in tools if name.startswith("wf_")]) == MAX_TOOLS
        assert "wf_broken" not in tools
        deploy = tools["wf_deploy"]
        assert deploy.input_schema == {
            "type": "object",
            "properties": {
                "target": {"type": "string", "enum": ["staging", "production"]},
                "copies": {"type": "integer", "default": 1},
                "force": {"type": "boolean", "default": False},
            },
            "required": ["target"],
            "additionalProperties": False,
        }
        assert deploy.annotations is not None
        assert deploy.annotations.read_only_hint is True
        acting = tools["wf_many00"].annotations
        assert acting is not None
        assert (acting.read_only_hint, acting.destructive_hint) == (False, True)
        run = run_of(await client.call_tool("wf_deploy", {"target": "staging", "copies": 3}))
        assert run["outputs"] == {"said": "staging 3"}
        for wrong in ({}, {"target": "moon"}, {"target": "staging", "wait_ms": 3}):
            assert error_of(await client.call_tool("wf_deploy", wrong))["code"] == "inputs.invalid"


async def test_a_workflow_is_a_prompt_whose_arguments_are_completed(
    project: McpProject, era: str
) -> None:
    from mcp.types import PromptReference, ResourceTemplateReference

    from mcp import MCPError

    project.write("deploy.yaml", DEPLOY)
    project.write("broken.yaml", "steps: 3\n")
    async with project.connect(era) as client:
        (prompt,) = (await client.list_prompts()).prompts
        assert (prompt.name, prompt.title, prompt.description) == (
            "deploy", "Deploy", "Ships a version",
        )  # fmt: skip
        assert [(argument.name, argument.required) for argument in prompt.arguments or []] == [
            ("target", True), ("copies", False), ("force", False),
        ]  # fmt: skip
        got: Any = await client.get_prompt("deploy", {"target": "staging", "copies": "2"})
        assert '"copies": 2' in got.messages[0].content.text
        for name, arguments in (
            ("deploy", {}),
            ("deploy", {"target": "staging", "nope": "1"}),
            ("broken", {}),
            ("nope", {}),
        ):
            with pytest.raises(MCPError) as caught:
                await client.get_prompt(name, arguments)
            assert caught.value.error.code == -32602
        reference = PromptReference(type="ref/prompt", name="deploy")

        async def complete(name: str, value: str) -> list[str]:
            found = await client.complete(reference, {"name": name, "value": value})
            return found.completion.values

        assert await complete("target", "") == ["staging", "production"]
        assert await complete("target", "pro") == ["production"]
        assert await complete("force", "") == ["true", "false"]
        assert await complete("nope", "") == []
        template = ResourceTemplateReference(type="ref/resource", uri="workflow://{workflow_id}")
        found = await client.complete(template, {"name": "workflow_id", "value": "dep"})
        assert found.completion.values == ["deploy"]


async def test_workflows_and_runs_are_resources(project: McpProject, era: str) -> None:
    from mcp import MCPError

    project.write("deploy.yaml", DEPLOY)
    async with project.connect(era) as client:
        assert [item.uri for item in (await client.list_resources()).resources] == [
            "workflow://deploy"
        ]
        call = {"workflow": "deploy", "inputs": {"target": "staging"}}
        run = run_of(await client.call_tool("fp_run_workflow", call))
        listed = [item.uri for item in (await client.list_resources()).resources]
        assert listed == ["workflow://deploy", f"run://{run['run_id']}"]
        templates = (await client.list_resource_templates()).resource_templates
        assert {item.uri_template for item in templates} == {
            "workflow://{workflow_id}",
            "run://{run_id}",
        }
        contents: list[Any] = [(await client.read_resource(uri)).contents[0] for uri in listed]
        described, shown = (json.loads(item.text) for item in contents)
        assert {item.mime_type for item in contents} == {"application/json"}
        assert described["inputs"]["required"] == ["target"]
        assert shown["outputs"] == {"said": "staging 1"}
        for uri in ("workflow://nope", "workflow://../../etc/passwd", "run://nope", "run://", "x:"):
            with pytest.raises(MCPError) as caught:
                await client.read_resource(uri)
            assert caught.value.error.code == (-32002 if era == HANDSHAKE else -32602), uri


async def test_a_client_of_the_handshake_era_hears_of_changed_files(project: McpProject) -> None:
    import anyio

    project.write("deploy.yaml", DEPLOY)
    heard: set[str] = set()
    complete = anyio.Event()
    wanted = {f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")}

    async def on_message(message: Any) -> None:
        heard.add(getattr(message, "method", ""))
        if wanted <= heard:
            complete.set()

    async with project.connect(HANDSHAKE, "--workflow-tools", message_handler=on_message) as client:
        assert client.server_capabilities.tools is not None
        assert client.server_capabilities.tools.list_changed
        await client.list_tools()
        project.write("second.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
        with anyio.fail_after(30):
            await complete.wait()
        assert "wf_second" in [tool.name for tool in (await client.list_tools()).tools]


async def test_a_client_of_the_stateless_era_listens_for_changed_files(
    project: McpProject,
) -> None:
    import anyio

    project.write("deploy.yaml", DEPLOY)
    async with project.connect(STATELESS, "--workflow-tools") as client:
        async with client.listen(tools_list_changed=True, prompts_list_changed=True) as events:
            await client.list_tools()
            project.write("second.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
            kinds: set[str] = set()
            with anyio.fail_after(30):
                async for event in events:
                    kinds.add(type(event).__name__)
                    if len(kinds) == 2:
                        break
        assert kinds == {"ToolsListChanged", "PromptsListChanged"}
        assert "second" in [prompt.name for prompt in (await client.list_prompts()).prompts]
