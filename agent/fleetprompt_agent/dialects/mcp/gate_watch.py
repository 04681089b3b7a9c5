"""Tells a call that its run asks something, while the rest of the run goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetprompt_agent.engine.core.events import GateOpened

if TYPE_CHECKING:
    from fleetprompt_agent.dialects.mcp.progress import ProgressReports
    from fleetprompt_agent.engine.active import Progress
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunState


class GateWatch:
    """A listener of the run that a call is about; it passes everything on to the reports."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        """Set when a gate has opened."""
        self.run_id = ""
        """The run, once it was heard of."""
        self.reports: ProgressReports | None = None
        """Where progress goes, when the client wants any."""

    def on_event(self, state: RunState, event: Event, progress: Progress) -> None:
        """Tells of an opened gate."""
        self.run_id = state.run_id
        if self.reports is not None:
            self.reports.on_event(state, event, progress)
        if isinstance(event.body, GateOpened):
            self.asked.set()

    def on_output(self, step_path: str, channel: str, text: str) -> None:
        """What a step prints is in the result."""
