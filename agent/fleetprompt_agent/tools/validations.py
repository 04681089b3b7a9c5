"""Handing what validation found to the catalog, which lists it for as long as the bytes stay.

That holds only for a workflow that is one file: what rests on others (embedded workflows, files
under `uses:`) is not handed over, since the catalog would not notice a change of those.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.errors import FleetPromptError
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = get_logger("tools")

_WAIT_S = 2.0
"""For a catalog that is being written; a validation is answered without it rather than late."""


async def keep_validations(root: Path, found: Sequence[tuple[bytes, dict[str, Any]]]) -> None:
    """Keep validations in the catalog, when there is one; never raises for what becomes of it.

    Args:
        root: The workspace.
        found: The path of each file and its validity, as the validating tools give it; only of
            workflows whose validity rests on these bytes alone.
    """
    from fleetprompt_agent.state_dir import state_dir_path

    path = state_dir_path() / "catalog.db"
    if found and path.is_file():
        await asyncio.to_thread(_keep, path, root, found)


def _keep(path: Path, root: Path, found: Sequence[tuple[bytes, dict[str, Any]]]) -> None:
    from fleetprompt_indexer.catalog import Catalog

    try:
        with Catalog(path, wait_s=_WAIT_S) as catalog:
            for notice in catalog.notices:
                log.warning("tools.catalog", text=notice)
            for relative, validity in found:
                catalog.mark_validated(
                    root,
                    relative,
                    sha256=validity["sha256"],
                    is_valid=validity["valid"],
                    digest=validity["digest"],
                    diagnostics=validity["diagnostics"],
                )
    except FleetPromptError as error:
        log.warning("tools.not_kept", code=error.code, message=error.message)
