"""The host's own files in the user's state directory: what agents log, and faults of ours."""

from __future__ import annotations

import os
import secrets
import traceback
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import FleetPromptError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_LOG_BYTES = 8 * 1024 * 1024
"""Past this a log is put aside; one old one is kept."""


def log_path(name: str) -> Path:
    """Where the log with this name (`agent`, `host`) is kept."""
    from fleetprompt_agent.state_dir import state_dir_path

    return state_dir_path() / "log" / f"{name}.log"


def open_log(name: str, root: Path | None = None) -> int:
    """A descriptor that appends to a log; the null device when the log cannot be kept.

    A log is never worth failing for: what is wrong with the state directory is said by whoever
    needs it.

    Args:
        name: As for `log_path`.
        root: The workspace; nothing is written into it.
    """
    from fleetprompt_agent.state_dir import open_state_dir

    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        path = open_state_dir(root) / "log" / f"{name}.log"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.is_file() and path.stat().st_size > _MAX_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
        return os.open(path, flags, 0o600)
    except (OSError, FleetPromptError):
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def record_fault(error: BaseException) -> str:
    """Write a fault of ours with its traceback to the host's log; gives the reference to it."""
    reference = secrets.token_hex(6)
    text = "".join(traceback.format_exception(error))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    fd = open_log("host")
    try:
        os.write(fd, f"{at} fault {reference}\n{text}\n".encode("utf-8", "backslashreplace"))
    finally:
        os.close(fd)
    return reference
