"""A run that this process owns: its state, what is under way, and who listens."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from fleetprompt_agent.record import record

if TYPE_CHECKING:
    from fleetprompt_agent.engine.alarms import Alarms
    from fleetprompt_agent.engine.core.events import Body, Event
    from fleetprompt_agent.engine.core.outcomes import AttemptEnd, Stopped
    from fleetprompt_agent.engine.core.state import RunState
    from fleetprompt_agent.engine.requests import Asker
    from fleetprompt_agent.steps.contract import StepRequest
    from fleetprompt_protocol.errors import FleetPromptError


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


class Progress(NamedTuple):
    """How far a run was when an event was folded."""

    completed: int
    """Step states that had settled."""
    total: int
    """Step states that existed."""


class Listener(Protocol):
    """Hears of a run's transitions once they are durable, in order."""

    def on_event(self, state: RunState, event: Event, progress: Progress) -> None:
        """An event was journaled. It must not raise, nor keep the state, which may be ahead."""
        ...

    def on_output(self, step_path: str, channel: str, text: str) -> None:
        """A running step printed something: for showing, never consumed."""
        ...


@record
class Arrived:
    """The end of an attempt, on its way into the journal."""

    step_path: str
    attempt: int
    end: AttemptEnd


@dataclass(eq=False, slots=True)
class ActiveRun:
    """One owned run. All of it belongs to the event loop of its engine."""

    state: RunState
    epoch: int
    asker: Asker
    """Who started or resumed it: the ids and the actor of what follows by itself."""
    tokens: dict[str, str]
    """Gate id to token, of gates that this process opened; the engine's to keep."""
    listeners: list[Listener] = field(default_factory=list)
    arrived: list[Arrived] = field(default_factory=list)
    wanted: list[Body] = field(default_factory=list)
    """Bodies that come from outside the core: the deadline."""
    pending: list[Event] = field(default_factory=list)
    """Folded, but not yet committed."""
    progress: list[Progress] = field(default_factory=list)
    """One for each pending event, when somebody listens."""
    must_survive: bool = False
    """Whether a power loss must not take what is pending."""
    to_launch: list[tuple[StepRequest, float | None]] = field(default_factory=list)
    """Committed as started: to act, with the limit of the attempt in seconds."""
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    stopped: dict[str, Stopped] = field(default_factory=dict)
    """Why the engine ended the attempt of a step."""
    inbox_seen: int = 0
    """Id of the last request that was read."""
    inbox_cleared: int = 0
    inbox_checked: bool = False
    error: FleetPromptError | None = None
    """Why this process lost hold of the run."""
    parked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the run has ended, waits, was interrupted, or was lost."""
    turned: asyncio.Event = field(default_factory=asyncio.Event)
    """Set after each turn that handled the run."""

    run_id: str = field(init=False)
    now_ms: int = field(init=False)
    """The run's clock in epoch milliseconds, as of the last `read_clock`: once for each turn, whose
    events are committed at once."""
    _from_ms: int = field(init=False)
    _from_s: float = field(default_factory=time.monotonic)
    """What the monotonic clock said when the run's said `_from_ms`."""
    alarms: Alarms = field(init=False)
    """Of whoever drives the run; there are none before."""

    def __post_init__(self) -> None:
        self.run_id = self.state.run_id
        self.now_ms = self._from_ms = self.state.last_ms

    def listen(self, listener: Listener | None) -> None:
        """Have the listener, if there is one, hear of the run from now on."""
        if listener is not None and listener not in self.listeners:
            self.listeners.append(listener)

    def tell_output(self, step_path: str, channel: str, text: str) -> None:
        """A running step printed something."""
        for listener in list(self.listeners):
            listener.on_output(step_path, channel, text)

    def why_stopped(self, step_path: str) -> Stopped:
        """Why the attempt of the step, which was cancelled, was."""
        return self.stopped.get(step_path, "interrupt")

    def read_clock(self) -> int:
        """Set `now_ms` to what it is now, and give it.

        The run's clock never goes back: it goes on where the wall clock was set back behind it.
        """
        wall_ms, now_s = now_ms(), time.monotonic()
        self.now_ms = self._from_ms + int((now_s - self._from_s) * 1000)
        if wall_ms > self.now_ms:
            self.now_ms = self._from_ms = wall_ms
            self._from_s = now_s
        return self.now_ms


def running_tasks(runs: list[ActiveRun]) -> list[asyncio.Task[Any]]:
    """Every task that performs a step of the runs."""
    return [task for run in runs for task in run.tasks.values()]
