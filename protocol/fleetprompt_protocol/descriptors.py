"""One direction of a byte stream over a descriptor that others may share.

Whether a descriptor blocks is a property of the open file description, which the process may share
with its parent, its siblings and a terminal. It is never changed here. Instead:

* a socket is used with flags that make the single call not wait;
* a pipe is opened anew through /proc/self/fd, which gives a description of its own;
* a regular file or the null device never waits, and is used as it is;
* for anything else (a terminal, no /proc) a thread does the waiting.

Importing this module must stay cheap: it is imported before anything else of the agent.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable
    from typing import Any

READ_BYTES = 64 * 1024
"""How much is read at once: the capacity of a pipe on Linux."""

THREAD_WRITE_BYTES = 4096
"""How much a waiting thread writes at once, so that a slow reader's progress shows."""


def open_private(fd: int, flags: int) -> int | None:
    """A descriptor of our own that does not block, for the same pipe; None when there is none.

    Args:
        fd: A descriptor of a pipe.
        flags: `os.O_RDONLY` or `os.O_WRONLY`.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None


def end_of(
    fd: int, flags: int, *, is_private: bool, use_thread: bool
) -> PolledEnd | DirectEnd | ThreadedEnd:
    """One direction of the stream by what the descriptor is; see `StdioTransport`."""
    status = os.fstat(fd)
    if use_thread:
        return ThreadedEnd(fd)
    if stat.S_ISREG(status.st_mode) or _is_memory_device(status):
        return DirectEnd(fd)
    if stat.S_ISSOCK(status.st_mode):
        import socket

        # The flags of each call make it not wait; the object itself changes nothing.
        return PolledEnd(fd, socket.socket(fileno=fd))
    if stat.S_ISFIFO(status.st_mode):
        if is_private:
            os.set_blocking(fd, False)
            return PolledEnd(fd, None)
        own = open_private(fd, flags)
        if own is not None:
            os.close(fd)
            return PolledEnd(own, None)
    return ThreadedEnd(fd)


def _is_memory_device(status: os.stat_result) -> bool:
    """Whether it is the null device, which cannot be polled."""
    null = os.stat(os.devnull)  # noqa: PTH116 — pathlib would make this module dear
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == null.st_rdev


class PolledEnd:
    """A descriptor that the event loop watches, and that never blocks."""

    def __init__(self, fd: int, sock: socket.socket | None) -> None:
        self._fd = fd
        self._sock = sock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_watched = False
        self._is_reader = False

    async def read(self) -> bytes:
        """See `Transport.read`."""
        while self._fd >= 0:
            await self._ready(for_reading=True)
            if self._fd < 0:
                break
            try:
                if self._sock is not None:
                    import socket

                    return self._sock.recv(READ_BYTES, socket.MSG_DONTWAIT)
                return os.read(self._fd, READ_BYTES)
            except (BlockingIOError, InterruptedError):
                continue
            except ConnectionResetError:
                break
        return b""

    async def write(self, data: memoryview, timeout_s: float) -> int:
        """See `Transport.write`."""
        try:
            return self._try_write(data)
        except BlockingIOError:
            pass
        import asyncio

        async with asyncio.timeout(timeout_s):
            while True:
                await self._ready(for_reading=False)
                try:
                    return self._try_write(data)
                except BlockingIOError:
                    continue

    def write_now(self, data: bytes) -> int:
        """See `Transport.write_now`."""
        try:
            return self._try_write(data)
        except OSError:
            return 0  # what is wrong shows when the writer waits

    def close(self) -> None:
        """See `Transport.close`."""
        if self._fd < 0:
            return
        self._unwatch()
        fd, self._fd = self._fd, -1
        if self._sock is not None:
            self._sock.close()
        else:
            os.close(fd)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _try_write(self, data: bytes | memoryview) -> int:
        if self._fd < 0:
            raise BrokenPipeError
        if self._sock is not None:
            import socket

            return self._sock.send(data, socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0))
        return os.write(self._fd, data)

    async def _ready(self, *, for_reading: bool) -> None:
        """Waits for the event loop to report the descriptor; it stays watched between reads."""
        if self._loop is None:
            import asyncio

            self._loop = asyncio.get_running_loop()
        self._waiter = self._loop.create_future()
        if not self._is_watched:
            watch: Callable[..., Any] = (
                self._loop.add_reader if for_reading else self._loop.add_writer
            )
            watch(self._fd, self._on_ready)
            self._is_watched = True
            self._is_reader = for_reading
        try:
            await self._waiter
        finally:
            if not for_reading:
                self._unwatch()

    def _on_ready(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        else:
            self._unwatch()  # nobody wants to read now: do not spin

    def _unwatch(self) -> None:
        if self._is_watched and self._loop is not None and not self._loop.is_closed():
            self._is_watched = False
            if self._is_reader:
                self._loop.remove_reader(self._fd)
            else:
                self._loop.remove_writer(self._fd)


class DirectEnd:
    """A regular file or a device that never makes a caller wait."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def read(self) -> bytes:
        """See `Transport.read`."""
        import asyncio

        await asyncio.sleep(0)  # always ready: let others have their turn
        return os.read(self._fd, READ_BYTES) if self._fd >= 0 else b""

    async def write(self, data: memoryview, timeout_s: float) -> int:  # noqa: ARG002 — never waits
        """See `Transport.write`."""
        if self._fd < 0:
            raise BrokenPipeError
        return os.write(self._fd, data[:READ_BYTES])

    def write_now(self, data: bytes) -> int:  # noqa: ARG002 — the disk is left to the writer
        """See `Transport.write_now`."""
        return 0

    def close(self) -> None:
        """See `Transport.close`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class ThreadedEnd:
    """A descriptor that may block: a daemon thread makes the calls, one at a time, when asked to.

    Only the thread closes the descriptor, between calls: during one, its number could become that
    of another file. A thread that waits for a terminal ends with the process.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._tasks: Any = None
        self._closed: asyncio.Event | None = None
        self._is_closed = False

    async def read(self) -> bytes:
        """See `Transport.read`."""
        return await self._call(lambda: os.read(self._fd, READ_BYTES), None) or b""

    async def write(self, data: memoryview, timeout_s: float) -> int:
        """See `Transport.write`."""
        piece = bytes(data[:THREAD_WRITE_BYTES])
        taken: int | None = await self._call(lambda: os.write(self._fd, piece), timeout_s)
        if taken is None:
            raise BrokenPipeError
        return taken

    def write_now(self, data: bytes) -> int:  # noqa: ARG002 — only the thread can tell
        """See `Transport.write_now`."""
        return 0

    def close(self) -> None:
        """See `Transport.close`."""
        self._is_closed = True
        if self._closed is not None:
            self._closed.set()
        if self._tasks is not None:
            self._tasks.put(None)
        elif self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _call(self, function: Callable[[], Any], timeout_s: float | None) -> Any:
        """What the function gives, or None when the stream is closed first."""
        import asyncio

        if self._is_closed:
            return None
        if self._tasks is None:
            self._start()
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._tasks.put((loop, result, function))
        assert self._closed is not None  # noqa: S101 — _start has made it
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            done, _ = await asyncio.wait(
                (result, closed), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            closed.cancel()
        if result in done:
            return result.result()
        if not done:
            raise TimeoutError
        return None

    def _start(self) -> None:
        import asyncio
        import queue
        import threading

        self._closed = asyncio.Event()
        self._tasks = queue.SimpleQueue()
        threading.Thread(target=self._work, args=(self._fd, self._tasks), daemon=True).start()

    @staticmethod
    def _work(fd: int, tasks: Any) -> None:
        while (task := tasks.get()) is not None:
            loop, result, function = task
            try:
                outcome: tuple[Any, OSError | None] = (function(), None)
            except OSError as exc:
                outcome = (None, exc)
            try:
                loop.call_soon_threadsafe(_settle, result, outcome)
            except RuntimeError:
                break  # the loop is closed: nobody waits any more
        os.close(fd)


def _settle(result: asyncio.Future[Any], outcome: tuple[Any, OSError | None]) -> None:
    value, exc = outcome
    if result.done():
        return
    if exc is None:
        result.set_result(value)
    else:
        result.set_exception(exc)
        result.exception()  # seen: whoever asked may have given up
