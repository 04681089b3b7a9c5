"""`run`: run a workflow and follow it, or leave it running."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from fleetprompt.connection import add_agent_argument, connected
from fleetprompt.exit_codes import ExitCode
from fleetprompt.input_arguments import InputArguments, add_input_arguments
from fleetprompt.output import write_json, write_lines
from fleetprompt.roots import chosen_root, workflow_reference
from fleetprompt.state_files import log_path, open_log
from fleetprompt.terminal import terminal_at_hand
from fleetprompt_protocol.errors import FleetPromptError, InternalError

if TYPE_CHECKING:
    import argparse

    from fleetprompt.following import StatusListener
    from fleetprompt.results import RunResult


def add_run(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt run`."""
    parser.add_argument("workflow", metavar="WORKFLOW", help="its id, or the path of its file")
    add_input_arguments(parser)
    parser.add_argument(
        "--allow-side-effects",
        action="store_true",
        help="do not ask before the first side effect; approvals are asked for in any case",
    )
    parser.add_argument(
        "--idempotency-key",
        metavar="KEY",
        help="the same key with the same inputs gives the same run again",
    )
    parser.add_argument(
        "--detach", action="store_true", help="print the run's id and let it go on by itself"
    )
    add_agent_argument(parser)
    import argparse as arguments

    parser.add_argument("--report-fd", type=int, help=arguments.SUPPRESS)
    parser.set_defaults(act=_run)


def _run(options: argparse.Namespace) -> int:
    if options.detach:
        return _detach(options)
    if options.report_fd is None:
        return asyncio.run(_follow(options, None))
    with os.fdopen(options.report_fd, "w", encoding="utf-8") as report:

        def tell(line: dict[str, Any]) -> None:
            if not report.closed:
                report.write(json.dumps(line))
                report.close()

        try:
            return asyncio.run(_follow(options, lambda run_id: tell({"run_id": run_id})))
        except FleetPromptError as error:
            tell({"error": error.to_data()})
            raise


async def _follow(options: argparse.Namespace, on_started: Any) -> int:
    arguments = InputArguments.of(options)
    async with connected(options, allow_side_effects=options.allow_side_effects) as client:
        from fleetprompt.driving import drive

        workflow = workflow_reference(options.workflow, client.root)
        inputs = await arguments.for_workflow(client, workflow)

        async def begin(on_status: StatusListener) -> RunResult:
            return await client.run(
                workflow, inputs, idempotency_key=options.idempotency_key, on_status=on_status
            )

        return await drive(
            client, options, begin, terminal=terminal_at_hand(options), on_started=on_started
        )


def _detach(options: argparse.Namespace) -> int:
    """Let another process follow the run; ends as soon as that one knows the run's id."""
    log = open_log("detached", chosen_root(options.root))
    reading, writing = os.pipe()
    arguments = [word for word in options.arguments if word != "--detach"]
    try:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "fleetprompt", *arguments, "--report-fd", str(writing)],
            stdin=None if options.inputs == "-" else subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=(writing,),
            start_new_session=True,
        )
    finally:
        os.close(writing)
        os.close(log)
    with os.fdopen(reading, encoding="utf-8") as report:
        text = report.read()
    return _report_start(json.loads(text) if text else {}, options)


def _report_start(told: dict[str, Any], options: argparse.Namespace) -> int:
    if "error" in told:
        from fleetprompt_protocol.rpc_error import from_rpc_error

        raise from_rpc_error({"data": told["error"]})
    if "run_id" not in told:
        raise InternalError(
            "protocol.internal",
            f"The process that was to follow the run ended early. See {log_path('detached')}.",
        )
    if options.json:
        write_json({"run_id": told["run_id"], "status": "running"})
    else:
        write_lines([told["run_id"]])
        write_lines([f"next: fleetprompt show {told['run_id']}"], sys.stderr)
    return ExitCode.SUCCEEDED
