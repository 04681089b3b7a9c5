"""Whether processes of a step live on: found by a mark in their environment."""

from __future__ import annotations

import os
import select
from pathlib import Path


def survivors(mark: str) -> list[int]:
    """Pids of live processes, this one aside, whose environment holds the mark."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX" and mark.encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid()]


def wait_until_gone(mark: str) -> None:
    """Wait for the kernel to tell the end of each process, one after the other."""
    for pid in survivors(mark):
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([descriptor], [], [], 30)[0], f"process {pid} lives on"
        os.close(descriptor)
    assert survivors(mark) == []
