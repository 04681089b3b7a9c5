"""What a plan finds on this machine: programs on the search path, files beneath the root."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import FleetPromptError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.models import Workflow
    from fleetprompt_agent.language.plan import Json

MAX_USED_BYTES = 16 << 20
"""Of one file under `uses:`."""


def used_sha256(root: Path, path: str) -> str | None:
    """The digest (hex) of a file under `uses:`; None when it cannot be read.

    Args:
        root: The root of the repository.
        path: Relative to it; no link is followed.
    """
    from fleetprompt_indexer.reader import read_file

    try:
        return read_file(root, path, max_bytes=MAX_USED_BYTES).sha256
    except FleetPromptError:
        return None


def report_missing(workflow: Workflow, root: Path, report: Report) -> None:
    """Report each file under `uses:` that is not there, or cannot be read."""
    for field, steps in (("steps", workflow.steps), ("finally", workflow.finally_)):
        for number, step in enumerate(steps):
            for place, path in enumerate(step.uses):
                _report_missing(path, (field, number, "uses", place), root, report)


def _report_missing(path: str, location: Location, root: Path, report: Report) -> None:
    from fleetprompt_indexer.reader import file_fault

    fault = file_fault(root, path, max_bytes=MAX_USED_BYTES)
    if fault is None:
        return
    message = f"there is no file `{path}`"
    if fault.code != "file.missing":
        why = fault.message.removesuffix(".")
        message = f"`{path}` cannot be used: {why[:1].lower()}{why[1:]}"
    report.add(fault.code, message, location)


class Machine:
    """The surroundings of the plans of one root.

    Args:
        root: The root of the repository, absolute.
        path: The caller's `PATH`.
        entries: Configuration and tool schema by tool id, for tools that have one.
    """

    def __init__(self, root: Path, path: str, entries: Mapping[str, Json] | None = None) -> None:
        from fleetprompt_agent.steps.programs import PathCleaner

        self._root = root
        self._path = PathCleaner(path).clean(root)
        self._entries = entries or {}

    def program(self, name: str) -> tuple[str, str | None] | None:
        """Its path, and its digest when it lies in the workspace or this user could change it."""
        from fleetprompt_agent.steps.programs import find_program, program_sha256

        try:
            found = find_program(name, self._path, self._root)
        except FleetPromptError:
            return None
        real = os.path.realpath(found)
        root = os.path.realpath(self._root)
        may_change = real.startswith(f"{root}{os.sep}") or os.access(real, os.W_OK)
        return found, (program_sha256(real) or "unreadable") if may_change else None

    def file(self, path: str) -> str | None:
        """The digest of a file; links are not followed."""
        return used_sha256(self._root, path)

    def entry(self, tool_id: str) -> Json:
        """What was given for the tool."""
        return self._entries.get(tool_id)
