"""What a call says before its result: `agent.tool.stream` chunks (protocol.md §4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.projection import status_data
from fleetprompt_protocol.meta import meta_json
from fleetprompt_protocol.wire import loads

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.engine.active import Progress
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_protocol.call import CallContext
    from fleetprompt_protocol.ids import Correlation

METHOD = "agent.tool.stream"

BEHIND_BYTES = 256 * 1024
"""A host that has not taken so much is behind; well below the mark at which runs pause."""


class CallStream:
    """Turns a run's transitions into chunks of one call; a listener of the engine.

    Every chunk echoes the ids of its call, with the event that it tells of as its cause.

    Args:
        context: The call.
        call_id: Its id, on every chunk.
        correlation: Its ids.
        on_run: Told, before the first chunk, which run the call is about.
    """

    def __init__(
        self,
        context: CallContext,
        call_id: str,
        correlation: Correlation,
        on_run: Callable[[str], None] | None = None,
    ) -> None:
        self._on_run = on_run
        self._context = context
        self._call_id = call_id
        self._correlation = correlation

    def on_event(self, state: RunState, event: Event, progress: Progress) -> None:
        """A transition becomes a `status` chunk."""
        if self._on_run is not None:
            self._on_run(state.run_id)
            self._on_run = None
        data = status_data(state, event, progress)
        if data is not None:
            self._send("status", data, event.event_id)

    def on_output(self, step_path: str, channel: str, text: str) -> None:
        """What a step prints becomes a chunk of the channel of that name.

        While the host is behind, only the newest piece of each step and channel waits for it.
        """
        shown = {"json": loads(text.encode())} if channel == "partial_result" else {"text": text}
        data = {**shown, "step_path": step_path}
        key = None
        if self._context.peer.queued_bytes > BEHIND_BYTES:
            data["coalesced"] = True
            key = f"{self._call_id}\0{step_path}\0{channel}"
        self._send(channel, data, None, coalesce_key=key)

    def finish(self, result: dict[str, Any]) -> None:
        """The last status chunk: how the run stands."""
        status = result.get("status")
        if "run_id" not in result or status not in _STATES:
            return
        counts: dict[str, int] = result["metrics"]["steps"]
        data = {
            "text": f"run: {status}",
            "run_id": result["run_id"],
            "step_path": None,
            "step_id": None,
            "state": _STATES[status],
            "completed": sum(
                counts.get(ended, 0) for ended in ("succeeded", "failed", "skipped", "canceled")
            ),
            "total": sum(counts.values()),
        }
        if "error" in result:
            data["error"] = result["error"]
        self._send("status", data, None, done=True)

    def _send(
        self,
        channel: str,
        data: dict[str, Any],
        cause: str | None,
        *,
        done: bool = False,
        coalesce_key: str | None = None,
    ) -> None:
        ids = self._correlation if cause is None else self._correlation.caused_by(cause)
        chunk: dict[str, Any] = {
            "call_id": self._call_id,
            "channel": channel,
            "data": data,
            "meta": meta_json(ids),
        }
        if done:
            chunk["done"] = True
        self._context.notify(METHOD, chunk, coalesce_key=coalesce_key, numbered=True)


_STATES = {
    "pending": "waiting",
    "running": "started",
    "succeeded": "completed",
    "failed": "failed",
    "canceled": "canceled",
    "waiting": "waiting",
    "interrupted": "canceled",
}
"""The run's status in the words of chunks."""
