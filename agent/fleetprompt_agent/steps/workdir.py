"""A step's working directory: opened beneath the workspace, so that no symlink leads out of it."""

from __future__ import annotations

import errno
import os
import posixpath
import sys
from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

_DIRECTORY = os.O_DIRECTORY | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)

_SYS_OPENAT2 = 437
"""One number on every architecture: it came after the tables were unified (Linux 5.6)."""
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08


def relative_directory(run_cwd: str | None, step_cwd: str | None) -> str:
    """The step's directory relative to the workspace, as written; `.` is the workspace itself."""
    if run_cwd and step_cwd:
        return posixpath.join(run_cwd, step_cwd)
    return run_cwd or step_cwd or "."


def open_directory(root: Path, relative: str) -> int:
    """A descriptor of a directory beneath the root, to be closed by the caller.

    Symlinks are followed as long as they stay beneath the root; where the kernel cannot promise
    that (`openat2`), a path with a symlink is refused.

    Raises:
        RequestError: `cli.cwd`.
    """
    if "\0" in relative or posixpath.isabs(relative):
        raise _refusal(relative, "It must be a path relative to the workspace.")
    try:
        base = os.open(root, _DIRECTORY)
    except OSError as error:
        raise _refusal(str(root), f"The workspace cannot be opened ({error.strerror}).") from error
    if relative == ".":
        return base
    try:
        found = open_by_kernel(base, relative)
        if found is None:
            found = open_walking(base, relative)
    except (OSError, UnicodeEncodeError) as error:
        raise _refusal(relative, _reason(error)) from error
    finally:
        os.close(base)
    return found


def open_by_kernel(base: int, relative: str) -> int | None:
    """As `openat`, refusing any resolution that leaves `base`; None where the kernel cannot.

    Raises:
        OSError: it does not exist, is no directory, or leaves `base`.
    """
    if sys.platform != "linux":
        return None
    import ctypes

    class OpenHow(ctypes.Structure):
        _fields_ = (
            ("flags", ctypes.c_uint64),
            ("mode", ctypes.c_uint64),
            ("resolve", ctypes.c_uint64),
        )

    how = OpenHow(_DIRECTORY, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    syscall = ctypes.CDLL(None, use_errno=True).syscall
    syscall.restype = ctypes.c_long
    fd = syscall(
        ctypes.c_long(_SYS_OPENAT2),
        ctypes.c_long(base),
        ctypes.c_char_p(os.fsencode(relative)),
        ctypes.byref(how),
        ctypes.c_size_t(ctypes.sizeof(how)),
    )
    if fd >= 0:
        return int(fd)
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EPERM):  # an older kernel, or a filter that forbids the call
        return None
    raise OSError(number, os.strerror(number))


def open_walking(base: int, relative: str) -> int:
    """The same by one `openat` a component, following no symlink at all.

    Raises:
        OSError: it does not exist, is no directory, leaves `base`, or has a symlink in it.
    """
    normal = posixpath.normpath(relative)
    if normal == ".." or normal.startswith("../"):
        raise OSError(errno.EXDEV, "leaves the workspace")
    here = os.dup(base)
    for part in normal.split("/"):
        try:
            # O_PATH with O_NOFOLLOW would open the link itself; O_DIRECTORY refuses that.
            below = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
        finally:
            os.close(here)
        here = below
    return here


def _reason(error: OSError | UnicodeEncodeError) -> str:
    if isinstance(error, UnicodeEncodeError):
        return "It is not a possible path."
    if error.errno in (errno.EXDEV, errno.ELOOP):
        return "It leaves the workspace, itself or by a symbolic link."
    return f"{error.strerror}."


def _refusal(relative: str, reason: str) -> RequestError:
    return RequestError(
        "cli.cwd",
        f"The working directory `{relative}` cannot be used. {reason}",
        details={"cwd": relative},
    )
