"""Which process keeps others from writing to a SQLite file, as far as the kernel tells."""

from __future__ import annotations

import os
from pathlib import Path

WAL_WRITE_LOCK_BYTE = 120
"""The byte of the `-shm` file that a writer of a WAL database locks (SQLite, walformat.html)."""


def writer_of(database: Path) -> int | None:
    """The pid of the process that holds the write lock, or None when it cannot be told.

    It is read from the kernel's list: opening the lock file and asking would, on closing it, drop
    every lock that SQLite itself holds for this process.
    """
    try:
        locks = Path("/proc/locks").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    shared = _identity(Path(f"{database}-shm"))
    main = _identity(database)
    for line in locks.splitlines():
        fields = line.split()
        # `1: POSIX ADVISORY WRITE 1234 fe:00:5678 120 120`
        if len(fields) != 8 or fields[3] != "WRITE" or not fields[4].isdecimal():
            continue
        held = fields[5] == main or (fields[5] == shared and _covers(fields[6], fields[7]))
        if held and int(fields[4]) not in (0, os.getpid()):
            return int(fields[4])
    return None


def _identity(path: Path) -> str | None:
    """The file as the kernel's list names it."""
    try:
        status = path.stat()
    except OSError:
        return None
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"


def _covers(first: str, last: str) -> bool:
    return int(first) <= WAL_WRITE_LOCK_BYTE and (last == "EOF" or int(last) >= WAL_WRITE_LOCK_BYTE)
