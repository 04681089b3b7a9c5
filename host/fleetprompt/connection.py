"""What the commands that need an agent have in common: opening one, naming a run."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fleetprompt.client import Client
from fleetprompt.roots import chosen_root
from fleetprompt.state_files import open_log
from fleetprompt_protocol.errors import OperatorError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


@asynccontextmanager
async def connected(
    options: argparse.Namespace, *, allow_side_effects: bool = False
) -> AsyncIterator[Client]:
    """An open client for the command's root, whose agent logs into the state directory."""
    root = chosen_root(options.root)
    others = [_command_line(text) for text in getattr(options, "agents", ())]
    log = open_log("agent", root)
    try:
        client = Client(
            root,
            allow_side_effects=allow_side_effects,
            stderr=log,
            actor=_person(),
            agents=others,
        )
        async with client:
            yield client
    finally:
        os.close(log)


def add_agent_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the option that brings in other agents, for steps that call their tools."""
    parser.add_argument(
        "--agent",
        metavar="COMMAND",
        action="append",
        default=[],
        dest="agents",
        help="spawn this agent too, whose tools steps may call (may be given more than once)",
    )


def _command_line(text: str) -> list[str]:
    """The words of an agent's command line; quotes as in a shell, and nothing else of one."""
    import shlex

    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OperatorError(
            "agent.not_started", f"`--agent {text}`: {error}. Close the quotes."
        ) from None
    if not words:
        raise OperatorError("agent.not_started", "`--agent` needs the command line of an agent.")
    return words


def _person() -> dict[str, Any]:
    import getpass

    try:
        return {"type": "human", "id": getpass.getuser()[:128]}
    except (OSError, KeyError):  # no such user in the system's list
        return {"type": "human", "id": str(os.getuid())}


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names a run."""
    parser.add_argument(
        "run",
        metavar="RUN",
        nargs="?",
        default="",
        help="its id or a prefix of it (default: the latest run)",
    )
