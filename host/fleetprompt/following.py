"""Follows a run to its end: shows its progress, asks about its gates, takes Ctrl-C.

The first Ctrl-C while the run goes on asks the agent to cancel it, the second leaves at once. At a
question Ctrl-C leaves the question open: nothing goes on meanwhile that could be cancelled.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeAlias, TypeVar

from fleetprompt.cells import fold
from fleetprompt.decisions import ask_again, ask_decision
from fleetprompt.escaping import shown
from fleetprompt.results import Gate, RunResult, StepStatus
from fleetprompt_protocol.errors import FleetPromptError

if TYPE_CHECKING:
    from types import TracebackType

    from fleetprompt.client import Client
    from fleetprompt.decisions import Decision
    from fleetprompt.display import Display
    from fleetprompt.terminal import ControllingTerminal

T = TypeVar("T")

StatusListener: TypeAlias = Callable[[StepStatus], None]

Begin: TypeAlias = Callable[[StatusListener], Coroutine[None, None, RunResult]]
"""Starts or continues a run; given whom to tell of its progress."""

Ask: TypeAlias = "Callable[[Gate, ControllingTerminal], Coroutine[None, None, Decision | None]]"
"""Asks the person about one gate; None leaves it open."""

_ENDED = frozenset({"succeeded", "failed", "canceled"})

_QUIET_S = 1.0
"""A run of a group that is free has long begun by then."""

_OVERTAKEN = frozenset({"gate.token_invalid", "gate.expired", "gate.closed", "run.conflict"})
"""An answer that came too late: somebody else asked too, or decided, or time ran out."""


class Left(Exception):  # noqa: N818  # a decision of the person, not an error
    """The person has left before there was an answer."""


class Interrupts:
    """Takes Ctrl-C while it is entered; needs a running event loop."""

    def __init__(self) -> None:
        self._pressed = asyncio.Event()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, self._pressed.set)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGINT)

    async def guard(
        self,
        work: Coroutine[None, None, T],
        on_first: Callable[[], Awaitable[object]] | None = None,
    ) -> T:
        """What the work gives.

        Args:
            work: Is cancelled when the person leaves.
            on_first: What the first Ctrl-C does; without it the first one leaves.

        Raises:
            Left: the person pressed Ctrl-C once more than `on_first` takes.
        """
        task = asyncio.ensure_future(work)
        polite: asyncio.Future[object] | None = None
        try:
            while True:
                pressed = asyncio.ensure_future(self._pressed.wait())
                try:
                    await asyncio.wait({task, pressed}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pressed.cancel()
                if task.done():
                    return task.result()
                self._pressed.clear()
                if on_first is None or polite is not None:
                    raise Left
                polite = asyncio.ensure_future(on_first())
        finally:
            for unfinished in (task, polite):
                if unfinished is not None:
                    unfinished.cancel()


@dataclass(frozen=True, slots=True)
class Followed:
    """How following ended."""

    result: RunResult
    is_denied: bool = False
    """Whether the person denied a gate."""


class Follower:
    """Drives one run through a client, with one person in front of it.

    Args:
        client: An open client.
        display: Where progress goes.
        interrupts: Entered for as long as the follower is used.
        terminal: Where gates are asked about; without one they are left open.
        ask: How they are asked about.
        on_started: Told of the run's id once, as soon as it is known.
    """

    def __init__(
        self,
        client: Client,
        display: Display,
        interrupts: Interrupts,
        terminal: ControllingTerminal | None,
        *,
        ask: Ask = ask_decision,
        on_started: Callable[[str], None] | None = None,
    ) -> None:
        self.run_id: str | None = None
        """The run's id, once it is known."""
        self._client = client
        self._display = display
        self._interrupts = interrupts
        self._terminal = terminal
        self._ask_person = ask
        self._on_started = on_started
        self._tokens: dict[str, str] = {}
        self._left_open: set[str] = set()
        self._is_denied = False
        self._has_begun = False
        """Whether a step of the run was heard of."""

    async def follow(self, begin: Begin) -> Followed:
        """The run when it has ended, or waits for what nobody here decides.

        Raises:
            Left: the person left with Ctrl-C.
            FleetPromptError: the agent could not do what was asked.
        """
        try:
            result = await self._until_it_stops(begin)
            # A run with an open gate may still be running elsewhere, or be interrupted.
            while self._terminal is not None and result.gates and result.status not in _ENDED:
                gate = await self._next_gate(result)
                if gate is None:
                    break
                answered = await self._ask(gate, self._terminal)
                result = answered or result
        finally:
            self._display.clear()
        return Followed(result, self._is_denied)

    async def _until_it_stops(self, begin: Begin) -> RunResult:
        def on_status(status: StepStatus) -> None:
            self._learn(status.run_id)
            self._has_begun = self._has_begun or status.step_path is not None
            self._display.update(StepStatus.model_validate(shown(status.to_json())))

        async def cancel() -> None:
            self._display.note("Canceling the run. Ctrl-C again leaves at once.")
            await self._client.cancel_calls("Ctrl-C at the terminal")

        waiting = asyncio.ensure_future(self._tell_what_it_waits_for())
        try:
            result = await self._interrupts.guard(begin(on_status), cancel)
        finally:
            waiting.cancel()
        self._learn(result.run_id)
        self._display.clear()
        for gate in result.gates:
            if gate.token is not None:
                self._tokens[gate.gate_id] = gate.token
        return result

    async def _tell_what_it_waits_for(self) -> None:
        """Say which run is in the way when nothing is heard of a new one for a while."""
        await asyncio.sleep(_QUIET_S)
        if self.run_id is None or self._has_begun:
            return
        with suppress(FleetPromptError):
            run = await self._client.get(self.run_id)
            if run.waits_for is not None and not self._has_begun:
                before = run.waits_for
                self._display.note(f"Waits for run {before.run_id}, which is {before.status}.")

    def _learn(self, run_id: str | None) -> None:
        if run_id is None or self.run_id is not None:
            return
        self.run_id = run_id
        if self._on_started is not None:
            self._on_started(run_id)

    async def _next_gate(self, result: RunResult) -> Gate | None:
        """An open gate that was not left for later, with its token."""
        gates = [gate for gate in result.gates if gate.gate_id not in self._left_open]
        if not gates:
            return None
        if gates[0].gate_id not in self._tokens:
            fresh = await self._client.get(result.run_id, reissue=True)
            self._tokens = {gate.gate_id: gate.token for gate in fresh.gates if gate.token}
            gates = [gate for gate in fresh.gates if gate.gate_id not in self._left_open]
        return next((gate for gate in gates if gate.gate_id in self._tokens), None)

    async def _ask(self, gate: Gate, terminal: ControllingTerminal) -> RunResult | None:
        asking = self._ask_person(gate, terminal)
        while (decision := await self._answered(asking, terminal)) is not None:
            try:
                result = await self._decide(gate, decision)
            except FleetPromptError as error:
                if error.code in _OVERTAKEN and self.run_id is not None:
                    return await self._overtaken(gate, terminal, self.run_id)
                if error.code != "gate.bad_response" or not decision.can_be_mended:
                    raise
                asking = ask_again(gate, terminal, error)
            else:
                self._is_denied = self._is_denied or decision.is_denial
                return result
        self._left_open.add(gate.gate_id)
        return None

    async def _overtaken(self, gate: Gate, terminal: ControllingTerminal, run_id: str) -> RunResult:
        """The run as it goes on; a gate that is still open is asked about once more."""
        fresh = await self._client.get(run_id, reissue=True)
        self._tokens = {gate.gate_id: gate.token for gate in fresh.gates if gate.token}
        if gate.gate_id in self._tokens:
            said = "The answer was not taken: another terminal asks too, or it came too late."
            terminal.write_lines(fold(f"{said} Here it is once more.", terminal.width))
            return fresh
        said = "The answer was not taken: it was decided elsewhere before. The run goes on so."
        if fresh.status in _ENDED:
            said = "The answer was not taken: the run has ended meanwhile."
        terminal.write_lines(fold(said, terminal.width))
        if fresh.gates or fresh.status in _ENDED:
            return fresh
        return await self._until_it_stops(
            lambda on_status: self._client.resume(run_id, on_status=on_status)
        )

    async def _answered(
        self, asking: Coroutine[None, None, Decision | None], terminal: ControllingTerminal
    ) -> Decision | None:
        try:
            return await self._interrupts.guard(asking)
        except Left:
            terminal.write_lines([""])
            return None

    async def _decide(self, gate: Gate, decision: Decision) -> RunResult:
        """Decide the gate; its token stays good as long as no decision was taken."""
        token = self._tokens[gate.gate_id]
        result = await self._until_it_stops(
            lambda on_status: self._client.decide(
                token, decision.answer, reason=decision.reason, on_status=on_status
            )
        )
        if self._tokens.get(gate.gate_id) == token:
            del self._tokens[gate.gate_id]
        return result
