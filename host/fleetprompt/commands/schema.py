"""`schema`: the JSON Schema of workflow files, or of the protocol's messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import write_json

if TYPE_CHECKING:
    import argparse


def add_schema(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt schema`."""
    parser.add_argument(
        "--protocol",
        action="store_true",
        help="the messages of the router dialect instead of workflow files",
    )
    parser.set_defaults(act=_schema)


def _schema(options: argparse.Namespace) -> int:
    if options.protocol:
        from fleetprompt.protocol_document import protocol_schema

        write_json(protocol_schema())
    else:
        from fleetprompt_agent.language.schema import workflow_schema

        write_json(workflow_schema())
    return ExitCode.SUCCEEDED
