"""What the commands that need an agent have in common: opening one, naming a run."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fleetprompt.client import Client
from fleetprompt.state_files import open_log
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator


@asynccontextmanager
async def connected(
    options: argparse.Namespace, *, allow_side_effects: bool = False
) -> AsyncIterator[Client]:
    """An open client for the command's root, whose agent logs into the state directory."""
    log = open_log("agent")
    try:
        client = Client(
            options.root, allow_side_effects=allow_side_effects, stderr=log, actor=_person()
        )
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


async def named_run(client: Client, given: str | None) -> str:
    """The id of the run that a person named by a prefix of its id, or not at all: the latest.

    Raises:
        RequestError: there is no such run, or several.
    """
    if given is not None:
        return (await client.get(given)).run_id
    latest = await client.runs(limit=1)
    if not latest:
        raise RequestError("run.not_found", f"There is no run of {client.root} yet.")
    return str(latest[0]["run_id"])


def add_run_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the argument that names a run."""
    parser.add_argument(
        "run", metavar="RUN", nargs="?", help="its id or a prefix of it (default: the latest run)"
    )
