"""`conformance`: whether a program speaks the router dialect as it is defined."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from fleetprompt.exit_codes import ExitCode
from fleetprompt.input_values import json_fault
from fleetprompt.output import write_json, write_lines
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

    from fleetprompt.conformance import Finding, SampleCall


def add_conformance(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt conformance`."""
    parser.add_argument(
        "--role",
        choices=("agent", "host"),
        default="agent",
        help="what the program is; a host expects the token in its environment (default: agent)",
    )
    parser.add_argument(
        "--call",
        metavar="JSON",
        help='a call that the agent can serve, for the checks of streams: {"tool_id", "input"}',
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        default="",
        help="run the checks whose names begin so: `transcript/`, `hostile`, `call/` …",
    )
    parser.add_argument("program", metavar="COMMAND", nargs="+", help="the program, after `--`")
    parser.set_defaults(act=_conformance)


def _conformance(options: argparse.Namespace) -> int:
    from fleetprompt.conformance import run_conformance

    def show(finding: Finding) -> None:
        if not options.json and sys.stderr.isatty():
            write_lines([finding.check], sys.stderr)

    report = run_conformance(
        options.program,
        role=options.role,
        call=_sample(options.call),
        only=options.only,
        on_finding=show,
    )
    if options.json:
        write_json(report.to_json())
    else:
        write_lines(report.lines())
    return ExitCode.SUCCEEDED if report.conforms else ExitCode.FAILED


def _sample(text: str | None) -> SampleCall | None:
    if text is None:
        return None
    from fleetprompt.conformance import SampleCall

    try:
        given: Any = json.loads(text)
    except ValueError as error:
        message = f"`--call` is not JSON: {json_fault(error)}."
        raise RequestError("arguments.invalid", message) from None
    tool_id = given.get("tool_id") if isinstance(given, dict) else None
    arguments = given.get("input", {}) if isinstance(given, dict) else None
    if not isinstance(tool_id, str) or not isinstance(arguments, dict):
        message = '`--call` is an object such as {"tool_id": "greet", "input": {}}.'
        raise RequestError("arguments.invalid", message)
    return SampleCall(tool_id, arguments)
