"""Who owns a run: the identity of a process that survives pid reuse, and the proof of its death."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, named so that no later process can be mistaken for it."""

    boot: str
    """The kernel's boot id; a process of another boot is dead."""
    pid_namespace: str
    pid: int
    start: str
    """Start time in clock ticks since boot; tells a reused pid."""
    supervisor: int | None = None
    """Pid of the process that starts the steps; it outlives the last of them."""
    supervisor_start: str = ""

    @classmethod
    def of_this_process(cls, supervisor: int | None = None) -> Self:
        """The identity of this process and its supervisor."""
        return cls(
            boot=_boot_id(),
            pid_namespace=_pid_namespace(),
            pid=os.getpid(),
            start=_start_time(os.getpid()) or "",
            supervisor=supervisor,
            supervisor_start=(_start_time(supervisor) or "") if supervisor else "",
        )

    def to_text(self) -> str:
        """The identity as it is kept in the lease."""
        return _text_of(self)

    @classmethod
    def from_text(cls, text: str) -> Self | None:
        """The identity that `to_text` gave, or None for anything else."""
        try:
            owner = cls(**json.loads(text))
        except (ValueError, TypeError, RecursionError):
            return None
        words = (owner.boot, owner.pid_namespace, owner.start, owner.supervisor_start)
        is_whole = (
            all(type(word) is str for word in words)
            and type(owner.pid) is int
            and type(owner.supervisor) in (int, NoneType)
        )
        return owner if is_whole else None

    def is_gone(self) -> bool:
        """Whether the process, and what it started, is provably dead.

        False when it lives or cannot be seen from here (another pid namespace); its lease then has
        to run out.
        """
        if self.boot != _boot_id():
            # Another machine's boot id differs too; a journal on a shared disk is not supported.
            return True
        if self.pid_namespace != _pid_namespace():
            return False
        if _lives(self.pid, self.start):
            return False
        return self.supervisor is None or not _lives(self.supervisor, self.supervisor_start)


def is_live(owner_text: str, expires_boot_s: float) -> bool:
    """Whether a lease of this owner, which ends at that reading of the boot clock, holds."""
    owner = Owner.from_text(owner_text)
    if owner is None or owner.is_gone():
        return False
    return expires_boot_s > boot_clock_s()


def boot_clock_s() -> float:
    """Seconds since boot, the time asleep included: it never goes back."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@lru_cache(maxsize=8)
def _text_of(owner: Owner) -> str:
    return json.dumps(asdict(owner), separators=(",", ":"))


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        # No /proc: boot time is constant enough to tell one boot from the next.
        return f"boot-{round((time.time() - time.monotonic()) / 60)}"


@cache
def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return ""


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/pid/stat, or None when the process is dead or there is no /proc."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    state, start = fields[0], fields[19]
    # A zombie has closed everything it held; only its parent has not looked yet.
    return None if state in "ZX" else start


def _lives(pid: int, start: str) -> bool:
    if Path("/proc/self/stat").exists():
        return _start_time(pid) == start
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
