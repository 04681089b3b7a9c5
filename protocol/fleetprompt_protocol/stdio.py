"""Standard input and output as a byte stream that belongs to the protocol alone.

Whether a descriptor blocks is a property of the open file description, which the process may share
with its parent, its siblings and a terminal. It is never changed here. Instead:

* a socket is used with flags that make the single call not wait;
* a pipe or terminal is opened anew through /proc/self/fd, which gives a description of its own;
* a regular file or a device that cannot be polled never waits, and is used as it is;
* for anything else (no /proc, or the permission is missing) a thread does the waiting.

Importing this module must stay cheap: `claim_stdio` runs before anything that could print.
"""

from __future__ import annotations

import fcntl
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


def claim_stdio() -> tuple[int, int]:
    """Takes standard input and output for the protocol; gives private descriptors for them.

    Afterwards descriptor 0 is the null device and descriptor 1 is standard error: whatever a
    library or a child prints cannot get between messages. The private ones are not inherited. To be
    called once, before heavy imports. A closed standard input reads as its end.

    Raises:
        OSError: Standard output is closed.
    """
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    if null < 3:
        null = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 3)
    out_fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        in_fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError:
        in_fd = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:
        os.dup2(null, 1)
        os.dup2(null, 2)
    os.close(null)
    return in_fd, out_fd


def open_private(fd: int, flags: int) -> int | None:
    """A descriptor that does not block for the same pipe or terminal; None when there is none.

    Args:
        fd: A descriptor of a pipe or character device.
        flags: `os.O_RDONLY` or `os.O_WRONLY`.
    """
    try:
        return os.open(f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None


class StdioTransport:
    """A transport over two descriptors, which it owns and closes.

    Args:
        in_fd: Where the other side's bytes come from.
        out_fd: Where ours go.
        is_private: Whether nobody else uses these ends, so that they may be made non-blocking.
    """

    def __init__(self, in_fd: int, out_fd: int, *, is_private: bool = False) -> None:
        self._reader = _end_of(in_fd, os.O_RDONLY, is_private)
        self._writer = _end_of(out_fd, os.O_WRONLY, is_private)

    async def read(self) -> bytes:
        """The next bytes as soon as there are any; empty at the end of the stream."""
        return await self._reader.read()

    async def write(self, data: memoryview, timeout_s: float) -> int:
        """See `Transport.write`."""
        return await self._writer.write(data, timeout_s)

    def write_now(self, data: bytes) -> int:
        """See `Transport.write_now`."""
        return self._writer.write_now(data)

    def close(self) -> None:
        """Closes both descriptors; a pending read ends as at the end of the stream."""
        self._reader.close()
        self._writer.close()


class ChildPipes:
    """Two pipes to a child that is about to be started, with the transport over our ends.

    Start the child with `stdin=pipes.child_stdin, stdout=pipes.child_stdout`, then call
    `close_child_ends`.
    """

    def __init__(self) -> None:
        self.child_stdin, our_out = os.pipe()
        """What the child reads; inherited only by being passed."""
        our_in, self.child_stdout = os.pipe()
        """What the child writes; inherited only by being passed."""
        self.transport = StdioTransport(our_in, our_out, is_private=True)
        """Our side."""

    def close_child_ends(self) -> None:
        """Closes the child's ends here, so that its end is seen. May be called twice."""
        for name in ("child_stdin", "child_stdout"):
            fd: int = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)


def _end_of(fd: int, flags: int, is_private: bool) -> _Polled | _Direct | _Threaded:
    """One direction of the stream by what the descriptor is."""
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return _Direct(fd)
    if stat.S_ISSOCK(mode):
        import socket

        # The object is a view of the descriptor; the flags of each call make it not wait.
        return _Polled(fd, socket.socket(fileno=fd))
    if is_private:
        os.set_blocking(fd, False)
        return _Polled(fd, None)
    own = open_private(fd, flags)
    if own is None:
        return _Threaded(fd)
    if stat.S_ISCHR(mode) and not os.isatty(fd):
        os.close(own)  # the null device and its like cannot be polled
        return _Direct(fd)
    os.close(fd)
    return _Polled(own, None)


class _Polled:
    """A descriptor that the event loop watches, and that never blocks."""

    def __init__(self, fd: int, sock: socket.socket | None) -> None:
        self._fd = fd
        self._sock = sock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_watched = False

    async def read(self) -> bytes:
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
        try:
            return self._try_write(data)
        except OSError:
            return 0  # what is wrong shows when the writer waits

    def close(self) -> None:
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


class _Direct:
    """A regular file or a device that never makes a caller wait."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    async def read(self) -> bytes:
        import asyncio

        await asyncio.sleep(0)  # always ready: let others have their turn
        return os.read(self._fd, READ_BYTES) if self._fd >= 0 else b""

    async def write(self, data: memoryview, timeout_s: float) -> int:  # noqa: ARG002 — never waits
        if self._fd < 0:
            raise BrokenPipeError
        return os.write(self._fd, data[:READ_BYTES])

    def write_now(self, data: bytes) -> int:  # noqa: ARG002 — the disk is left to the writer
        return 0

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class _Threaded:
    """A descriptor that may block: a daemon thread makes the calls, one at a time, when asked to.

    Closing does not close the descriptor while the thread is inside a call: its number could be
    another file by the time that the call is made. The process is about to end then.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._tasks: Any = None
        self._closed: asyncio.Event | None = None
        self._is_closed = False

    async def read(self) -> bytes:
        return await self._call(lambda: os.read(self._fd, READ_BYTES), None) or b""

    async def write(self, data: memoryview, timeout_s: float) -> int:
        piece = bytes(data[:THREAD_WRITE_BYTES])
        taken: int | None = await self._call(lambda: os.write(self._fd, piece), timeout_s)
        if taken is None:
            raise BrokenPipeError
        return taken

    def write_now(self, data: bytes) -> int:  # noqa: ARG002 — only the thread can tell
        return 0

    def close(self) -> None:
        self._is_closed = True
        if self._closed is not None:
            self._closed.set()
        if self._tasks is not None:
            self._tasks.put(None)

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
        threading.Thread(target=self._work, args=(self._tasks,), daemon=True).start()

    @staticmethod
    def _work(tasks: Any) -> None:
        while (task := tasks.get()) is not None:
            loop, result, function = task
            try:
                outcome: tuple[Any, OSError | None] = (function(), None)
            except OSError as exc:
                outcome = (None, exc)
            try:
                loop.call_soon_threadsafe(_settle, result, outcome)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more


def _settle(result: asyncio.Future[Any], outcome: tuple[Any, OSError | None]) -> None:
    value, exc = outcome
    if result.done():
        return
    if exc is None:
        result.set_result(value)
    else:
        result.set_exception(exc)
