"""`describe` and `validate`: look into a workflow without running it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import add_agent_argument, connected
from fleetprompt.escaping import escape_line
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt.roots import workflow_reference
from fleetprompt.source_lines import read_sources

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from fleetprompt.results import Diagnostic


def add_validate(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt validate`."""
    parser.add_argument(
        "workflows",
        metavar="WORKFLOW",
        nargs="*",
        help="an id, or the path of a file (default: every workflow of the root)",
    )
    parser.add_argument("--sarif", action="store_true", help="print a SARIF 2.1.0 document instead")
    add_agent_argument(parser)
    parser.set_defaults(act=lambda options: asyncio.run(_validate(options)))


def add_describe(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt describe`."""
    parser.add_argument("workflow", metavar="WORKFLOW", help="its id, or the path of its file")
    parser.set_defaults(act=lambda options: asyncio.run(_describe(options)))


async def _describe(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        described = await client.describe(workflow_reference(options.workflow, client.root))
    if options.json:
        write_json(described.to_json())
    elif described.valid:
        from fleetprompt.workflow_view import workflow_lines

        write_lines(workflow_lines(described, width_of(sys.stdout), stdout_style()))
    else:
        _show_findings(client.root, described.diagnostics)
        write_lines([_verdict(described.workflow_id, is_valid=False)])
    return ExitCode.SUCCEEDED if described.valid else ExitCode.USAGE


async def _validate(options: argparse.Namespace) -> int:
    problems: tuple[Diagnostic, ...] = ()
    async with connected(options) as client:
        references = [workflow_reference(text, client.root) for text in options.workflows]
        if references:
            found = tuple([await client.validate(reference) for reference in references])
        else:
            found, problems = await client.validate_all()
    is_valid = all(validation.valid for validation in found) and not any(
        problem.severity == "error" for problem in problems
    )
    if options.sarif:
        from fleetprompt.sarif import sarif_log

        findings = [finding for validation in found for finding in validation.diagnostics]
        write_json(sarif_log([*problems, *findings]))
    elif options.json:
        validated = {"valid": is_valid, "workflows": [item.to_json() for item in found]}
        write_json(validated | {"problems": [item.to_json() for item in problems]})
    else:
        _show_findings(client.root, problems)
        for validation in found:
            _show_findings(client.root, validation.diagnostics)
            name = validation.workflow_id or validation.file_path or "it"
            write_lines([_verdict(name, is_valid=validation.valid)])
    return ExitCode.SUCCEEDED if is_valid else ExitCode.USAGE


def _show_findings(root: Path, diagnostics: Sequence[Diagnostic]) -> None:
    from fleetprompt.diagnostic_view import finding_lines

    sources = read_sources(root, {diagnostic.file for diagnostic in diagnostics})
    write_lines(finding_lines(diagnostics, sources, width_of(sys.stdout), stdout_style()))


def _verdict(name: str, *, is_valid: bool) -> str:
    style = stdout_style()
    state = "succeeded" if is_valid else "failed"
    sign = style.paint(style.sign(state), style.colour_of(state))
    return f"{sign} {escape_line(name)} is {'valid' if is_valid else 'invalid'}"
