"""What a program writes: read to its end, kept up to a limit, shown as it comes.

A pipe is always read to its end, whatever the limit: a program that meets a full pipe would hang,
and a run would wait for it. What is past the limit is counted and digested, not kept.
"""

from __future__ import annotations

import asyncio
import codecs
import hashlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fleetprompt_agent.language.plan import Json
    from fleetprompt_agent.steps.contract import Progress

READ_BYTES = 65_536
"""The size of a pipe on Linux: one read empties it."""

MAX_PIPE_READS = 32
"""More than the largest pipe that a program may make of its own (1 MiB)."""

SHOW_EVERY_S = 0.05
"""At most twenty pieces a second are shown of each channel."""

SHOW_CHARACTERS = 16_384
"""The longest piece that is shown at once."""


class Capture:
    """One channel of a program: the reading end of a pipe, and what came through it.

    Args:
        channel: `stdout` or `stderr`.
        max_bytes: How much is kept.
        progress: Where the text is shown.
    """

    def __init__(self, channel: str, max_bytes: int, progress: Progress | None) -> None:
        self._channel = channel
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._fd, self.write_fd = os.pipe()
        os.set_blocking(self._fd, False)
        self._kept = bytearray()
        self._digest: hashlib._Hash | None = None
        self._total_bytes = 0
        self._preview = None if progress is None else _Preview(channel, progress, self._loop)
        self._at_end: asyncio.Future[None] | None = None
        self._is_watched = False

    @property
    def is_truncated(self) -> bool:
        """Whether the program wrote more than is kept."""
        return self._total_bytes > len(self._kept)

    @property
    def data(self) -> bytes:
        """What was kept."""
        return bytes(self._kept)

    def text(self) -> str:
        """What was kept, as UTF-8; what is not UTF-8 is replaced, a cut character left out."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return decoder.decode(bytes(self._kept), final=not self.is_truncated)

    def truncation(self) -> dict[str, Json]:
        """`{truncated, bytes, sha256}` of everything the program wrote, for a cut channel."""
        digest = "" if self._digest is None else self._digest.hexdigest()
        return {"truncated": True, "bytes": self._total_bytes, "sha256": digest}

    def close_write_end(self) -> None:
        """To be called when the program has its own copy: the pipe ends only without ours."""
        if self.write_fd >= 0:
            os.close(self.write_fd)
            self.write_fd = -1

    def watch(self) -> None:
        """Reads from now on whenever there is something.

        A program that ends within milliseconds needs no watching: `finish` reads what it wrote.
        """
        if self._fd >= 0 and not self._is_watched:
            self._is_watched = True
            self._loop.add_reader(self._fd, self._readable)

    async def finish(self, timeout_s: float) -> None:
        """Reads to the end of the pipe and shows the rest.

        Args:
            timeout_s: The end comes when the last process that holds the pipe has ended; one that
                is no descendant of the step could hold it longer, and is not waited for.
        """
        self._readable()
        if self._fd >= 0:
            self._at_end = self._loop.create_future()
            self.watch()
            await asyncio.wait([self._at_end], timeout=timeout_s)
        self.close()

    def drain(self) -> None:
        """Takes what is in the pipe of a program that is gone, without waiting."""
        self._read(MAX_PIPE_READS)
        self.close()

    def close(self) -> None:
        """Stops reading and shows what was not shown yet."""
        if self._fd < 0:
            return
        self.close_write_end()
        if self._is_watched:
            self._loop.remove_reader(self._fd)
        os.close(self._fd)
        self._fd = -1
        if self._preview is not None:
            self._preview.close()
        if self._at_end is not None and not self._at_end.done():
            self._at_end.set_result(None)

    def _readable(self) -> None:
        # A few reads at once are cheaper than as many turns of the loop; more would starve others.
        self._read(4)

    def _read(self, times: int) -> None:
        for _ in range(times):
            if self._fd < 0:
                return
            try:
                chunk = os.read(self._fd, READ_BYTES)
            except BlockingIOError:
                return
            if not chunk:
                self.close()
                return
            self._take(chunk)

    def _take(self, chunk: bytes) -> None:
        room = self._max_bytes - len(self._kept)
        self._total_bytes += len(chunk)
        if len(chunk) > room:
            if self._digest is None:
                self._digest = hashlib.sha256(self._kept)
            self._digest.update(chunk)
            chunk = chunk[:room]
        self._kept += chunk
        if chunk and self._preview is not None:
            self._preview.show(chunk)


class _Preview:
    """Shows a channel piece by piece, not more often than `SHOW_EVERY_S`."""

    def __init__(self, channel: str, progress: Progress, loop: asyncio.AbstractEventLoop) -> None:
        self._channel = channel
        self._progress = progress
        self._loop = loop
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    def show(self, chunk: bytes) -> None:
        self._waiting.append(self._decoder.decode(chunk))
        if self._timer is None:
            self._flush()
            self._timer = self._loop.call_later(SHOW_EVERY_S, self._due)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._waiting.append(self._decoder.decode(b"", final=True))
        self._flush()

    def _due(self) -> None:
        self._timer = None
        if self._waiting:
            self._flush()
            self._timer = self._loop.call_later(SHOW_EVERY_S, self._due)

    def _flush(self) -> None:
        text = "".join(self._waiting)
        self._waiting.clear()
        for start in range(0, len(text), SHOW_CHARACTERS):
            self._progress(self._channel, text[start : start + SHOW_CHARACTERS])
