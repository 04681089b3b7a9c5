"""Fetches the lines of workflow files that errors point at."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import FleetPromptError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def read_sources(root: str | Path | None, files: Iterable[str]) -> dict[str, list[str]]:
    """The lines of each file that can be read safely beneath the root, by its relative path.

    An error is shown without its source rather than not at all: what cannot be read is left out.
    """
    sources: dict[str, list[str]] = {}
    for file in files:
        try:
            sources[file] = _lines(root, file)
        except (FleetPromptError, OSError, ValueError):
            continue
    return sources


def _lines(root: str | Path | None, file: str) -> list[str]:
    from fleetprompt.roots import chosen_root
    from fleetprompt_indexer.reader import read_file

    content = read_file(chosen_root(root), file)
    return content.data.decode("utf-8-sig", "replace").split("\n")
