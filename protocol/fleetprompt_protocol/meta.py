"""What travels beside a call: the three ids, who asks, and whether to stream (protocol.md §3).

Read without pydantic, since every first answer pays for it. Unknown fields are ignored; an id that
is malformed is refused, one that is absent is made.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.ids import Correlation, is_id, new_id

if TYPE_CHECKING:
    from fleetprompt_protocol.wire import Json

META_VERSION = 1
"""The version of these fields."""

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_ACTOR_TYPES = ("human", "agent", "system")
_MAX_NAME_CHARS = 256


class Actor(NamedTuple):
    """Who asks; metadata for the timeline, never authority."""

    type: str
    """`human`, `agent` or `system`."""
    id: str
    """At most 256 characters, as the caller gave it."""
    display: str | None = None
    """A name for people, at most 256 characters."""

    def to_json(self) -> dict[str, Json]:
        """As it travels."""
        data: dict[str, Json] = {"type": self.type, "id": self.id}
        if self.display is not None:
            data["display"] = self.display
        return data


class CallMeta(NamedTuple):
    """Everything that `params.meta` says, checked."""

    correlation: Correlation
    """The three ids; those that the caller left out are new."""
    actor: Actor | None = None
    """Who asks."""
    tenant: str | None = None
    """For whom, at most 256 characters."""
    traceparent: str | None = None
    """A W3C trace context header; None when it is absent or malformed."""
    stream: bool = False
    """Whether chunks are wanted."""


def correlation_from(meta: object) -> Correlation:
    """The three ids of a `meta` object; absent ones but the causation are made (UUIDv7).

    Raises:
        RequestError: `protocol.invalid_params`: `meta` is not an object, or an id is malformed.
    """
    if meta is None:
        meta = {}
    if not isinstance(meta, dict):
        raise _invalid("meta", "must be an object")
    return Correlation(
        request_id=_id(meta, "request_id") or new_id(),
        correlation_id=_id(meta, "correlation_id") or new_id(),
        causation_id=_id(meta, "causation_id"),
    )


def meta_from(meta: object) -> CallMeta:
    """Everything a `meta` object says.

    Raises:
        RequestError: `protocol.invalid_params`: a field has the wrong type or is malformed.
    """
    correlation = correlation_from(meta)
    fields: dict[str, Json] = meta if isinstance(meta, dict) else {}
    stream = fields.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise _invalid("meta.stream", "must be true or false")
    traceparent = fields.get("traceparent")
    if not isinstance(traceparent, str) or not _TRACEPARENT.match(traceparent):
        traceparent = None  # the standard asks to ignore a malformed one
    return CallMeta(
        correlation,
        actor=_actor(fields.get("actor")),
        tenant=_name(fields, "tenant", "meta.tenant"),
        traceparent=traceparent,
        stream=stream is True,
    )


def meta_json(correlation: Correlation) -> dict[str, Json]:
    """The `meta` of a result or of a message of ours, stamped with the time."""
    from datetime import UTC, datetime

    ts = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    data: dict[str, Json] = {
        "v": META_VERSION,
        "ts": ts,
        "request_id": correlation.request_id,
        "correlation_id": correlation.correlation_id,
    }
    if correlation.causation_id is not None:
        data["causation_id"] = correlation.causation_id
    return data


def _id(fields: dict[str, Json], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not is_id(value):
        raise _invalid(f"meta.{name}", "must be 1 to 128 of A-Z a-z 0-9 . _ : -")
    return str(value)


def _actor(value: object) -> Actor | None:
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("type") not in _ACTOR_TYPES:
        raise _invalid("meta.actor.type", "must be human, agent or system")
    actor_id = _name(value, "id", "meta.actor.id")
    if actor_id is None:
        raise _invalid("meta.actor.id", "is required")
    return Actor(value["type"], actor_id, _name(value, "display", "meta.actor.display"))


def _name(fields: dict[str, Json], name: str, path: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME_CHARS:
        raise _invalid(path, f"must be a text of 1 to {_MAX_NAME_CHARS} characters")
    return value


def _invalid(path: str, problem: str) -> RequestError:
    return RequestError(
        "protocol.invalid_params",
        f"The parameters are not valid: {path} {problem}.",
        details={"problems": [{"path": path, "message": problem}]},
        rpc_code=-32602,
    )
