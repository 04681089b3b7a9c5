"""What is listed of a root: its files as they are, and what was found out about their bytes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fleetprompt_protocol.errors import FleetPromptError

if TYPE_CHECKING:
    from pathlib import Path

    from fleetprompt_indexer.entry import Entry
    from fleetprompt_indexer.scan import ScanReport

_WAIT_S = 0.5
"""For a catalog that is being written; a list without validations is better than a late one."""


def listed_entries(report: ScanReport, catalog_path: Path) -> tuple[Entry, ...]:
    """The entries of a scan; `valid` or `invalid` where the catalog has that for the same bytes.

    Args:
        report: Of the root.
        catalog_path: The catalog's file; without one, or with one that cannot be read, the entries
            stay `unvalidated`.
    """
    if not report.entries or not catalog_path.is_file():
        return report.entries
    from fleetprompt_indexer.catalog import Catalog

    try:
        with Catalog(catalog_path, wait_s=_WAIT_S) as catalog:
            known = {
                listed.entry.relative: listed.entry
                for listed in catalog.entries(report.root)
                if listed.entry.status in ("valid", "invalid")
            }
    except FleetPromptError:
        return report.entries
    return tuple(_judged(entry, known.get(entry.relative)) for entry in report.entries)


def _judged(entry: Entry, known: Entry | None) -> Entry:
    if known is None or entry.status != "unvalidated" or known.sha256 != entry.sha256:
        return entry
    return replace(entry, status=known.status)
