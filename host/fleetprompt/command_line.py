"""Finds the command that was asked for, runs it, and says in a sentence or two why it failed.

Each command's own file is imported when that command is asked for, so that `list` does not pay for
what `run` needs.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from fleetprompt.exit_codes import ExitCode, exit_code_of_error
from fleetprompt.output import prepare_streams, stderr_style, width_of, write_json, write_lines
from fleetprompt_protocol.errors import FleetPromptError, RequestError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Command:
    """One command of `fleetprompt`.

    Its file in `fleetprompt.commands` has a function `add_<name>(parser)`, which declares the
    arguments and sets `act`, a function from the parsed arguments to an exit code.
    """

    name: str
    summary: str
    module: str


COMMANDS: tuple[Command, ...] = (
    Command("init", "Write a first workflow into a repository", "init"),
    Command("list", "List the workflows of a repository", "catalog"),
    Command("search", "Find workflows in the catalog", "search"),
    Command("index", "Bring the catalog of workflows up to date", "index"),
    Command("describe", "Show what a workflow takes, gives and does", "workflow"),
    Command("validate", "Check workflows without running them", "workflow"),
    Command("plan", "Show what a run would do, without doing any of it", "plan"),
    Command("run", "Run a workflow and follow it to its end", "run"),
    Command("resume", "Continue a run, or answer what it waits for", "resume"),
    Command("approve", "Show what a run waits for, and decide", "decide"),
    Command("deny", "Refuse what a run waits for", "decide"),
    Command("cancel", "Cancel a run", "runs"),
    Command("show", "Show a run", "runs"),
    Command("runs", "List runs, the latest first", "runs"),
    Command("timeline", "Show what happened, in order", "timeline"),
    Command("logs", "Show what a step of a run wrote", "logs"),
    Command("replay", "Check that a run's journal follows from itself", "replay"),
    Command("mcp-config", "Show how an MCP client is told of this repository", "mcp_config"),
    Command("doctor", "Check that everything workflows need is in order here", "doctor"),
    Command("schema", "Print the JSON Schema of workflow files or of the protocol", "schema"),
    Command("conformance", "Check that a program speaks the router dialect", "conformance"),
)
"""In the order in which the overview shows them."""


def overview() -> str:
    """What `fleetprompt --help` says."""
    lines = [
        "usage: fleetprompt COMMAND [ARGUMENT …]",
        "",
        "Runs the workflows of a repository: planned, permitted, paused for approval, resumed",
        "after a crash.",
        "",
        *(f"  {command.name:<13}{command.summary}" for command in COMMANDS),
        "  agent        Serve an agent host on standard input and output",
        "",
        "`fleetprompt COMMAND --help` says more about one; `--version` gives the version.",
    ]
    return "\n".join(lines)


def parser_of(command: Command) -> argparse.ArgumentParser:
    """The parser for one command's arguments."""
    from fleetprompt.arguments import CommandParser

    parser = CommandParser(
        prog=f"fleetprompt {command.name}",
        description=f"{command.summary}.",
        allow_abbrev=False,
    )
    module = import_module(f"fleetprompt.commands.{command.module}")
    getattr(module, f"add_{command.name.replace('-', '_')}")(parser)
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="the repository (default: the nearest directory upwards that holds .fleetprompt/)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser


def run_command_line(arguments: list[str]) -> int:
    """Run the command that the arguments name; gives the exit code and never raises."""
    prepare_streams()
    try:
        return _run(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(ExitCode.USAGE)
    except KeyboardInterrupt:
        _say("Interrupted.")
        return ExitCode.CANCELED
    except BrokenPipeError:
        # Whoever read the output has gone; what is still buffered must not raise at exit.
        _drop_stdout()
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001  # the last line: a fault is logged, not shown
        if isinstance(error, OSError) and (fault := _stdout_fault()) is not None:
            _drop_stdout()
            _say(f"error: Standard output cannot be written: {fault}.\n  code: output.unwritable")
            return ExitCode.FAILED
        from fleetprompt.state_files import log_path, record_fault

        reference = record_fault(error)
        _say(
            f"FleetPrompt failed by a fault of its own. Look for {reference} in {log_path('host')}."
        )
        return ExitCode.INTERNAL


def _stdout_fault() -> str | None:
    """Why what standard output still holds cannot be written; None when it can."""
    try:
        sys.stdout.flush()
    except OSError as error:
        return error.strerror
    return None


def _drop_stdout() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if not arguments:
        _say(overview())
        return ExitCode.USAGE
    name = arguments[0]
    is_json = "--json" in arguments
    if name == "help" and len(arguments) > 1:
        arguments = [arguments[1], "--help"]
    elif name in ("-h", "--help", "help"):
        print(overview())
        return ExitCode.SUCCEEDED
    options: argparse.Namespace | None = None
    try:
        options = parser_of(_command(arguments[0])).parse_args(arguments[1:])
        options.arguments = arguments
        return int(options.act(options))
    except FleetPromptError as error:
        return _report(error, options, is_json=is_json)


def _command(name: str) -> Command:
    """The command of this name.

    Raises:
        RequestError: `arguments.invalid`: there is none.
    """
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is not None:
        return command
    import difflib

    said = "is not a command."
    close = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    if name.startswith("-"):
        said = "must follow a command."
    elif close:
        said += f" Did you mean `{close[0]}`?"
    raise RequestError(
        "arguments.invalid", f"`{name}` {said} `fleetprompt --help` lists the commands."
    )


def _report(error: FleetPromptError, options: argparse.Namespace | None, *, is_json: bool) -> int:
    from fleetprompt.diagnostic_view import error_lines, files_named
    from fleetprompt.source_lines import read_sources

    if is_json:
        write_json({"ok": False, "error": error.to_data()})
    sources: Mapping[str, list[str]] = {}
    if options is not None:
        sources = read_sources(options.root, files_named(error))
    lines = error_lines(error, sources, width_of(sys.stderr), stderr_style())
    if error.code in ("protocol.internal", "protocol.closed"):
        from fleetprompt.state_files import log_path

        lines.append(f"  log: {log_path('agent')}")
    run_id = (error.details or {}).get("run_id")
    if error.code == "protocol.closed" and isinstance(run_id, str):
        lines.append(f"next: fleetprompt resume {run_id}")
    write_lines(lines, sys.stderr)
    return exit_code_of_error(error)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
