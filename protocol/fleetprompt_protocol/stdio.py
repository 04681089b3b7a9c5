"""Standard input and output as a byte stream that belongs to the protocol alone.

How the descriptors are read and written, and why they are never made non-blocking, is told in
`descriptors`. Importing this module must stay cheap: `claim_stdio` runs before anything that could
print.
"""

from __future__ import annotations

import fcntl
import os

from fleetprompt_protocol.descriptors import end_of


def claim_stdio() -> tuple[int, int]:
    """Takes standard input and output for the protocol; gives private descriptors for them.

    Afterwards descriptor 0 is the null device and descriptor 1 is standard error: whatever a
    library or a child prints cannot get between messages. The private ones are not inherited. To be
    called once, before heavy imports. A closed standard input reads as its end.

    Raises:
        OSError: Standard output is closed.
    """
    out_fd = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
    opened = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    null = fcntl.fcntl(opened, fcntl.F_DUPFD_CLOEXEC, 3)
    if opened > 2:
        os.close(opened)  # else it fills the place of one that was closed
    in_fd = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 3)
    os.dup2(null, 0)
    try:
        os.dup2(2, 1)
    except OSError:
        os.dup2(null, 2)
        os.dup2(null, 1)
    os.close(null)
    return in_fd, out_fd


class StdioTransport:
    """A transport over two descriptors, which it owns and closes.

    Args:
        in_fd: Where the other side's bytes come from.
        out_fd: Where ours go.
        is_private: Whether nobody else uses these ends, so that they may be made non-blocking.
        use_thread: Whether threads wait in any case, as they do where nothing else is possible.
    """

    def __init__(
        self, in_fd: int, out_fd: int, *, is_private: bool = False, use_thread: bool = False
    ) -> None:
        self._reader = end_of(in_fd, os.O_RDONLY, is_private=is_private, use_thread=use_thread)
        self._writer = end_of(out_fd, os.O_WRONLY, is_private=is_private, use_thread=use_thread)

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
