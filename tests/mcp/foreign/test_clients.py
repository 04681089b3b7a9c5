"""Clients that nobody here wrote: the TypeScript SDK and the Inspector, on the real command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.mcp_project import McpProject
    from fleetprompt_testing.node import Node

RELEASE = """\
description: Ships it
inputs:
  level: {type: string, enum: [minor, major], default: minor}
steps:
  - {id: collect, tool: flow:set, with: {text: "three commits"}}
  - id: publish
    command: cli sh -c 'echo x >> done'
    approval: {prompt: "Ship it?", preview: $collect.json.text}
"""


@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_the_typescript_client_lists_runs_and_approves(
    node: Node, project: McpProject, era: str
) -> None:
    project.write("release.yaml", RELEASE)
    done = node.run("client.mjs", era, *project.argv, env=project.environ)
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert "fp_run_workflow" in seen["tools"]
    run = seen["run"]["structuredContent"]
    assert run["status"] == "succeeded"
    assert (project.root / "done").read_text() == "x\n"
    (form,) = seen["forms"]
    assert "Ship it?" in form
    assert run["run_id"] in seen["progress"][0]
    assert seen["bad"]["isError"] is True
    assert seen["prompts"] == ["release"]
    assert seen["resources"] == ["workflow://release", f"run://{run['run_id']}"]
    assert seen["workflow"]["inputs"]["properties"]["level"]["enum"] == ["minor", "major"]


INSPECTOR = "node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js"


def inspect(node: Node, project: McpProject, *arguments: str) -> Any:
    """What the Inspector's command line prints."""
    done = node.run(INSPECTOR, "--cli", *project.argv, *arguments, env=project.environ)
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def test_the_inspector_sees_tools_prompts_and_resources(node: Node, project: McpProject) -> None:
    project.write("release.yaml", RELEASE)
    tools = inspect(node, project, "--workflow-tools", "--method", "tools/list")["tools"]
    assert {"fp_run_workflow", "wf_release"} <= {tool["name"] for tool in tools}
    (prompt,) = inspect(node, project, "--method", "prompts/list")["prompts"]
    assert [argument["name"] for argument in prompt["arguments"]] == ["level"]
    message = inspect(
        node, project, "--method", "prompts/get", "--prompt-name", "release",
        "--prompt-args", "level=major",
    )  # fmt: skip
    assert '"level": "major"' in message["messages"][0]["content"]["text"]
    resources = inspect(node, project, "--method", "resources/list")["resources"]
    assert [resource["uri"] for resource in resources] == ["workflow://release"]
    templates = inspect(node, project, "--method", "resources/templates/list")
    assert len(templates["resourceTemplates"]) == 2
    read = inspect(node, project, "--method", "resources/read", "--uri", "workflow://release")
    assert json.loads(read["contents"][0]["text"])["workflow_id"] == "release"


def test_the_inspector_calls_tools_and_is_told_how_a_person_decides(
    node: Node, project: McpProject
) -> None:
    project.write("release.yaml", RELEASE)
    result = inspect(
        node, project, "--method", "tools/call", "--tool-name", "fp_run_workflow",
        "--tool-arg", "workflow=release",
    )  # fmt: skip
    run = result["structuredContent"]
    assert run["status"] == "waiting"
    assert f"fleetprompt approve {run['run_id']}" in run["next"]


def test_the_inspector_finds_no_fault_in_the_schemas(node: Node, project: McpProject) -> None:
    done = node.run(
        INSPECTOR, "--cli", *project.argv, "--tools", "all", "--method", "tools/list", "--strict",
        env=project.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "0 errors" in done.stdout + done.stderr
