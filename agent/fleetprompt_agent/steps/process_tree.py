"""The processes below this one, and how to end them without ever hitting another.

Theory of operation. The caller is a *subreaper*: when any process below it dies, that one's
children become the caller's own. Three facts follow, and everything here rests on them:

* The tree is empty exactly when `waitpid` says that there is no child (ECHILD).
* Killing direct children, reaping them and repeating reaches every descendant, `setsid` and double
  forks included. A direct child that was not reaped cannot have its id reused: no race.
* A step's first process leads a session of its own, so each process group below consists of
  descendants only; the kernel signals a group atomically against `fork`, which ends fork storms.

Where there is no subreaper (macOS) a step's processes are its first process's group: a descendant
that leaves the group is not found.

This runs inside the keepers: only cheap modules of the standard library may be imported.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

SUBREAPER = sys.platform == "linux"
"""Whether orphans below a process come back to it."""


class Usage:
    """What reaped processes have used, in total."""

    def __init__(self) -> None:
        self.cpu_us = 0
        """User and system time, with that of the children they waited for."""
        self.max_rss_kb = 0
        """The largest. The kernel counts a spawned process from the size of its spawner."""


def children_of(pid: int) -> list[int]:
    """The direct children of a process, zombies included; empty when it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - pathlib is not imported here
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found.extend(int(word) for word in file.read().split())
    except FileNotFoundError:
        return found if _KERNEL_LISTS_CHILDREN else _children_by_scan(pid)
    except OSError:
        pass
    return found


def _children_by_scan(pid: int) -> list[int]:
    """The same for a kernel without `children` files: by the parent named in every `stat`."""
    names = os.listdir("/proc")  # noqa: PTH208 - as above
    return [int(name) for name in names if name.isdigit() and _parent_of(int(name)) == pid]


_KERNEL_LISTS_CHILDREN = os.path.exists(  # noqa: PTH110 - pathlib is not imported here
    f"/proc/self/task/{os.getpid()}/children"
)


def _parent_of(pid: int) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything; what follows the last one is fixed.
    return int(stat[stat.rindex(b")") + 2 :].split(maxsplit=2)[1])


def signal_descendants(signums: tuple[int, ...]) -> None:
    """Sends the signals once to every process below this one.

    The tree is looked at in full before the first signal: a parent that dies of it hands its
    children up, to where a walk in progress has been. What is forked meanwhile is missed.
    """
    found: list[tuple[int, int | None]] = []
    parents = [os.getpid()]
    while parents:
        parent = parents.pop()
        for child in children_of(parent):
            parents.append(child)
            handle = _hold(parent, child)
            if handle != _GONE:
                found.append((child, handle))
    for pid, handle in found:
        for signum in signums:
            with suppress(OSError):
                if handle is None:
                    os.kill(pid, signum)
                else:
                    signal.pidfd_send_signal(handle, signum)
        if handle is not None:
            os.close(handle)


_GONE = -1


def _hold(parent: int, child: int) -> int | None:
    """A pidfd of a child, `_GONE` when it is no more, None where the kernel has none to give.

    A process that is not a direct child could end and lend its id to a stranger between look and
    signal, so its place in the tree is looked at again once it is held.
    """
    try:
        handle = os.pidfd_open(child)
    except ProcessLookupError:
        return _GONE
    except (OSError, AttributeError):
        return None
    if _parent_of(child) in (parent, os.getpid()):
        return handle
    os.close(handle)
    return _GONE


def _send(pid: int, signum: int) -> None:
    with suppress(OSError):
        os.kill(pid, signum)


def kill_children(pids: list[int]) -> None:
    """SIGKILL to unreaped direct children and to all that share a process group with one."""
    own_group = os.getpgrp()
    for pid in pids:
        try:
            group = os.getpgid(pid)
            if group != own_group:
                os.killpg(group, signal.SIGKILL)
        except OSError:
            pass
        _send(pid, signal.SIGKILL)


def reap(usage: Usage) -> tuple[dict[int, int], bool]:
    """Collects every child that has ended, without waiting.

    Returns:
        The wait status of each by pid, and whether the tree is empty.
    """
    ended: dict[int, int] = {}
    while True:
        try:
            pid, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended, True
        if pid == 0:
            return ended, False
        ended[pid] = status
        usage.cpu_us += round((used.ru_utime + used.ru_stime) * 1e6)
        usage.max_rss_kb = max(usage.max_rss_kb, _kilobytes(used.ru_maxrss))


def _kilobytes(max_rss: int) -> int:
    return max_rss // 1024 if sys.platform == "darwin" else max_rss
