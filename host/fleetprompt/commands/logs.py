"""`logs`: what a step of a run wrote."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, TextIO

from fleetprompt.arguments import whole_number
from fleetprompt.connection import connected
from fleetprompt.escaping import escape_line, escape_text
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import write_json, write_lines
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from fleetprompt.client import Client
    from fleetprompt.results import StepOutput

_CHANNELS = ("stdout", "stderr", "json")


def add_logs(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt logs`."""
    parser.add_argument(
        "names",
        metavar="[RUN] STEP",
        nargs="+",
        help="the step's path, after the run's id or a prefix of it (default: the latest run)",
    )
    parser.add_argument(
        "--channel", choices=_CHANNELS, help="only this one, all of it on standard output"
    )
    parser.add_argument(
        "--attempt",
        metavar="N",
        type=whole_number(0),
        help="which attempt (default: the last with output)",
    )
    parser.set_defaults(act=_logs)


def _logs(options: argparse.Namespace) -> int:
    if len(options.names) > 2:
        raise RequestError("arguments.invalid", "`logs` takes one run and one step of it.")
    run, step = ("", *options.names)[-2:]
    return asyncio.run(_show(options, run, step))


async def _show(options: argparse.Namespace, run: str, step: str) -> int:
    async with connected(options) as client:
        output = await client.output(run, step, channel=options.channel, attempt=options.attempt)
        if options.json:
            write_json((await _whole(client, output)).to_json())
            return ExitCode.SUCCEEDED
        await _write(client, output, is_one=options.channel is not None)
    return ExitCode.SUCCEEDED


async def _whole(client: Client, output: StepOutput) -> StepOutput:
    """The output with every channel to its end."""
    channels = {}
    for name, first in output.channels.items():
        texts, last = [first.text], first
        while last.next_offset is not None:
            last = await client.next_output(output, name, last.next_offset)
            texts.append(last.text)
        channels[name] = last.model_copy(update={"text": "".join(texts), "next_offset": None})
    return output.model_copy(update={"channels": channels})


async def _write(client: Client, output: StepOutput, *, is_one: bool) -> None:
    for name, piece in output.channels.items():
        target = sys.stderr if name == "stderr" and not is_one else sys.stdout
        while True:
            _put(piece.text, target)
            if piece.next_offset is None:
                break
            piece = await client.next_output(output, name, piece.next_offset)
        if name == "json" and piece.text:
            _put("\n", target)
        if piece.truncated:
            write_lines([_cut(name, piece.bytes, piece.sha256)], sys.stderr)
    if not any(piece.text for piece in output.channels.values()):
        step = escape_line(output.step_path)
        write_lines([f"No output of step {step} is kept; it is {output.status}."], sys.stderr)


def _put(text: str, target: TextIO) -> None:
    """The text as it is, or made safe where a person looks at it."""
    target.write(escape_text(text) if target.isatty() else text)
    target.flush()


def _cut(name: str, size: int | None, sha256: str | None) -> str:
    of_all = f" of {size} bytes (sha256 {sha256})" if size is not None else ""
    return f"[{name} was cut: only the beginning{of_all} was kept]"
