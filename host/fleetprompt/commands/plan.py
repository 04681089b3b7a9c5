"""`plan`: what a run would do, without doing any of it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import add_agent_argument, connected
from fleetprompt.escaping import escape_line
from fleetprompt.exit_codes import ExitCode
from fleetprompt.input_arguments import InputArguments, add_input_arguments
from fleetprompt.output import stderr_style, stdout_style, width_of, write_json, write_lines
from fleetprompt.roots import workflow_reference
from fleetprompt.source_lines import read_sources

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

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
    add_agent_argument(parser)
    parser.set_defaults(act=lambda options: asyncio.run(_plan(options)))


async def _plan(options: argparse.Namespace) -> int:
    arguments = InputArguments.of(options)
    async with connected(options) as client:
        workflow = workflow_reference(options.workflow, client.root)
        inputs = await arguments.for_workflow(client, workflow)
        plan = await client.plan(workflow, inputs, against=options.against, graph=options.graph)
    _show(plan, options, client.root)
    return ExitCode.SUCCEEDED if plan.valid else ExitCode.USAGE


def _show(plan: WorkflowPlan, options: argparse.Namespace, root: Path) -> None:
    from fleetprompt.diagnostic_view import finding_lines
    from fleetprompt.plan_view import plan_lines

    if options.json:
        write_json(plan.to_json())
        return
    sources = read_sources(root, {problem.file for problem in plan.problems})
    width, style = width_of(sys.stderr), stderr_style()
    write_lines(finding_lines(plan.problems, sources, width, style), sys.stderr)
    if plan.graph is not None:
        # Meant for another program; hostile names are inside their labels already.
        sys.stdout.write(plan.graph)
        sys.stdout.flush()
    elif plan.valid:
        write_lines(plan_lines(plan, width_of(sys.stdout), stdout_style()))
    else:
        write_lines([f"{escape_line(plan.workflow_id)} is invalid; there is no plan."], sys.stderr)
