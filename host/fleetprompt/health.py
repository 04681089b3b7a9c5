"""What has to be in order for workflows to run here; looking changes no repository and no run."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fleetprompt_protocol.errors import FleetPromptError
from fleetprompt_protocol.version import __version__

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

Status = Literal["ok", "warning", "failed"]

LOW_BYTES = 256 * 1024 * 1024
"""Less free space than this is worth a warning: the journal may grow to 1 GB (`runs prune`)."""
FULL_BYTES = 8 * 1024 * 1024
"""With less than this a run may not be able to write down how a step ended."""
MAX_CHECKED_BYTES = 1024 * 1024 * 1024
"""A larger journal is not read as a whole: that would take minutes."""
FEW_WATCHES = 8192
"""Directories that the kernel watches for one user; below this, following changes may fall back."""

_NETWORK = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs",
    "beegfs", "fuse.sshfs", "fuse.s3fs", "fuse.glusterfs", "vboxsf", "drvfs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    text: str
    """What was found, in a sentence."""
    hint: str = ""
    """What to do about it; empty when all is well, or when the text says it."""
    code: str = ""
    """The stable code of the error that was met, if one was."""

    def to_json(self) -> dict[str, Any]:
        """The check as `fleetprompt doctor --json` gives it."""
        about = {"name": self.name, "status": self.status, "text": self.text}
        return {**about, "hint": self.hint or None, "code": self.code or None}


async def checks(root: str | None) -> AsyncIterator[Check]:
    """Every check, one after the other; those that need what is broken are left out.

    Args:
        root: The repository; by default the nearest one upwards.
    """
    yield Check("program", "ok", f"FleetPrompt {__version__}, Python {_python()}, {sys.prefix}.")
    yield _yaml()
    for check in _state():
        yield check
    yield _watches()
    async for check in _repository(root):
        yield check


def _python() -> str:
    return ".".join(map(str, sys.version_info[:3]))


def _yaml() -> Check:
    import yaml

    if getattr(yaml, "__with_libyaml__", False):
        return Check("yaml", "ok", f"PyYAML {yaml.__version__} with libyaml.")
    return Check(
        "yaml",
        "warning",
        f"PyYAML {yaml.__version__} has no libyaml: files are read some twenty times slower.",
        "install PyYAML from a wheel, or build it with the headers of libyaml",
    )


def _state() -> Iterator[Check]:
    from fleetprompt_agent.state_dir import open_state_dir

    try:
        path = open_state_dir()
    except FleetPromptError as error:
        yield Check("state directory", "failed", error.message, code=error.code)
        return
    if not os.access(path, os.W_OK):
        yield Check(
            "state directory",
            "failed",
            f"{path} cannot be written; no run can be recorded.",
            "give yourself the right to write there, or set FLEETPROMPT_HOME",
        )
        return
    yield Check("state directory", "ok", f"{path} is yours alone.")
    yield _file_system(path)
    yield _space(path)
    yield _journal(path / "journal.db")


def _file_system(path: Path) -> Check:
    kind = file_system_of(path)
    if kind in _NETWORK:
        return Check(
            "file system",
            "warning",
            f"{path} lies on a network file system ({kind}), where SQLite's locks cannot be "
            "relied on: a journal may be lost.",
            "set FLEETPROMPT_HOME to a directory on a local disk",
        )
    return Check("file system", "ok", f"The state directory lies on {kind or 'a local disk'}.")


def file_system_of(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The type of the file system that holds the path; empty where nothing tells."""
    best, kind = -1, ""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        about, _, rest = line.partition(" - ")
        fields = about.split(" ")
        if len(fields) < 5 or not rest:
            continue
        point = _unescaped(fields[4])
        # Of mounts over each other the last one counts.
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), rest.split(" ")[0]
    return kind


def _unescaped(text: str) -> str:
    for octal, sign in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(octal, sign)
    return text


def _space(path: Path) -> Check:
    free = shutil.disk_usage(path).free
    text = f"{_amount(free)} are free there."
    if free < FULL_BYTES:
        return Check("space", "failed", text, "make room, or `fleetprompt runs prune`")
    if free < LOW_BYTES:
        return Check("space", "warning", text, "make room, or `fleetprompt runs prune`")
    return Check("space", "ok", text)


def _amount(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 10_000 or unit == "GB":
            break
        size //= 1000
    return f"{size} {unit}"


def _journal(path: Path) -> Check:
    """Whether the journal can be read; one that does not exist yet is in order."""
    if not path.exists():
        return Check("journal", "ok", "There is no journal yet; the first run makes one.")
    from fleetprompt_agent.engine.journal import Journal

    try:
        with closing(Journal(path)):
            pass
    except FleetPromptError as error:
        return Check("journal", "failed", error.message, code=error.code)
    size = path.stat().st_size
    if size > MAX_CHECKED_BYTES:
        return Check("journal", "ok", f"{_amount(size)}; too large to be read as a whole here.")
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as db:
            (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            (runs,) = db.execute("SELECT count(*) FROM runs").fetchone()
    except sqlite3.Error as error:
        found, runs = str(error), 0
    if found != "ok":
        return Check(
            "journal",
            "failed",
            f"{path} is damaged ({found}).",
            "copy it for later, then move it away; runs in it are lost, files are not",
        )
    return Check("journal", "ok", f"{_amount(size)}, {runs} run{'' if runs == 1 else 's'}.")


def _watches(limit: Path = Path("/proc/sys/fs/inotify/max_user_watches")) -> Check:
    try:
        most = int(limit.read_text())
    except (OSError, ValueError):
        return Check("watching", "ok", "This system sets no limit to watched directories.")
    if most < FEW_WATCHES:
        return Check(
            "watching",
            "warning",
            f"Only {most} directories can be watched; changes may be seen late.",
            f"sysctl fs.inotify.max_user_watches={FEW_WATCHES * 8}",
        )
    return Check("watching", "ok", f"{most} directories can be watched.")


async def _repository(given: str | None) -> AsyncIterator[Check]:
    from fleetprompt.client import Client
    from fleetprompt.roots import chosen_root
    from fleetprompt.state_files import open_log

    try:
        root = chosen_root(given)
    except FleetPromptError as error:
        status: Status = "warning" if given is None else "failed"
        yield Check("repository", status, error.message)
        return
    began = time.monotonic()
    log = open_log("agent", root)
    try:
        async with Client(root, stderr=log) as client:
            found, problems = await client.validate_all()
    except FleetPromptError as error:
        yield Check("agent", "failed", error.message, code=error.code)
        return
    finally:
        os.close(log)
    yield Check("agent", "ok", f"It starts and answers ({time.monotonic() - began:.1f} s).")
    wrong = [item.file_path or item.workflow_id or "?" for item in found if not item.valid]
    wrong += [problem.file for problem in problems if problem.severity == "error"]
    if wrong:
        yield Check(
            "workflows",
            "failed",
            f"{len(wrong)} of {len(found)} files in {root} cannot be used: "
            f"{', '.join(wrong[:5])}{' …' if len(wrong) > 5 else ''}.",
            "`fleetprompt validate` says why",
        )
    elif not found:
        yield Check("workflows", "warning", f"{root} has none.", "`fleetprompt init` writes one")
    else:
        yield Check("workflows", "ok", f"{len(found)} in {root}, all valid.")
