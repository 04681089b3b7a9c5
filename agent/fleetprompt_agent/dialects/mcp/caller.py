"""What is known of an MCP client while one of its requests is served, in no SDK's words."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fleetprompt_protocol.meta import meta_from

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetprompt_protocol.meta import CallMeta

Json = Any

Era = Literal["handshake", "stateless"]
"""Up to 2025-11-25 a server may ask its client; from 2026-07-28 on it answers with a question."""

META_PREFIX = "dev.fleetprompt/"
"""Of our own keys in `_meta` (protocol.md §3)."""

_META_FIELDS = ("request_id", "correlation_id", "causation_id", "tenant")
_NOT_IN_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True, slots=True)
class Caller:
    """One request's client."""

    era: Era
    client: str = "unknown"
    """The name that the client gives itself; metadata, not identity."""
    can_elicit: bool = False
    """Whether it shows forms to a person, and may."""
    can_sample: bool = False
    """Whether it lets a model answer questions."""
    meta: dict[str, Json] = field(default_factory=dict)
    """The request's `_meta`."""
    report: Callable[[float, float | None, str], Awaitable[None]] | None = None
    """Sends progress `(done, total, text)`; None when none is wanted."""
    elicit: Callable[[str, dict[str, Json], float], Awaitable[dict[str, Json] | None]] | None = None
    """Shows a form `(message, schema, seconds)`; the fields that a person sent, or None."""
    sample: Callable[[dict[str, Json], float], Awaitable[dict[str, Json] | None]] | None = None
    """Asks the client's model `(params, seconds)`; the result as it stands on the wire, or None."""

    @property
    def channel(self) -> str:
        """The channel of what a person decides in this client."""
        return f"mcp:{self.client}"

    @property
    def model(self) -> str:
        """The channel and the actor of what the model behind this client answers."""
        return f"model:{self.client}"

    def call_meta(self) -> CallMeta:
        """The ids under which the request is served.

        Raises:
            RequestError: `protocol.invalid_params`: one of them is malformed.
        """
        given = {name: self.meta.get(META_PREFIX + name) for name in _META_FIELDS}
        given["traceparent"] = self.meta.get("traceparent")
        return meta_from(given)


def client_name(name: object) -> str:
    """The client's name as it may stand in a journal: short and plain."""
    if not isinstance(name, str):
        return "unknown"
    return _NOT_IN_NAME.sub("-", name).strip("-")[:64] or "unknown"
