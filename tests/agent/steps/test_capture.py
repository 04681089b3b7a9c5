"""However a program's output is cut into pieces, what is kept and what is shown is the same."""

from __future__ import annotations

import asyncio
import hashlib
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.steps.capture import Capture


def _capture(chunks: list[bytes], max_bytes: int) -> tuple[Capture, str]:
    """A capture of the chunks, each written when the one before it was read."""
    shown: list[str] = []

    async def main() -> Capture:
        capture = Capture("stdout", max_bytes, lambda _channel, text: shown.append(text))
        capture.watch()
        for chunk in chunks:
            os.write(capture.write_fd, chunk)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        capture.close_write_end()
        await capture.finish(30)
        return capture

    return asyncio.run(main()), "".join(shown)


@settings(max_examples=100)
@given(
    chunks=st.lists(
        st.one_of(st.binary(max_size=30), st.text(max_size=10).map(lambda text: text.encode())),
        max_size=6,
    ),
    max_bytes=st.integers(0, 60),
)
def test_pieces_do_not_matter(chunks: list[bytes], max_bytes: int) -> None:
    everything = b"".join(chunks)

    capture, shown = _capture(chunks, max_bytes)

    assert capture.data == everything[:max_bytes]
    assert capture.is_truncated == (len(everything) > max_bytes)
    assert shown == everything[:max_bytes].decode("utf-8", "replace")
    if capture.is_truncated:
        assert capture.truncation() == {
            "truncated": True,
            "bytes": len(everything),
            "sha256": hashlib.sha256(everything).hexdigest(),
        }
    else:
        assert capture.text() == shown


def test_a_pipe_that_somebody_else_holds_is_not_waited_for_for_ever() -> None:
    async def main() -> bytes:
        capture = Capture("stdout", 100, None)
        stranger = os.dup(capture.write_fd)
        os.write(capture.write_fd, b"mine")
        capture.close_write_end()
        await capture.finish(0.01)
        os.close(stranger)
        return capture.data

    assert asyncio.run(main()) == b"mine"
