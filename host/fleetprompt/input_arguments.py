"""`--input` and `--inputs`: how the commands that need a workflow's inputs are given them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from fleetprompt.input_values import convert_inputs, read_inputs, split_pairs

if TYPE_CHECKING:
    import argparse

    from fleetprompt.client import Client


def add_input_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two arguments."""
    parser.add_argument(
        "--input",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="an input, converted to the type that the workflow declares; may be repeated",
    )
    parser.add_argument(
        "--inputs", metavar="FILE", help="a JSON object of inputs; `-` is standard input"
    )


@dataclass(frozen=True, slots=True)
class InputArguments:
    """What was typed: values of the file, and texts that have no type yet."""

    values: dict[str, Any]
    texts: dict[str, str]

    @classmethod
    def of(cls, options: argparse.Namespace) -> Self:
        """The arguments of a command line.

        Raises:
            RequestError: the file cannot be read, or an argument has not the form `name=value`.
        """
        values = {} if options.inputs is None else read_inputs(options.inputs)
        return cls(values, split_pairs(options.input))

    async def for_workflow(self, client: Client, workflow: str) -> dict[str, Any]:
        """The inputs, texts converted to the types that the workflow declares.

        Raises:
            RequestError: a text is no value of its type.
        """
        if not self.texts:
            return self.values
        properties = ((await client.describe(workflow)).inputs or {}).get("properties")
        declared = properties if isinstance(properties, dict) else {}
        return self.values | convert_inputs(self.texts, declared)
