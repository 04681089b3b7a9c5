"""The parser of a command's arguments; what is wrong with them is said as all errors are."""

from __future__ import annotations

import argparse
import difflib
from typing import TYPE_CHECKING, Any, NoReturn

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_REQUIRED = "the following arguments are required: "


class CommandParser(argparse.ArgumentParser):
    """Raises `arguments.invalid` where its base would print the usage and exit."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            RequestError: always; the message names what is wrong and where more is said.
        """
        text = message.removeprefix("argument ").rstrip(".")
        missing = text.removeprefix(_REQUIRED)
        if missing != text:
            text = f"{missing} is missing"
        raise RequestError(
            "arguments.invalid", f"{_sentence(text)} `{self.prog} --help` shows what it takes."
        )

    def parse_args(  # type: ignore[override]  # the base has overloads for foreign namespaces
        self, args: Sequence[str] | None = None, namespace: None = None
    ) -> argparse.Namespace:
        """The arguments as attributes.

        Raises:
            RequestError: `arguments.invalid`.
        """
        options, left = self.parse_known_args(args, namespace)
        if left:
            self.error(self._unknown(left[0].partition("=")[0]))
        return options

    def _unknown(self, argument: str) -> str:
        if not argument.startswith("-"):
            return f"`{argument}` is one argument too many"
        known = [name for action in self._actions for name in action.option_strings]
        close = difflib.get_close_matches(argument, known, n=1)
        hint = f". Did you mean `{close[0]}`?" if close else ""
        return f"`{self.prog}` has no `{argument}`{hint}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise argparse.ArgumentError(
                action, f"`{value}` is none of {', '.join(map(str, action.choices))}"
            )


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else f"{text}."


def whole_number(least: int) -> Callable[[str], int]:
    """For `type=`: reads a whole number that is at least this one."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) < 10) or int(text) < least:
            raise argparse.ArgumentTypeError(f"`{text}` is no whole number of at least {least}")
        return int(text)

    return read
