"""Secrets that are written into a workflow, or given to a run, where handles belong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleetprompt_indexer.document import ListNode, MapNode, Node, ScalarNode
from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.redaction import find_secret

if TYPE_CHECKING:
    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.plan import Json


_LONG_WORD = re.compile(r"[A-Za-z0-9_.-]{15,}|-----BEGIN[^\n]*(?s:.*)")
"""Every well-known secret holds one."""


def report_secrets(source: str, report: Report) -> None:
    """Report each text that looks like a well-known kind of secret; it is never quoted.

    Only the long words of the source are looked at first, since the patterns are slow; a secret
    that is written with escapes, so that only its value has it, was hidden on purpose.
    """
    if any(find_secret(word) is not None for word in _LONG_WORD.findall(source)):
        _walk(report.root, report, ())


def refuse_secrets(what: str, value: Json) -> None:
    """Refuse a value of a caller's that holds what looks like a secret: it would be kept.

    Args:
        what: What it is, to be named; the secret never is.
        value: Any JSON.

    Raises:
        RequestError: `inputs.secret_value`.
    """
    left = [value]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += [*part, *part.values()]
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str) and len(part) >= 16:
            kinds = (find_secret(word) for word in _LONG_WORD.findall(part))
            kind = next((kind for kind in kinds if kind is not None), None)
            if kind is not None:
                raise RequestError(
                    "inputs.secret_value",
                    f"{what} holds what looks like a secret ({kind}), and would be kept with the "
                    "run. Leave it out: programs find their own, in their environment or files.",
                    details={"kind": kind},
                )


def _walk(node: Node | None, report: Report, location: Location) -> None:
    match node:
        case ScalarNode(value=str(text)):
            kind = find_secret(text) if len(text) >= 16 else None
            if kind is not None:
                report.add(
                    "value.secret",
                    f"this looks like a secret ({kind}), and the file is no place for one",
                    location,
                    hint="remove it, and revoke it if it was shared; programs find their own",
                )
        case MapNode(entries=entries):
            for key, value in entries:
                _walk(value, report, (*location, key.text))
        case ListNode(items=items):
            for number, item in enumerate(items):
                _walk(item, report, (*location, number))
        case _:
            pass
