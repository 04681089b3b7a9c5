"""Hearing of changed workflow files, for clients and hosts that keep lists of them."""

from __future__ import annotations

import os
from contextlib import aclosing
from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import FleetPromptError
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from fleetprompt_agent.agent import Agent
    from fleetprompt_indexer.index import Change

log = get_logger("changes")


async def workflow_changes(agent: Agent) -> AsyncGenerator[list[Change], None]:
    """What becomes of the project's workflow files, in batches.

    The first batch, often empty, comes when the watch stands and is what the catalog did not know.
    It ends, with a line in the log, where files cannot be watched.
    """
    from fleetprompt_agent.state_dir import open_state_dir
    from fleetprompt_indexer.catalog import Catalog
    from fleetprompt_indexer.watch import watch_roots

    try:
        with Catalog(open_state_dir(agent.root) / "catalog.db") as catalog:
            roots = [os.fsencode(agent.root)]
            async with aclosing(watch_roots(catalog, roots, on_notice=_notice)) as batches:
                async for changes in batches:
                    yield changes
    except FleetPromptError as error:
        log.warning("changes.not_watching", code=error.code, message=error.message)


def _notice(text: str) -> None:
    log.warning("changes.watch", text=text)
