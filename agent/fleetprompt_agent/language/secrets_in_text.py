"""Secrets that are written into a workflow, where handles belong."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_indexer.document import ListNode, MapNode, Node, ScalarNode
from fleetprompt_protocol.redaction import find_secret

if TYPE_CHECKING:
    from fleetprompt_agent.language.diagnostics import Location, Report


def report_secrets(node: Node | None, report: Report, location: Location = ()) -> None:
    """Report each text that looks like a well-known kind of secret; it is never quoted."""
    match node:
        case ScalarNode(value=str(text)):
            kind = find_secret(text) if len(text) >= 16 else None
            if kind is not None:
                report.add(
                    "value.secret",
                    f"this looks like a secret ({kind}), and the file is no place for one",
                    location,
                    hint="declare a handle under `secrets:` and write `${{ secrets.NAME }}`",
                )
        case MapNode(entries=entries):
            for key, value in entries:
                report_secrets(value, report, (*location, key.text))
        case ListNode(items=items):
            for number, item in enumerate(items):
                report_secrets(item, report, (*location, number))
        case _:
            pass
