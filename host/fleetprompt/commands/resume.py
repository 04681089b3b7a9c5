"""`resume`: continue an interrupted run, or say what became of a step of unknown outcome."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from fleetprompt.connection import add_run_argument, connected
from fleetprompt.terminal import terminal_at_hand, terminal_for_decision
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from fleetprompt.decisions import Decision
    from fleetprompt.following import StatusListener
    from fleetprompt.results import Gate, RunResult
    from fleetprompt.terminal import ControllingTerminal


def add_resume(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt resume`."""
    add_run_argument(parser)
    settle = parser.add_mutually_exclusive_group()
    settle.add_argument("--retry", metavar="STEP", help="run this step of unknown outcome again")
    settle.add_argument(
        "--succeed-with",
        metavar=("JSON", "STEP"),
        nargs=2,
        help="take this step of unknown outcome as succeeded with this value",
    )
    settle.add_argument(
        "--fail", metavar="STEP", help="take this step of unknown outcome as failed"
    )
    parser.set_defaults(act=_resume)


def _resume(options: argparse.Namespace) -> int:
    settlement = _settlement(options)
    if settlement is None:
        return asyncio.run(_continue(options))
    return asyncio.run(_settle(options, *settlement))


def _settlement(options: argparse.Namespace) -> tuple[str, dict[str, Any], str] | None:
    """The step, the answer for its gate, and the question to confirm it with; None for neither."""
    if options.retry is not None:
        return options.retry, {"retry": True}, "Run it again?"
    if options.fail is not None:
        return options.fail, {"fail": True}, "Take it as failed?"
    if options.succeed_with is None:
        return None
    text, step = options.succeed_with
    try:
        value = json.loads(text)
    except ValueError as error:
        raise RequestError(
            "inputs.invalid", f"The value for `--succeed-with` is not JSON: {error}."
        ) from None
    return step, {"succeed_with": value}, "Take it as succeeded with this value?"


async def _continue(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        from fleetprompt.driving import drive

        run_id = (await client.get(options.run)).run_id

        async def begin(on_status: StatusListener) -> RunResult:
            return await client.resume(run_id, on_status=on_status)

        return await drive(client, options, begin, terminal=terminal_at_hand(options))


async def _settle(
    options: argparse.Namespace, step: str, answer: dict[str, Any], question: str
) -> int:
    terminal = terminal_for_decision("What became of a step")
    async with connected(options) as client:
        from fleetprompt.decisions import Decision, confirm, show_gate
        from fleetprompt.driving import drive

        run_id = (await client.get(options.run)).run_id

        async def begin(on_status: StatusListener) -> RunResult:  # noqa: ARG001  # nothing runs yet
            result = await client.get(run_id, reissue=True)
            if not any(_is_about(gate, step) for gate in result.gates):
                raise RequestError(
                    "gate.not_found",
                    f"No step `{step}` of run {run_id} has an outcome that nobody knows. "
                    f"`fleetprompt show {run_id}` lists its steps.",
                )
            return result

        async def ask(gate: Gate, at: ControllingTerminal) -> Decision | None:
            if not _is_about(gate, step):
                return None
            show_gate(gate, at)
            return Decision(answer) if await confirm(question, at) else None

        return await drive(client, options, begin, terminal=terminal, ask=ask)


def _is_about(gate: Gate, step: str) -> bool:
    return gate.kind == "unknown_outcome" and step in (gate.step_path, gate.step_id)
