"""Names of files that come from a repository: as bytes, taken apart, and as they are shown."""

from __future__ import annotations

import os

from fleetprompt_indexer.display import display_name

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
    return not name.startswith(b".") and ending_of(name) in FORMATS


def ending_of(name: bytes) -> bytes:
    """What follows the last dot of a file's name or path, the dot included, in small letters."""
    return name[name.rfind(b".") :].lower()


def raw(name: str) -> bytes:
    """The bytes that a file of this name has; other bytes when no file can have it."""
    try:
        return os.fsencode(name)
    except UnicodeEncodeError:
        return name.encode("utf-8", "surrogatepass")


def shown(name: str | bytes) -> str:
    r"""The name as text for people and JSON: bytes that are not UTF-8 as `\xff`."""
    data = name if isinstance(name, bytes) else raw(name)
    return display_name(data.decode("utf-8", "backslashreplace"), MAX_SHOWN)


def parts_of(relative: str | bytes) -> list[bytes]:
    """The parts of a path beneath a root.

    Raises:
        Refused: `file.path` when it is empty, absolute, or goes up.
    """
    data = relative if isinstance(relative, bytes) else raw(relative)
    parts = data.split(b"/")
    if b"\0" in data or any(part in (b"", b".", b"..") for part in parts):
        from fleetprompt_indexer.problem import Problem, Refused

        message = "The path is not one beneath the root: no `..`, no `.`, nothing absolute."
        raise Refused(Problem("file.path", message))
    return parts
