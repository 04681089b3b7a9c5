"""What may be an argument of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_argv(argv: Sequence[str], tainted: Sequence[bool]) -> None:
    """Refuses an argument from data that a program would take as an option.

    Args:
        argv: The program and its arguments, rendered.
        tainted: For each, whether it begins with interpolated text.

    Raises:
        RequestError: `cli.option_injection`: a tainted argument starts with `-` and no literal `--`
            stands before it.
    """
    for index, (word, is_tainted) in enumerate(zip(argv, tainted, strict=True)):
        if word == "--" and not is_tainted:
            return
        if index > 0 and is_tainted and word.startswith("-"):
            raise RequestError(
                "cli.option_injection",
                f"Argument {index} of `{argv[0]}` is made from data and begins with `-`, so the "
                "program would take it as an option. Put `--` before it in the workflow.",
                details={"argument": index},
            )


def encode_words(words: Sequence[str], noun: str, *, nul_is_fine: bool = False) -> list[bytes]:
    """The words as a program gets them.

    Args:
        words: Arguments, variables, or the text of stdin.
        noun: What they are, for the message.
        nul_is_fine: For stdin, which may hold any byte.

    Raises:
        RequestError: `cli.argument`: one holds a NUL or half a surrogate pair.
    """
    encoded: list[bytes] = []
    for index, word in enumerate(words):
        try:
            data = word.encode()
        except UnicodeEncodeError:
            raise _unfit(noun, index, "text that is not Unicode") from None
        if b"\0" in data and not nul_is_fine:
            raise _unfit(noun, index, "a NUL character")
        encoded.append(data)
    return encoded


def _unfit(noun: str, index: int, what: str) -> RequestError:
    return RequestError(
        "cli.argument",
        f"{noun.capitalize()} {index} holds {what}, which no program can be given.",
        details={noun: index},
    )
