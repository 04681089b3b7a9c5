"""Finding the root that a folder belongs to; light, for programs that start often."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from fleetprompt_indexer.names import FOLDER


def find_root(start: Path) -> Path | None:
    """The nearest folder with a `.fleetprompt/` of its own, upwards from `start`; None without one.

    The search does not leave the file system or go to a folder of another owner than the user or
    the owner of `start`, and it neither passes the home folder nor ends there, unless it starts
    there: what lies above is not part of the work that was asked for, and may be anyone's.
    """
    try:
        here = start.resolve(strict=True)
        here = here if here.is_dir() else here.parent
        status = here.stat()
    except (OSError, RuntimeError, ValueError):
        return None
    owners = {os.geteuid(), status.st_uid}
    home = _home()
    for folder in (here, *here.parents):
        try:
            current = folder.stat()
            if current.st_dev != status.st_dev or current.st_uid not in owners:
                return None
            if folder == home and folder != here:
                return None
            inner = (folder / os.fsdecode(FOLDER)).lstat()
        except FileNotFoundError:
            continue
        except OSError:
            return None
        if _is_own_folder(inner, status.st_dev, owners):
            return folder
    return None


def _home() -> Path | None:
    try:
        return Path.home().resolve()
    except (OSError, RuntimeError):
        return None


def _is_own_folder(status: os.stat_result, device: int, owners: set[int]) -> bool:
    return stat.S_ISDIR(status.st_mode) and status.st_dev == device and status.st_uid in owners
