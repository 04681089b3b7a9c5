"""`describe` and `validate`: look into a workflow without running it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.connection import connected
from fleetprompt.diagnostic_view import diagnostic_lines
from fleetprompt.escaping import shown
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import stdout_style, width_of, write_json, write_lines
from fleetprompt.results import Diagnostic
from fleetprompt.roots import workflow_reference
from fleetprompt.source_lines import read_sources

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from fleetprompt.client import Client
    from fleetprompt.results import Validation


def add_validate(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt validate`."""
    parser.add_argument(
        "workflows",
        metavar="WORKFLOW",
        nargs="*",
        help="an id, or the path of a file (default: every workflow of the root)",
    )
    parser.set_defaults(act=lambda options: asyncio.run(_validate(options)))


async def _validate(options: argparse.Namespace) -> int:
    async with connected(options) as client:
        references = [workflow_reference(text, client.root) for text in options.workflows]
        if not references:
            references = [entry.file_path for entry in await client.list()]
        found = [await client.validate(reference) for reference in references]
    is_valid = all(validation.valid for validation in found)
    if options.json:
        write_json({"valid": is_valid, "workflows": [item.to_json() for item in found]})
    else:
        _show_validations(client, references, found)
    return ExitCode.SUCCEEDED if is_valid else ExitCode.USAGE


def _show_validations(
    client: Client, references: Sequence[str], found: Sequence[Validation]
) -> None:
    width, style = width_of(sys.stdout), stdout_style()
    for reference, validation in zip(references, found, strict=True):
        files = {diagnostic.file for diagnostic in validation.diagnostics}
        sources = read_sources(client.root, files)
        for diagnostic in validation.diagnostics:
            safe = Diagnostic.model_validate(shown(diagnostic.to_json()))
            source = sources.get(diagnostic.file, ())
            write_lines([*diagnostic_lines(safe, source, width, style), ""])
        state = "succeeded" if validation.valid else "failed"
        word = "valid" if validation.valid else "invalid"
        sign = style.paint(style.sign(state), style.colour_of(state))
        write_lines([f"{sign} {validation.workflow_id or reference} is {word}"])
