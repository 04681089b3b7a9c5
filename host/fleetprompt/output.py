"""What goes to the standard streams of the command."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from fleetprompt.style import Style, style_of

if TYPE_CHECKING:
    from collections.abc import Iterable


def prepare_streams() -> None:
    """Let no character that the locale lacks, and no stream that is closed, end the command."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            # The lowest number is free, and the next file that is opened would become the stream.
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)
            if null != number:
                os.close(null)
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def width_of(stream: TextIO) -> int:
    """How many cells a line of the stream has: `COLUMNS`, the terminal's, or 80."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isascii() and columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def stdout_style() -> Style:
    """What standard output can show."""
    return style_of(sys.stdout, os.environ)


def stderr_style() -> Style:
    """What standard error can show."""
    return style_of(sys.stderr, os.environ)


def write_lines(lines: Iterable[str], stream: TextIO | None = None) -> None:
    """Write lines to a stream; standard output unless given."""
    target = stream or sys.stdout
    target.write("".join(f"{line}\n" for line in lines))
    target.flush()


def write_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    # A lone surrogate that leaves as `\udc80` is JSON again; another encoding needs ASCII.
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    json.dump(value, sys.stdout, ensure_ascii=not is_utf8, indent=2)
    sys.stdout.write("\n")
    sys.stdout.flush()


def write_json_line(value: Any) -> None:
    """Write a JSON document as one line to standard output, which has more of them."""
    sys.stdout.write(f"{json.dumps(value)}\n")
    sys.stdout.flush()
