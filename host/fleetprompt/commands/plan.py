"""`plan`: what a run would do, without doing any of it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import connected
from fleetprompt.exit_codes import ExitCode
from fleetprompt.input_values import add_input_arguments, given_inputs
from fleetprompt.output import stderr_style, stdout_style, width_of, write_json, write_lines
from fleetprompt.roots import workflow_reference
from fleetprompt.source_lines import read_sources

if TYPE_CHECKING:
    import argparse

    from fleetprompt.results import WorkflowPlan


def add_plan(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt plan`."""
    parser.add_argument("workflow", metavar="WORKFLOW", help="its id, or the path of its file")
    add_input_arguments(parser)
    parser.add_argument(
        "--against",
        metavar="RUN",
        nargs="?",
        const="",
        help="put a run's recorded outcomes through the workflow as it is now, and show what "
        "changes (without RUN: the workflow's latest)",
    )
    parser.add_argument(
        "--graph", choices=("mermaid", "dot"), help="print the graph as text of this kind"
    )
    parser.set_defaults(act=lambda options: asyncio.run(_plan(options)))


async def _plan(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        workflow = workflow_reference(options.workflow, client.root)
        inputs = await given_inputs(options, client, workflow)
        plan = await client.plan(workflow, inputs, against=options.against, graph=options.graph)
        _show(plan, options, client.root)
    return ExitCode.SUCCEEDED if plan.valid else ExitCode.USAGE
