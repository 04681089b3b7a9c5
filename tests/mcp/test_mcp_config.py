"""`fleetprompt mcp-config`: what it prints works."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt.commands.mcp_config import CLIENTS

if TYPE_CHECKING:
    from fleetprompt_testing.mcp_project import McpProject


def printed(project: McpProject, *arguments: str) -> tuple[Any, str]:
    """The document and what was said beside it."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fleetprompt", "mcp-config", *arguments],
        cwd=project.root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("client", CLIENTS)
def test_what_is_printed_spawns_an_agent_for_this_repository(
    project: McpProject, client: str
) -> None:
    config, note = printed(project, "--client", client)
    (section,) = config
    entry = config[section]["fleetprompt"]
    assert section == CLIENTS[client].section
    assert CLIENTS[client].file in note
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n'
    done = subprocess.run(
        [entry["command"], *entry["args"]],
        input=ping,
        cwd="/",
        env={"FLEETPROMPT_HOME": str(project.home), **entry["env"]},
        capture_output=True,
    )
    assert json.loads(done.stdout) == {"jsonrpc": "2.0", "id": 1, "result": {}}
    assert entry["args"][-2:] == ["--root", str(project.root)]


def test_flags_are_handed_on_and_programs_get_one_document(project: McpProject) -> None:
    flags = ["--workflow-tools", "--no-elicitation", "--allow-side-effects"]
    document, note = printed(project, "--client", "zed", *flags, "--json")
    assert (document["client"], document["file"], note) == ("zed", "settings.json", "")
    arguments = document["config"]["context_servers"]["fleetprompt"]["args"]
    assert arguments[-3:] == flags
