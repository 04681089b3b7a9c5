"""What the tools that start and continue runs have in common."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetprompt_agent.engine import tokens
from fleetprompt_agent.engine.requests import Asker
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from fleetprompt_agent.tools.registry import Call


def asker_of(call: Call) -> Asker:
    """Who calls, as the engine keeps it."""
    ids = call.correlation
    return Asker(
        ids.request_id, ids.correlation_id, ids.causation_id, call.actor_type, call.actor_id
    )


def seconds(ms: int | None) -> float | None:
    """Milliseconds as the engine's seconds."""
    return None if ms is None else ms / 1000


def check_cwd(call: Call, cwd: str | None) -> None:
    """Refuse a working directory before a run exists.

    Raises:
        RequestError: `cli.cwd`.
    """
    if cwd is None:
        return
    import os

    from fleetprompt_agent.steps.workdir import open_directory

    os.close(open_directory(call.agent.root, cwd))


def gate_place(call: Call, token: str) -> tuple[str, str]:
    """The `(run_id, gate_id)` that a token claims to be for; whether it is, the engine decides.

    Raises:
        RequestError: `gate.token_invalid`: it is no token, or for no run of this project.
    """
    place = tokens.gate_of(token)
    if place is None:
        raise RequestError(
            "gate.token_invalid", "This is not a gate's token. Copy it whole, or ask for a new one."
        )
    try:
        call.agent.engine.load(place[0])
    except RequestError:
        raise RequestError(
            "gate.token_invalid", "The token is for no gate of this project."
        ) from None
    return place


def cancel_with_call(call: Call, started: list[str]) -> None:
    """Cancelling the call cancels the run; the call then answers with the run's own result.

    Before there is a run, it ends the call itself.

    Args:
        call: The call.
        started: Holds the run's id as soon as there is one.
    """
    if call.on_cancel is None:
        return
    cancels: set[asyncio.Task[object]] = set()
    asking_task = asyncio.current_task()

    def cancel() -> None:
        if started:
            asking = call.agent.engine.cancel(started[0], call.cancel_reason, asker_of(call))
            task: asyncio.Task[object] = asyncio.ensure_future(asking)
            cancels.add(task)
            task.add_done_callback(cancels.discard)
        elif asking_task is not None:
            asking_task.cancel()

    call.on_cancel(cancel)
