"""Reading one file of a repository that is not trusted.

Folders are descended one by one through descriptors, and no symbolic link is followed on the way
or at the end, so that a repository cannot make us read outside itself, not even by exchanging a
folder while we read. Pipes, devices and sockets are never opened. What is returned is one state
of the file: a file that changes under the read is read again, then refused.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetprompt_indexer.names import parts_of, shown
from fleetprompt_indexer.problem import Problem, Refused
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MAX_FILE_BYTES = 102_400
"""The language's limit for a workflow file: 100 KB."""

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


_SIGNATURE = struct.Struct("=QQqqq")
PACK_SIGNATURE = _SIGNATURE.pack
"""Packs the fields of a `Signature`, in their order."""
SIGNATURE_BYTES = _SIGNATURE.size


@dataclass(frozen=True, slots=True)
class Signature:
    """What changes when a file does; two equal ones mean the same content, nearly always."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def packed(self) -> bytes:
        """The signature as the catalog keeps it."""
        return PACK_SIGNATURE(self.device, self.inode, self.size, self.mtime_ns, self.ctime_ns)

    @classmethod
    def of(cls, status: os.stat_result) -> Signature:
        """The signature of a stat result."""
        return cls(
            status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
        )


@dataclass(frozen=True, slots=True)
class FileContent:
    """One consistent state of a file."""

    data: bytes
    sha256: str
    """Of `data`, in lower-case hexadecimal."""
    signature: Signature


def read_file(root: Path, relative: str | bytes, *, max_bytes: int = MAX_FILE_BYTES) -> FileContent:
    """The content of a file beneath the root.

    Args:
        root: A folder that the caller trusts; a symbolic link here is followed.
        relative: The path from there, with `/`; `..`, `.` and absolute paths are refused.
        max_bytes: A longer file is refused.

    Raises:
        WorkflowError: `workflow.not_found` when nothing is there, else `workflow.unreadable`;
            `details["diagnostics"]` says why.
    """
    try:
        folder, name = _open_folder_of(root, relative)
        try:
            return read_at(folder, name, max_bytes=max_bytes)
        finally:
            os.close(folder)
    except Refused as refused:
        problem = refused.problem.in_file(shown(relative))
        missing = problem.code == "file.missing"
        raise WorkflowError(
            "workflow.not_found" if missing else "workflow.unreadable",
            f"{problem.file}: {problem.message}",
            details={"diagnostics": [problem.to_json()]},
            where={"file": problem.file},
        ) from None


def file_fault(root: Path, relative: str, *, max_bytes: int) -> Problem | None:
    """Why `read_file` would refuse a file, as far as that is known without reading it."""
    try:
        folder, name = _open_folder_of(root, relative)
        try:
            _check(os.stat(name, dir_fd=folder, follow_symlinks=False), max_bytes)
        except OSError as error:
            return _refused(error, folder, name).problem
        finally:
            os.close(folder)
    except Refused as refused:
        return refused.problem
    return None


def _open_folder_of(root: Path, relative: str | bytes) -> tuple[int, bytes]:
    """A descriptor of the folder in which a file lies, which the caller closes; the file's name."""
    *folders, name = parts_of(relative)
    return open_folder(root, folders), name


def open_folder(root: Path | bytes, folders: Sequence[bytes]) -> int:
    """A descriptor of the folder beneath the root; the caller closes it.

    Raises:
        Refused: A part is missing, is not a folder, is a symbolic link, or may not be read.
    """
    try:
        current = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(error, None, os.fsencode(root)) from None
    except ValueError:  # a NUL in the path
        raise Refused(Problem("file.path", "The root cannot be a path.")) from None
    for name in folders:
        try:
            inner = open_folder_at(current, name)
        finally:
            os.close(current)
        current = inner
    return current


def open_folder_at(folder: int, name: bytes) -> int:
    """A descriptor of the folder in an open folder; the caller closes it.

    Raises:
        Refused: As `open_folder`.
    """
    try:
        return os.open(name, _OPEN_FOLDER, dir_fd=folder)
    except OSError as error:
        raise _refused(error, folder, name) from None


def packed_signature(status: os.stat_result) -> bytes:
    """`Signature.of(status).packed()`, for a hundred thousand files at a time."""
    return PACK_SIGNATURE(
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    )


def read_at(
    folder: int,
    name: bytes,
    *,
    max_bytes: int = MAX_FILE_BYTES,
    status: os.stat_result | None = None,
) -> FileContent:
    """The content of a file in an open folder.

    Args:
        folder: A descriptor.
        name: Of the file.
        max_bytes: A longer file is refused.
        status: What `lstat` said of the file a moment ago, to save asking again.

    Raises:
        Refused: With a `file.…` code.
    """
    for _ in range(2):
        try:
            content = _read_once(folder, name, max_bytes, status)
        except OSError as error:
            raise _refused(error, folder, name) from None
        if content is not None:
            return content
        status = None
    message = "The file keeps changing while it is read."
    raise Refused(Problem("file.unstable", message, hint="try again when it is written"))


def _read_once(
    folder: int, name: bytes, max_bytes: int, status: os.stat_result | None
) -> FileContent | None:
    # Looked at before it is opened: opening a device can have effects of its own.
    _check(status or os.stat(name, dir_fd=folder, follow_symlinks=False), max_bytes)
    file = os.open(name, _OPEN_FILE, dir_fd=folder)
    try:
        before = os.fstat(file)
        _check(before, max_bytes)
        size = before.st_size
        data = os.read(file, size + 1)  # one more than there should be: a file that grew shows
        while len(data) < size and (more := os.read(file, size + 1 - len(data))):
            data += more
        after = os.fstat(file)
    finally:
        os.close(file)
    if packed_signature(before) != packed_signature(after) or len(data) != after.st_size:
        return None
    return FileContent(data, hashlib.sha256(data).hexdigest(), Signature.of(before))


def _check(status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Refused(_not_a_file(status.st_mode))
    if status.st_size > max_bytes:
        message = f"The file has {status.st_size:,} bytes; the limit is {max_bytes:,}."
        raise Refused(Problem("file.too_large", message, hint="split the workflow"))


def _not_a_file(mode: int) -> Problem:
    if stat.S_ISLNK(mode):
        return Problem(
            "file.symlink",
            "It is a symbolic link, which is not followed.",
            hint="put the file itself there",
        )
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    kind = kinds.get(stat.S_IFMT(mode), "something else")
    return Problem("file.not_regular", f"It is {kind}, not a file.")


def _refused(error: OSError, folder: int | None, name: bytes) -> Refused:
    where = shown(name)
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO) and folder is not None:
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        except OSError:
            mode = 0
        if stat.S_ISLNK(mode):
            message = f"`{where}` is a symbolic link, which is not followed."
            return Refused(Problem("file.symlink", message))
        return Refused(Problem("file.not_regular", f"`{where}` is not of the expected kind."))
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Refused(Problem("file.missing", f"There is no `{where}`."))
    if error.errno in (errno.EACCES, errno.EPERM):
        return Refused(Problem("file.permission", f"`{where}` may not be read."))
    if error.errno == errno.ENAMETOOLONG:
        return Refused(Problem("file.path", "The path is too long."))
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    return Refused(Problem("file.io", f"`{where}` cannot be read: {reason}."))
