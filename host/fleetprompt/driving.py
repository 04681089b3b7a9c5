"""Follows a run for a command and reports how it ended: `run`, `resume`, `approve`, `deny`."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from fleetprompt.decisions import ask_decision
from fleetprompt.display import Display, LineDisplay, LiveDisplay, SilentDisplay
from fleetprompt.escaping import shown
from fleetprompt.exit_codes import ExitCode, exit_code_of_run
from fleetprompt.following import Follower, Interrupts, Left
from fleetprompt.gate_view import gate_lines
from fleetprompt.output import stderr_style, width_of, write_json, write_lines
from fleetprompt.results import RunResult
from fleetprompt.run_view import outputs_text, summary_lines
from fleetprompt_protocol.errors import ProtocolError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from fleetprompt.client import Client
    from fleetprompt.following import Ask, Begin
    from fleetprompt.terminal import ControllingTerminal


async def drive(
    client: Client,
    options: argparse.Namespace,
    begin: Begin,
    *,
    terminal: ControllingTerminal | None,
    ask: Ask = ask_decision,
    on_started: Callable[[str], None] | None = None,
    run_id: str | None = None,
) -> int:
    """Follow a run to its end and report it; gives the exit code.

    Args:
        client: An open client.
        options: The command's arguments.
        begin: Starts or continues the run.
        terminal: Where gates are asked about; closed in the end. Without one they stay open.
        ask: How a gate is asked about.
        on_started: Told of the run's id as soon as it is known.
        run_id: The run's id, when it is known before.
    """
    try:
        with Interrupts() as interrupts:
            display = display_for(options)
            follower = Follower(
                client, display, interrupts, terminal, ask=ask, on_started=on_started
            )
            follower.run_id = run_id
            try:
                followed = await follower.follow(begin)
            except Left:
                await client.abandon()
                run = follower.run_id
                hint = f" `fleetprompt resume {run}` continues it." if run else ""
                write_lines([f"Left; the run is not cancelled.{hint}"], sys.stderr)
                return ExitCode.CANCELED
            except ProtocolError as error:
                if error.code == "protocol.closed" and follower.run_id is not None:
                    error.details = {**(error.details or {}), "run_id": follower.run_id}
                raise
    finally:
        if terminal is not None:
            terminal.close()
    report_run(followed.result, options)
    return exit_code_of_run(followed.result.status, denied=followed.is_denied)


def report_run(result: RunResult, options: argparse.Namespace) -> None:
    """Write the outputs to standard output and everything else to standard error.

    With `--json` the whole result is one document on standard output.
    """
    if options.json:
        write_json(without_tokens(result))
        if result.status == "waiting":
            sentence = f"The run waits; `fleetprompt approve {result.run_id}` decides."
            write_lines([sentence], sys.stderr)
        return
    safe = RunResult.model_validate(shown(result.to_json()))
    sys.stdout.write(outputs_text(safe if sys.stdout.isatty() else result))
    sys.stdout.flush()
    width, style = width_of(sys.stderr), stderr_style()
    if safe.outputs or safe.output is not None:
        write_lines([""], sys.stderr)
    for gate in safe.gates:
        write_lines([*gate_lines(gate, width, style), ""], sys.stderr)
    write_lines(summary_lines(safe, width, style), sys.stderr)


def without_tokens(result: RunResult) -> dict[str, Any]:
    """The result as JSON for printing: a token in a log would be authority lying about."""
    data = result.to_json()
    for gate in data.get("gates", ()):
        gate.pop("token", None)
    return data


def display_for(options: argparse.Namespace) -> Display:
    """Where progress goes: nowhere for programs, in place on a terminal, else as lines."""
    if options.json:
        return SilentDisplay()
    if sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb":
        return LiveDisplay(sys.stderr, stderr_style())
    return LineDisplay(sys.stderr)
