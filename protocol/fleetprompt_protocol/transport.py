"""What a peer needs of a byte stream; a real one is in `stdio`, one in memory in `memory`."""

from __future__ import annotations

from typing import Protocol


class Transport(Protocol):
    """Two byte streams, one each way, used by one reader and one writer."""

    async def read(self) -> bytes:
        """The next bytes as soon as there are any; empty at the end of the stream.

        Raises:
            OSError: The stream broke.
        """
        ...

    async def write(self, data: memoryview, timeout_s: float) -> int:
        """Hands over as much as is taken without waiting, but waits for the first byte.

        Returns:
            How many bytes were taken; at least one.

        Raises:
            TimeoutError: Not one byte was taken within the time.
            OSError: Nobody reads any more.
        """
        ...

    def write_now(self, data: bytes) -> int:
        """Hands over what is taken at once; 0 when nothing is, or when it cannot be told."""
        ...

    def close(self) -> None:
        """Gives the stream up: a pending read or write ends. May be called twice."""
        ...
