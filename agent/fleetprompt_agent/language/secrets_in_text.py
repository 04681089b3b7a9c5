"""Secrets that are written into a workflow, where handles belong."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleetprompt_indexer.document import ListNode, MapNode, Node, ScalarNode
from fleetprompt_protocol.redaction import find_secret

if TYPE_CHECKING:
    from fleetprompt_agent.language.diagnostics import Location, Report


_LONG_WORD = re.compile(r"[A-Za-z0-9_.-]{15,}|-----BEGIN[^\n]*(?s:.*)")
"""Every well-known secret holds one."""


def report_secrets(source: str, report: Report) -> None:
    """Report each text that looks like a well-known kind of secret; it is never quoted.

    Only the long words of the source are looked at first, since the patterns are slow; a secret
    that is written with escapes, so that only its value has it, was hidden on purpose.
    """
    if any(find_secret(word) is not None for word in _LONG_WORD.findall(source)):
        _walk(report.root, report, ())


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
