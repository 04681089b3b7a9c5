"""Names of files that come from a repository: as bytes, taken apart, and as they are shown."""

from __future__ import annotations

import os

from fleetprompt_indexer.display import display
from fleetprompt_indexer.problem import Problem, Refused

FOLDER = b".fleetprompt"
"""The folder of a repository that FleetPrompt reads."""
WORKFLOWS = b"workflows"
"""The folder in it that holds the workflow files."""
CONFIG = b"config.toml"
"""The configuration file in it."""

FORMATS = {b".yaml": "yaml", b".yml": "yaml", b".json": "json"}
"""File name endings of workflows and the format each stands for."""

MAX_SHOWN = 300
"""Characters of a name that are displayed."""


def is_workflow_name(name: bytes) -> bool:
    """Whether a file of this name is a workflow; hidden ones are an editor's business."""
    return not name.startswith(b".") and os.path.splitext(name)[1].lower() in FORMATS  # noqa: PTH122  # bytes


def shown(name: str | bytes) -> str:
    r"""The name as text for people and JSON: bytes that are not UTF-8 as `\xff`."""
    if isinstance(name, str):
        name = name.encode(
            "utf-8", "surrogatepass" if _has_odd_surrogate(name) else "surrogateescape"
        )
    return display(name.decode("utf-8", "backslashreplace"), MAX_SHOWN)


def _has_odd_surrogate(name: str) -> bool:
    """Whether the text holds a surrogate that does not stand for a byte of a file name."""
    return any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in name)


def parts_of(relative: str | bytes) -> list[bytes]:
    """The parts of a path beneath a root.

    Raises:
        Refused: `file.path` when it is empty, absolute, or goes up.
    """
    try:
        raw = relative if isinstance(relative, bytes) else os.fsencode(relative)
    except UnicodeEncodeError:
        raise Refused(Problem("file.path", "The path holds half of a surrogate pair.")) from None
    parts = raw.split(b"/")
    if b"\0" in raw or any(part in (b"", b".", b"..") for part in parts):
        message = "The path is not one beneath the root: no `..`, no `.`, nothing absolute."
        raise Refused(Problem("file.path", message))
    return parts
