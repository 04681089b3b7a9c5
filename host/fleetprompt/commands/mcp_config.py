"""`mcp-config`: what an MCP client must be told to spawn the agent; nothing is written."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import write_json, write_lines
from fleetprompt.roots import chosen_root

if TYPE_CHECKING:
    import argparse

SERVER_NAME = "fleetprompt"


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """Where a client looks for its MCP servers, and in which words."""

    file: str
    """The file, as a person would look for it."""
    section: str
    """The field that holds the servers by name."""
    extra: tuple[tuple[str, Any], ...] = ()
    """What an entry says beside its command."""
    is_shared: bool = False
    """Whether the file stands in the repository, so that `.` can be the root."""


CLIENTS: dict[str, ClientConfig] = {
    "claude-code": ClientConfig(".mcp.json", "mcpServers", is_shared=True),
    "claude-desktop": ClientConfig("claude_desktop_config.json", "mcpServers"),
    "vscode": ClientConfig(".vscode/mcp.json", "servers", (("type", "stdio"),), is_shared=True),
    "cursor": ClientConfig(".cursor/mcp.json", "mcpServers", is_shared=True),
    "zed": ClientConfig("settings.json", "context_servers", (("source", "custom"),)),
}
"""By the name that `--client` takes."""


def add_mcp_config(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt mcp-config`."""
    parser.add_argument(
        "--client", choices=tuple(CLIENTS), required=True, help="whose configuration is wanted"
    )
    parser.add_argument(
        "--workflow-tools",
        action="store_true",
        help="show each valid workflow as a tool of its own",
    )
    parser.add_argument(
        "--no-elicitation",
        action="store_true",
        help="let nobody decide in a form of the client, only at a terminal",
    )
    parser.add_argument(
        "--allow-side-effects",
        action="store_true",
        help="let runs that the client starts have side effects without asking first",
    )
    parser.set_defaults(act=_mcp_config)


def _mcp_config(options: argparse.Namespace) -> int:
    root = chosen_root(options.root)
    client = CLIENTS[options.client]
    command, *arguments = _agent_command()
    arguments += ["agent", "--root", str(root)]
    if options.workflow_tools:
        arguments.append("--workflow-tools")
    if options.no_elicitation:
        arguments.append("--no-elicitation")
    if options.allow_side_effects:
        arguments.append("--allow-side-effects")
    entry = {**dict(client.extra), "command": command, "args": arguments, "env": {}}
    config = {client.section: {SERVER_NAME: entry}}
    if options.json:
        write_json({"client": options.client, "file": client.file, "config": config})
        return ExitCode.SUCCEEDED
    write_lines([json.dumps(config, indent=2, ensure_ascii=False)])
    write_lines(_notes(options.client, client, root, [command, *arguments]), sys.stderr)
    return ExitCode.SUCCEEDED


def _notes(name: str, client: ClientConfig, root: Path, command: list[str]) -> list[str]:
    place = f"{root}/{client.file}" if client.is_shared else f"the {client.file} of {name}"
    lines = [f"Put this into {place}, beside the servers that it already names."]
    if client.is_shared:
        lines.append("It names paths of this machine: keep it out of the repository's history.")
    if name == "claude-code":
        lines.append(f"Or run: claude mcp add {SERVER_NAME} -- {shlex.join(command)}")
    return lines


def _agent_command() -> list[str]:
    """The command by its full path: a client that starts from a desktop knows no search path."""
    here = Path(sys.argv[0])
    if here.name == "fleetprompt" and here.is_file():
        return [str(here.absolute())]
    found = shutil.which("fleetprompt", path=str(Path(sys.executable).parent))
    return [found] if found is not None else [sys.executable, "-P", "-m", "fleetprompt"]
