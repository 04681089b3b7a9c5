"""Which file a program's name means, and what stands in it.

The search path is the caller's without the entries that someone else could have filled: relative
ones, those inside the workspace, those of another user, and those that everybody may write to.
"""

from __future__ import annotations

import hashlib
import os
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


class SearchPath(NamedTuple):
    """A cleaned `PATH`."""

    entries: tuple[str, ...]
    """In order."""
    inside: tuple[str, ...]
    """Entries left out because they lie in the workspace: the ones an author will ask about."""

    @property
    def text(self) -> str:
        """As the program's own `PATH`."""
        return os.pathsep.join(self.entries)


def search_path(path: str, root: Path) -> SearchPath:
    """The caller's `PATH` without what cannot be trusted. Looks at the file system every time."""
    uid = os.geteuid()
    entries: list[str] = []
    inside: list[str] = []
    for entry in path.split(os.pathsep):
        if not os.path.isabs(entry) or entry in entries:  # noqa: PTH117 - hot: runs for each step
            continue
        try:
            info = os.stat(entry)  # noqa: PTH116 - as above
        except (OSError, ValueError):
            continue
        if not stat.S_ISDIR(info.st_mode) or info.st_uid not in (0, uid):
            continue
        if info.st_mode & stat.S_IWOTH:
            continue
        if _lies_in(entry, str(root), (info.st_dev, info.st_ino)):
            inside.append(entry)
        else:
            entries.append(entry)
    return SearchPath(tuple(entries), tuple(inside))


@lru_cache(maxsize=512)
def _lies_in(entry: str, root: str, identity: tuple[int, int]) -> bool:  # noqa: ARG001 - part of the key
    """Whether a directory is the root or beneath it; `realpath` is too slow for every step."""
    real, real_root = os.path.realpath(entry), os.path.realpath(root)
    return real == real_root or real.startswith(real_root.rstrip("/") + "/")


def find_program(name: str, path: SearchPath, root: Path) -> str:
    """The absolute path of a program.

    A name with a slash is a path as written: relative ones belong to the workspace, absolute ones
    are taken as they are. Any other name is looked for on the search path.

    Raises:
        RequestError: `cli.not_found`, `cli.not_executable`.
    """
    if "/" in name:
        return _written_path(name, root)
    for entry in path.entries:
        candidate = f"{entry}/{name}"
        if _is_program(candidate):
            return candidate
    hint = "Install it, or name it by its path."
    for entry in path.inside:
        if _is_program(f"{entry}/{name}"):
            relative = os.path.relpath(f"{entry}/{name}", root)
            hint = (
                "The workspace holds one, which is not searched for names; "
                f"if you mean it, write `./{relative}`."
            )
            break
    raise RequestError(
        "cli.not_found",
        f"There is no program `{name}` on the search path. {hint}",
        details={"program": name, "searched": list(path.entries)},
    )


def _written_path(name: str, root: Path) -> str:
    if os.path.isabs(name):  # noqa: PTH117 - a string is wanted
        path = name
    else:
        path = os.path.normpath(f"{root}/{name}")
        if not path.startswith(f"{root}/".replace("//", "/")):
            raise RequestError(
                "cli.not_found",
                f"`{name}` leaves the workspace. Name a program outside it by its absolute path.",
                details={"program": name},
            )
    if _is_program(path):
        return path
    if os.path.lexists(path):
        raise RequestError(
            "cli.not_executable",
            f"`{name}` is not an executable file. Check its type and permissions (`chmod +x`).",
            details={"program": path, "errno": "EACCES"},
        )
    raise RequestError("cli.not_found", f"There is no program `{name}`.", details={"program": path})


def _is_program(path: str) -> bool:
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 - hot: runs for each entry of the search path
    except (OSError, ValueError):
        return False
    return stat.S_ISREG(mode) and os.access(path, os.X_OK)


def program_sha256(path: str) -> str | None:
    """The digest (hex) of a program's file; None when it cannot be read."""
    try:
        with open(path, "rb") as file:
            info = os.fstat(file.fileno())
            signature = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            return _file_sha256(path, signature)
    except OSError:
        return None


@lru_cache(maxsize=256)
def _file_sha256(path: str, signature: tuple[int, ...]) -> str:  # noqa: ARG001 - part of the key
    """By path and stat signature: a large program is not read again for every gate."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
