"""Looking through a tree of folders for roots."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fleetprompt_indexer.names import FOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PRUNED = frozenset(
    name.encode()
    for name in (
        *(".git", ".hg", ".svn", ".jj"),
        *("node_modules", "bower_components", "vendor", "target", "site-packages", "dist-packages"),
        *(
            ".venv",
            "venv",
            ".virtualenvs",
            ".tox",
            ".nox",
            "__pycache__",
            ".eggs",
            "__pypackages__",
        ),
        *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".ipynb_checkpoints"),
        *(".cache", ".npm", ".yarn", ".pnpm-store", ".cargo", ".rustup", ".gradle", ".m2"),
        *(".terraform", ".next", ".nuxt", ".turbo", ".parcel-cache", ".direnv", ".Trash"),
        *("lost+found", ".snapshots", ".zfs"),
    )
)
"""Names of folders that are made by programs, may be huge, and hold no root of anyone's own."""

PRUNED_PATHS = frozenset({b"/proc", b"/sys", b"/dev", b"/run", b"/System", b"/private/var"})
"""Folders of the operating system."""


REPORT_EVERY = 500
"""Folders between two reports; a warm one takes some ten microseconds, a cold one far longer."""


def discover(
    top: bytes, *, on_folders: Callable[[int, bytes], None] | None = None
) -> Iterator[bytes]:
    """The paths of the folders at and beneath `top` that have a `.fleetprompt` of their own.

    Symbolic links are not followed, and folders that may not be read are passed over. Roots within
    roots are found too.

    Args:
        top: Where to begin.
        on_folders: Told now and then how many folders were looked through, and the last of them.
    """
    stack = [top]
    count = 0
    while stack:
        path = stack.pop()
        count += 1
        if on_folders is not None and count % REPORT_EVERY == 0:
            on_folders(count, path)
        try:
            with os.scandir(path) as found:
                for item in found:
                    name = item.name
                    if name in PRUNED or not item.is_dir(follow_symlinks=False):
                        continue
                    if name == FOLDER:
                        yield path
                    elif (inner := item.path) not in PRUNED_PATHS:
                        stack.append(inner)
        except OSError:
            continue
