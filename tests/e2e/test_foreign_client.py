"""A host that shares no code with us: Node's `vscode-jsonrpc`, over Content-Length framing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import Workspace

FOLDER = Path(__file__).with_name("node")
NODE = shutil.which("node")

if NODE is None:
    pytest.skip("there is no `node` on the path", allow_module_level=True)
if not (FOLDER / "node_modules/vscode-jsonrpc").is_dir():
    pytest.skip("`npm ci` was not run in tests/e2e/node", allow_module_level=True)


def hosted(workspace: Workspace, scenario: str, *flags: str) -> dict[str, Any]:
    """What the host in Node has seen of an agent."""
    agent = [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", str(workspace.root)]
    done = subprocess.run(
        [str(NODE), str(FOLDER / "foreign_host.mjs"), scenario, *agent, *flags],
        capture_output=True,
        text=True,
        env={**os.environ, "FLEETPROMPT_HOME": str(workspace.home)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout)
    assert seen["exit_code"] == 0, done.stderr
    return seen


def test_it_greets_an_agent_that_has_a_token_and_follows_a_run(workspace: Workspace) -> None:
    workspace.write("greet.yaml", "steps:\n  - {id: say, command: cli echo from python}\n")
    seen = hosted(workspace, "run", "--framing", "content-length", "--allow-side-effects")
    assert seen["hello"]["session_token"] == "a-token-of-node"
    assert "com.fleetprompt.core/fp_run_workflow" in seen["registered"]
    result = seen["result"]
    assert (result["status"], result["output"]["output"]) == ("succeeded", "from python")
    assert result["meta"]["correlation_id"] == "line-node"
    chunks = seen["chunks"]
    assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    states = [chunk["data"]["state"] for chunk in chunks if chunk["channel"] == "status"]
    assert states == ["started", "completed", "completed"]
    assert {chunk["meta"]["request_id"] for chunk in chunks} == {"req-node"}


def test_the_librarys_own_cancel_gives_the_result_of_a_canceled_run(workspace: Workspace) -> None:
    workspace.write("slow.yaml", "steps:\n  - {id: nap, command: cli sleep 1000}\n")
    seen = hosted(workspace, "cancel", "--framing", "content-length", "--allow-side-effects")
    assert seen["result"]["status"] == "canceled"
    assert [step["status"] for step in seen["result"]["output"]["steps"]] == ["canceled"]
    assert seen["errors"] == []


def test_without_a_token_the_framing_is_found_out_and_the_greeting_follows(
    workspace: Workspace,
) -> None:
    workspace.write("greet.yaml", "steps:\n  - {id: say, command: cli echo hi}\n")
    seen = hosted(workspace, "without-token")
    assert [flow["workflow_id"] for flow in seen["listed"]["workflows"]] == ["greet"]
    assert seen["ping"]["ts"]
    assert "session_token" not in seen["hello"]
    assert seen["registered"]


def test_errors_arrive_with_their_numbers_and_codes(workspace: Workspace) -> None:
    seen = hosted(workspace, "errors", "--framing", "content-length")
    codes = [(error["code"], error["data"]["code"]) for error in seen["errors"]]
    assert codes == [
        (-32601, "protocol.method_not_found"),
        (-32602, "protocol.invalid_params"),
    ]
