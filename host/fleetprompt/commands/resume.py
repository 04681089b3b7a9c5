"""`resume`: continue a run, from where it stopped or failed, or answer one of its gates."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fleetprompt.connection import add_agent_argument, add_run_argument, connected
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
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--retry", metavar="STEP", help="run this step of unknown outcome again")
    one.add_argument(
        "--succeed-with",
        metavar=("JSON", "STEP"),
        nargs=2,
        help="take this step of unknown outcome as succeeded with this value",
    )
    one.add_argument("--fail", metavar="STEP", help="take this step of unknown outcome as failed")
    one.add_argument(
        "--from", metavar="STEP", dest="from_step", help="continue a failed run from this step"
    )
    one.add_argument(
        "--response",
        metavar=("JSON", "STEP"),
        nargs="+",
        help="answer what this step asks for; STEP may be left out when it is the only one",
    )
    one.add_argument("--complete", metavar="STEP", help="this step for a person is done")
    one.add_argument("--skip", metavar="STEP", help="skip this step for a person")
    parser.add_argument("--reason", metavar="TEXT", help="kept with the decision")
    add_agent_argument(parser)
    parser.set_defaults(act=_resume)


@dataclass(frozen=True, slots=True)
class _Settlement:
    """A decision that was given with the command, for the gates that it fits."""

    kinds: frozenset[str]
    """The kinds of gate that can be decided so."""
    step: str | None
    """The step's path or id; None for the only one that waits for such a decision."""
    answer: dict[str, Any]
    """What goes to `fp_resume_run` beside the token."""
    question: str
    """What the person confirms."""
    value: tuple[Any] | None = None
    """The value in the answer, shown before it is confirmed."""

    def is_about(self, gate: Gate) -> bool:
        """Whether the decision is for this gate."""
        is_named = self.step is None or self.step in (gate.step_path, gate.step_id)
        return gate.kind in self.kinds and is_named


_UNKNOWN = frozenset({"unknown_outcome"})
_MANUAL = frozenset({"manual"})
_ASKS = frozenset({"ask", "judgement"})


def _resume(options: argparse.Namespace) -> int:
    if options.from_step is not None:
        return asyncio.run(_reopen(options))
    settlement = _settlement(options)
    if settlement is not None:
        return asyncio.run(_settle(options, settlement))
    if options.reason is not None:
        raise RequestError("arguments.invalid", "`--reason` goes with a decision; there is none.")
    return asyncio.run(_continue(options))


def _settlement(options: argparse.Namespace) -> _Settlement | None:
    if options.retry is not None:
        return _Settlement(_UNKNOWN, options.retry, {"retry": True}, "Run it again?")
    if options.fail is not None:
        return _Settlement(_UNKNOWN, options.fail, {"fail": True}, "Take it as failed?")
    if options.complete is not None:
        return _Settlement(_MANUAL, options.complete, {"complete": True}, "Is it done?")
    if options.skip is not None:
        return _Settlement(_MANUAL, options.skip, {"skip": True}, "Skip it?")
    if options.succeed_with is not None:
        text, step = options.succeed_with
        value = _value(text, "--succeed-with")
        question = "Take it as succeeded with this value?"
        return _Settlement(_UNKNOWN, step, {"succeed_with": value}, question, (value,))
    if options.response is None:
        return None
    text, *steps = options.response
    if len(steps) > 1:
        raise RequestError(
            "arguments.invalid", "`--response` takes JSON and one STEP; quote the JSON."
        )
    value = _value(text, "--response")
    step = steps[0] if steps else None
    return _Settlement(_ASKS, step, {"response": value}, "Answer with this?", (value,))


def _value(text: str, option: str) -> Any:
    from fleetprompt.input_values import read_value

    return read_value(text, f"the value for `{option}`")


async def _continue(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        from fleetprompt.driving import drive

        run_id = (await client.get(options.run)).run_id

        async def begin(on_status: StatusListener) -> RunResult:
            return await client.resume(run_id, on_status=on_status)

        at_hand = terminal_at_hand(options)
        return await drive(client, options, begin, terminal=at_hand, run_id=run_id)


async def _reopen(options: argparse.Namespace) -> int:
    if options.reason is not None:
        raise RequestError("arguments.invalid", "`--reason` is not kept with `--from`.")
    terminal = terminal_for_decision("Continuing a failed run")
    async with connected(options) as client:
        from fleetprompt.driving import drive, report_run
        from fleetprompt.exit_codes import exit_code_of_run

        result = await client.get(options.run)
        if not await _is_reopening_confirmed(result, options.from_step, terminal):
            terminal.close()
            report_run(result, options)
            return exit_code_of_run(result.status)

        async def begin(on_status: StatusListener) -> RunResult:
            return await client.resume(
                result.run_id, from_step=options.from_step, on_status=on_status
            )

        return await drive(client, options, begin, terminal=terminal)


async def _is_reopening_confirmed(
    result: RunResult, step: str, terminal: ControllingTerminal
) -> bool:
    """Whether the person, who is shown how the run went, wants it to go on."""
    from fleetprompt.cells import fold
    from fleetprompt.decisions import confirm
    from fleetprompt.escaping import escape_line, shown
    from fleetprompt.run_view import step_table

    if result.status != "failed":
        raise RequestError(
            "run.not_resumable",
            f"Run {result.run_id} is {result.status}; only a failed run is continued from a step.",
        )
    if not any(step == known.step_path for known in result.steps):
        raise RequestError(
            "run.step_not_found",
            f"Run {result.run_id} has no step `{step}`. `fleetprompt show {result.run_id}` "
            "lists its steps.",
        )
    safe = result.model_validate(shown(result.to_json()))
    why = f": {safe.error.message}" if safe.error is not None else "."
    terminal.write_lines(
        [
            *fold(f"Run {safe.run_id} of {safe.workflow_id} failed{why}", terminal.width),
            "",
            *step_table(safe, terminal.width, terminal.style),
            "",
            *fold("Steps that succeeded stay; the others run again as needed.", terminal.width),
        ]
    )
    return await confirm(f"Continue it from `{escape_line(step)}`?", terminal)


async def _settle(options: argparse.Namespace, settlement: _Settlement) -> int:
    terminal = terminal_for_decision("What a run waits for")
    async with connected(options) as client:
        from fleetprompt.decisions import Decision, confirm, show_gate
        from fleetprompt.driving import drive

        run_id = (await client.get(options.run)).run_id

        result = await client.get(run_id, reissue=True)
        gate_ids = _gates_for(result, settlement)

        async def begin(on_status: StatusListener) -> RunResult:  # noqa: ARG001  # nothing runs yet
            return result

        async def ask(gate: Gate, at: ControllingTerminal) -> Decision | None:
            if gate.gate_id not in gate_ids:
                return None
            show_gate(gate, at)
            if settlement.value is not None:
                at.write_lines(_value_lines(settlement.value[0], at.width))
            if not await confirm(settlement.question, at):
                return None
            return Decision(settlement.answer, reason=options.reason)

        return await drive(client, options, begin, terminal=terminal, ask=ask)


def _gates_for(result: RunResult, settlement: _Settlement) -> frozenset[str]:
    """The ids of the open gates that the decision is for; those that open later are not.

    Raises:
        RequestError: `gate.not_found`: it is for none of them, or for which one cannot be told.
    """
    run_id = result.run_id
    fitting = [gate for gate in result.gates if settlement.is_about(gate)]
    if settlement.step is None and len(fitting) > 1:
        steps = ", ".join(str(gate.step_path) for gate in fitting)
        raise RequestError(
            "gate.not_found", f"Several steps of run {run_id} ask: {steps}. Name one."
        )
    if not fitting:
        what = "No step" if settlement.step is None else f"No step `{settlement.step}`"
        raise RequestError(
            "gate.not_found",
            f"{what} of run {run_id} waits for such a decision. "
            f"`fleetprompt show {run_id}` lists what it waits for.",
        )
    return frozenset(gate.gate_id for gate in fitting)


def _value_lines(value: Any, width: int) -> list[str]:
    from fleetprompt.cells import fold
    from fleetprompt.escaping import shown

    text = shown(json.dumps(value, indent=2, ensure_ascii=False))
    return ["  The value:", *(f"    {line}" for line in fold(text, width - 4)), ""]
