"""The state directory: where it is, and whether it is safe to keep journals in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fleetprompt_protocol.errors import OperatorError

ENVIRONMENT_NAME = "FLEETPROMPT_HOME"
"""Overrides the user's state directory."""


def state_dir_path() -> Path:
    """Where the state directory is, whether it exists or not."""
    named = os.environ.get(ENVIRONMENT_NAME)
    if named:
        return Path(named).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_state_dir("fleetprompt", appauthor=False))


def open_state_dir(root: Path | None = None) -> Path:
    """The state directory, made with mode 0700 when it is missing.

    Args:
        root: The workspace, which must not contain it: its files would be at the mercy of steps.

    Raises:
        OperatorError: `state.unsafe`, or `journal.unavailable` when it cannot be made.
    """
    path = state_dir_path()
    try:
        real = path.resolve()
        if root is not None and real.is_relative_to(root):
            # Before anything is made: nothing is written into a workspace.
            raise _unsafe(path, f"lies inside the workspace {root}")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = path.stat()
    except OSError as error:
        raise OperatorError(
            "journal.unavailable",
            f"The state directory {path} cannot be used: {error.strerror}. "
            f"Mend that, or name another one with {ENVIRONMENT_NAME}.",
        ) from error
    if status.st_uid != os.getuid():
        raise _unsafe(path, "belongs to another user")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _unsafe(path, "can be written by other users (chmod 700 it)")
    return real


def _unsafe(path: Path, why: str) -> OperatorError:
    return OperatorError(
        "state.unsafe",
        f"The state directory {path} {why}. Mend that, or name another one with "
        f"{ENVIRONMENT_NAME}.",
    )
