"""Identifiers: what they may look like, how new ones are made, the three that travel together."""

from __future__ import annotations

import re
from typing import NamedTuple

ID_PATTERN = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
"""What a request, correlation, causation, call or run id may look like (protocol.md §3)."""


def is_id(value: object) -> bool:
    """Whether the value is a well-formed id."""
    return isinstance(value, str) and ID_PATTERN.match(value) is not None


def new_id() -> str:
    """A UUIDv7 as text: unique, and later ones sort after earlier ones of the same process."""
    import uuid_utils

    return str(uuid_utils.uuid7())


class Correlation(NamedTuple):
    """The three ids that every message, journal row and log line carries."""

    request_id: str
    """One logical chain, end to end."""
    correlation_id: str
    """The timeline."""
    causation_id: str | None = None
    """The immediate cause: a directive, a call, or an event."""

    def caused_by(self, causation_id: str) -> Correlation:
        """The same chain and timeline with another immediate cause."""
        return Correlation(self.request_id, self.correlation_id, causation_id)
