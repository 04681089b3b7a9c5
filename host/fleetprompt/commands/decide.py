"""`approve` and `deny`: a person at a terminal decides what a run waits for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fleetprompt.connection import add_agent_argument, add_run_argument, connected
from fleetprompt.terminal import terminal_for_decision
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from fleetprompt.decisions import Decision
    from fleetprompt.following import Ask, StatusListener
    from fleetprompt.results import Gate, RunResult
    from fleetprompt.terminal import ControllingTerminal


def add_approve(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt approve`."""
    add_run_argument(parser)
    add_agent_argument(parser)
    parser.set_defaults(act=lambda options: asyncio.run(_decide(options, denial=None)))


def add_deny(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt deny`."""
    add_run_argument(parser)
    parser.add_argument("--reason", metavar="TEXT", help="kept with the decision")
    add_agent_argument(parser)
    parser.set_defaults(
        act=lambda options: asyncio.run(_decide(options, denial=_ask_denial(options.reason)))
    )


async def _decide(options: argparse.Namespace, *, denial: Ask | None) -> int:
    terminal = terminal_for_decision("What a run waits for")
    async with connected(options) as client:
        from fleetprompt.decisions import ask_decision
        from fleetprompt.driving import drive

        run_id = (await client.get(options.run)).run_id

        async def begin(on_status: StatusListener) -> RunResult:  # noqa: ARG001  # nothing runs yet
            result = await client.get(run_id, reissue=True)
            if not result.gates:
                raise RequestError(
                    "gate.not_found",
                    f"Run {run_id} waits for no decision; it is {result.status}.",
                )
            return result

        return await drive(client, options, begin, terminal=terminal, ask=denial or ask_decision)


def _ask_denial(reason: str | None) -> Ask:
    async def ask(gate: Gate, terminal: ControllingTerminal) -> Decision | None:
        from fleetprompt.decisions import Decision, confirm, show_gate

        show_gate(gate, terminal)
        if gate.kind not in ("approval", "effects"):
            terminal.write_lines([f"A gate of kind {gate.kind} cannot be denied; it stays open."])
            return None
        if not await confirm("Deny?", terminal):
            return None
        return Decision({"approve": False}, is_denial=True, reason=reason)

    return ask
