"""Makes foreign text safe to show: nothing in it can move the cursor or reorder what is read.

Whatever comes from a workflow, a program or an agent passes through here before it is drawn.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def escape_line(text: str) -> str:
    """The text with every control character escaped, line breaks and tabs made spaces."""
    if text.isprintable():
        return text  # most of it is: nothing that is escaped counts as printable
    from fleetprompt_protocol.redaction import escape_controls

    return escape_controls(" ".join(text.split("\n")).replace("\t", " "))


def escape_text(text: str) -> str:
    """The text with every control character escaped but its line breaks; tabs are expanded."""
    if text.isprintable():
        return text
    from fleetprompt_protocol.redaction import escape_controls

    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(escape_controls(line.expandtabs(8)) for line in lines)


def shown(value: T) -> T:
    """A JSON value with every text in it, keys too, escaped for showing."""
    safe: Any
    if isinstance(value, str):
        safe = escape_text(value)
    elif isinstance(value, dict):
        safe = {escape_line(key): shown(item) for key, item in value.items()}
    elif isinstance(value, list):
        safe = [shown(item) for item in value]
    else:
        safe = value
    return safe  # type: ignore[no-any-return]  # the shape is kept, only texts change
