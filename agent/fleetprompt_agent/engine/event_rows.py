"""An event as a row of the journal, and back: the one place that knows the columns."""

from __future__ import annotations

import json
from typing import Any

from fleetprompt_agent.engine.core.events import Event, body_from, to_columns
from fleetprompt_agent.language.json_text import text_encoder
from fleetprompt_protocol.errors import JournalError

COLUMNS = (
    "seq", "at", "type", "step_path", "attempt", "data", "tenant", "actor_type", "actor_id",
    "request_id", "correlation_id", "causation_id", "event_id",
)  # fmt: skip
"""In the order of a row; `run_id` comes before them in the table. `data` is JSON text."""

_encode = text_encoder(sort_keys=False, ensure_ascii=True)
_decode = json.JSONDecoder().decode


def to_row(event: Event) -> tuple[Any, ...]:
    """The event's values for `COLUMNS`."""
    type_, step_path, attempt, data = to_columns(event.body)
    return (
        event.seq, event.at_ms, type_, step_path, attempt, _encode(data), event.tenant,
        event.actor_type, event.actor_id, event.request_id, event.correlation_id,
        event.causation_id, event.event_id,
    )  # fmt: skip


def from_row(run_id: str, row: tuple[Any, ...]) -> Event:
    """The event whose values for `COLUMNS` these are.

    Raises:
        JournalError: `journal.corrupt`, naming the run and the event.
    """
    (
        seq, at, type_, step_path, attempt, data, tenant,
        actor_type, actor_id, request_id, correlation_id, causation_id, event_id,
    ) = row  # fmt: skip
    if not (
        type(seq) is int
        and type(at) is int
        and type(event_id) is type(request_id) is type(correlation_id) is str
    ):
        raise _unreadable(run_id, seq)
    try:
        body = body_from(type_, step_path, attempt, _decode(data))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _unreadable(run_id, seq) from error
    return Event(
        seq, at, body, event_id, request_id, correlation_id, causation_id,
        actor_type, actor_id, tenant,
    )  # fmt: skip


def _unreadable(run_id: str, seq: object) -> JournalError:
    return JournalError(
        "journal.corrupt",
        f"Event {seq!r:.40} of run {run_id} cannot be read. Other runs are not affected.",
        details={"run_id": run_id, "seq": seq if isinstance(seq, int) else None},
    )
