"""The messages between the agent and a keeper: one order down, one report up.

    hello   the keeper's process id, once
    order   kind (1 byte), length (4 bytes), payload; descriptors travel with the first byte
    report  one fixed structure, sent once for each spawn when nothing of the step is left

Nothing else crosses that socket. Both ends are the same program, so there is no version.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import NamedTuple

SPAWN = b"S"
STOP = b"T"
KEEPER = b"K"
"""To the supervisor: start a keeper on the socket that comes along."""

_ORDER = struct.Struct("!cI")
_SPAWN = struct.Struct("!dI")
_STOP = struct.Struct("!d")
_REPORT = struct.Struct("!BiQQI")
_FD = struct.Struct("i")
_HELLO = struct.Struct("!I")

MAX_DESCRIPTORS = 4
"""With a spawn: stdin, stdout, stderr, directory."""

REPORT_BYTES = _REPORT.size
HELLO_BYTES = _HELLO.size

STARTED = 1
STOPPED = 2


class Spawn(NamedTuple):
    """A program to run. Its descriptors are stdin, stdout, stderr and the working directory."""

    path: bytes
    argv: list[bytes]
    env: list[bytes]
    """`NAME=value` each."""
    grace_s: float
    """What is left between SIGTERM and SIGKILL when the program leaves processes behind."""

    def encode(self) -> bytes:
        """The order as bytes. No part may hold a NUL: no program could be given one."""
        payload = b"\0".join((self.path, *self.argv, *self.env))
        head = _SPAWN.pack(self.grace_s, len(self.argv))
        return _ORDER.pack(SPAWN, len(head) + len(payload)) + head + payload

    @classmethod
    def decode(cls, payload: bytes) -> Spawn:
        """The order that `encode` gave."""
        grace_s, count = _SPAWN.unpack_from(payload)
        path, *words = payload[_SPAWN.size :].split(b"\0")
        return cls(path, words[:count], words[count:], grace_s)


def encode_stop(grace_s: float) -> bytes:
    """SIGTERM to the whole tree now, SIGKILL to what is left of it after `grace_s`."""
    return _ORDER.pack(STOP, _STOP.size) + _STOP.pack(grace_s)


def decode_stop(payload: bytes) -> float:
    """The grace of a stop, in seconds."""
    (grace_s,) = _STOP.unpack(payload)
    return float(grace_s)


def encode_hello(pid: int) -> bytes:
    """A keeper's first words."""
    return _HELLO.pack(pid)


def decode_hello(data: bytes) -> int:
    """The keeper's process id."""
    (pid,) = _HELLO.unpack(data)
    return int(pid)


def encode_keeper() -> bytes:
    """The order that starts a keeper."""
    return _ORDER.pack(KEEPER, 0)


class Report(NamedTuple):
    """How a spawned program ended; nothing of it is left unless `survivors` says so."""

    started: bool
    """False: the program could not be executed, `status` is the errno, and nothing happened."""
    stopped: bool
    """The stop came before the program's own end."""
    status: int
    """As `waitpid` gave it."""
    cpu_us: int
    max_rss_kb: int
    survivors: int
    """Processes that could not be killed: another user's (setuid), or stuck in the kernel."""

    def encode(self) -> bytes:
        """The report as bytes, always `REPORT_BYTES` of them."""
        flags = STARTED * self.started | STOPPED * self.stopped
        return _REPORT.pack(flags, self.status, self.cpu_us, self.max_rss_kb, self.survivors)

    @classmethod
    def decode(cls, data: bytes) -> Report:
        """The report that `encode` gave."""
        flags, status, cpu_us, max_rss_kb, survivors = _REPORT.unpack(data)
        return cls(
            bool(flags & STARTED), bool(flags & STOPPED), status, cpu_us, max_rss_kb, survivors
        )


class Order(NamedTuple):
    """One order, as it was read."""

    kind: bytes
    payload: bytes
    descriptors: list[int]
    """Owned by the reader."""


def read_order(sock: socket.socket) -> Order | None:
    """The next order; waits for it. None at the end of the stream, also in the middle of one."""
    try:
        head, descriptors = _read_descriptors(sock, _ORDER.size)
        head += _read_exactly(sock, _ORDER.size - len(head)) if head else b""
        if len(head) < _ORDER.size:
            return None
        kind, length = _ORDER.unpack(head)
        payload = _read_exactly(sock, length)
    except OSError:
        return None
    return Order(kind, payload, descriptors) if len(payload) == length else None


def _read_descriptors(sock: socket.socket, count: int) -> tuple[bytes, list[int]]:
    """At most `count` bytes and the descriptors that came with them, which no program inherits.

    `socket.recv_fds` drops its flags in Python 3.11, and so the promise about inheritance.
    """
    flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
    data, ancillary, _, _ = sock.recvmsg(
        count, socket.CMSG_SPACE(MAX_DESCRIPTORS * _FD.size), flags
    )
    descriptors: list[int] = []
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            whole = content[: len(content) - len(content) % _FD.size]
            descriptors.extend(fd for (fd,) in _FD.iter_unpack(whole))
    if not flags:
        for fd in descriptors:
            os.set_inheritable(fd, False)
    return data, descriptors


def _read_exactly(sock: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        chunk = sock.recv(count - len(data))
        if not chunk:
            break
        data += chunk
    return bytes(data)
