"""What the commands that need an agent have in common: opening one, naming a run."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fleetprompt.client import Client
from fleetprompt.roots import chosen_root
from fleetprompt.state_files import open_log

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


@asynccontextmanager
async def connected(
    options: argparse.Namespace, *, allow_side_effects: bool = False
) -> AsyncIterator[Client]:
    """An open client for the command's root, whose agent logs into the state directory."""
    root = chosen_root(options.root)
    log = open_log("agent", root)
    try:
        client = Client(root, allow_side_effects=allow_side_effects, stderr=log, actor=_person())
        async with client:
            yield client
    finally:
        os.close(log)


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
