"""Facts for the host's timeline, `agent.signal`: what runs do, and what becomes of workflow files.

Nothing waits for them: a host that takes none ignores them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.projection import instant
from fleetprompt_protocol.ids import Correlation, new_id
from fleetprompt_protocol.meta import meta_json

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetprompt_agent.engine.active import Progress
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_indexer.index import Change
    from fleetprompt_protocol.peer import Peer

WATCH_CAPABILITY = "workflow_signals"
"""In a welcome: the host wants to be told of workflow files; watching them is not free."""

_ENDS = ("run.succeeded", "run.failed", "run.canceled")
_FIRST_SEQ = 3
"""Of a new run's first event after its creation and its lease."""


class RunSignals:
    """Tells the host of every run that this process drives; an observer of the engine."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._told: set[str] = set()

    def on_event(self, state: RunState, event: Event, progress: Progress) -> None:
        """The beginning, the gates and the end of a run become signals."""
        del progress
        kind = event.body.type
        if state.run_id not in self._told:
            self._told.add(state.run_id)
            began = "started" if event.seq <= _FIRST_SEQ else "resumed"
            self._send(began, state, event, {})
        if kind == "gate.opened":
            gate_id = getattr(event.body, "gate_id", None)
            self._send("waiting", state, event, {"gate_id": gate_id})
        elif kind in _ENDS:
            self._told.discard(state.run_id)
            self._send("finished", state, event, {"status": kind.partition(".")[2]})

    def on_output(self, step_path: str, channel: str, text: str) -> None:
        """What steps print is streamed to whoever called, and to nobody else."""

    def _send(self, what: str, state: RunState, event: Event, more: dict[str, Any]) -> None:
        cause = Correlation(event.request_id, event.correlation_id, event.event_id)
        data = {"run_id": state.run_id, "workflow_id": state.plan.workflow_id, **more}
        signal(self._peer, f"fleetprompt.execution.{what}", instant(event.at_ms), data, cause)


def signal(peer: Peer, kind: str, at: str | None, data: dict[str, Any], cause: Correlation) -> None:
    """Send one fact."""
    params = {"type": kind, "at": at, "data": data, "meta": meta_json(cause)}
    peer.notify("agent.signal", params)


def tell_of_workflows(changes: Iterable[Change], peer: Peer, chain: str) -> None:
    """Send `fleetprompt.workflow.discovered|changed|removed` for each change."""
    for change in changes:
        now = instant(time.time_ns() // 1_000_000)
        kind = f"fleetprompt.workflow.{change.kind}"
        signal(peer, kind, now, change.to_json(), Correlation(new_id(), chain))
