"""Which file a program's name means, and what stands in it.

The search path is the caller's without the entries that someone else could have filled: relative
ones, those inside the workspace, those of another user, and those that everybody may write to.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path


TRUST_S = 1.0
"""Looking at every entry for every step cost 0.06 ms of the 0.4 that a step costs the agent."""


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


class PathCleaner:
    """Takes out of a `PATH` what cannot be trusted.

    Args:
        path: The caller's `PATH`.
    """

    def __init__(self, path: str) -> None:
        # Each absolute entry once, in order.
        entries = dict.fromkeys(path.split(os.pathsep))
        self._entries = [entry for entry in entries if os.path.isabs(entry)]  # noqa: PTH117 - str
        self._trusted = (0, os.geteuid())
        self._seen: dict[tuple[str, Path], tuple[float, bool]] = {}

    def clean(self, root: Path) -> SearchPath:
        """The search path for the steps of one workspace, as the file system is now.

        An entry that was fit is not looked at again for `TRUST_S`, one that was not is looked at
        every time: a directory that a step has made is searched by the next.
        """
        now = time.monotonic()
        entries: list[str] = []
        inside: list[str] = []
        for entry in self._entries:
            until, is_inside = self._seen.get((entry, root), (0.0, False))
            if until < now:
                if not self._is_fit(entry):
                    continue
                is_inside = _lies_in(entry, root)
                self._seen[entry, root] = (now + TRUST_S, is_inside)
            (inside if is_inside else entries).append(entry)
        return SearchPath(tuple(entries), tuple(inside))

    def _is_fit(self, entry: str) -> bool:
        try:
            info = os.stat(entry)  # noqa: PTH116 - a string is at hand
        except (OSError, ValueError):
            return False
        writable_by_all = info.st_mode & stat.S_IWOTH
        return stat.S_ISDIR(info.st_mode) and not writable_by_all and info.st_uid in self._trusted


def _lies_in(entry: str, root: Path) -> bool:
    """Whether a directory is the root or beneath it, however either is spelled."""
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
    # access first: it does not raise, and most entries of a search path do not hold the program.
    try:
        return os.access(path, os.X_OK) and stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - hot
    except (OSError, ValueError):
        return False


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
