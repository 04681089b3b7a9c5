"""An event as a row of the journal, and back: the one place that knows the columns."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.core.events import Event, body_from, to_columns
from fleetprompt_agent.engine.large_output import APART, INLINE_BYTES, put_back, set_apart
from fleetprompt_agent.language.json_text import text_encoder
from fleetprompt_protocol.errors import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

COLUMNS = (
    "seq", "at", "type", "step_path", "attempt", "data", "tenant", "actor_type", "actor_id",
    "request_id", "correlation_id", "causation_id", "event_id",
)  # fmt: skip
"""In the order of a row; `run_id` comes before them in the table. `data` is JSON text."""

_encode = text_encoder(sort_keys=False, ensure_ascii=True)
_decode = json.JSONDecoder().decode


def to_row(event: Event, keep: Callable[[bytes], str] | None = None) -> tuple[Any, ...]:
    """The event's values for `COLUMNS`.

    Args:
        event: The event.
        keep: Where large output goes (see `large_output`); without it all of it is in the row.
    """
    type_, step_path, attempt, data = to_columns(event.body)
    text = _encode(data)
    if keep is not None and len(text) > INLINE_BYTES:
        text = _encode(set_apart(data, keep))
    return (
        event.seq, event.at_ms, type_, step_path, attempt, text, event.tenant,
        event.actor_type, event.actor_id, event.request_id, event.correlation_id,
        event.causation_id, event.event_id,
    )  # fmt: skip


def from_row(
    run_id: str, row: tuple[Any, ...], fetch: Callable[[str], bytes] | None = None
) -> Event:
    """The event whose values for `COLUMNS` these are.

    Args:
        run_id: The run.
        row: The values.
        fetch: The large output with this sha256 (see `large_output`).

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
        values = _decode(data)
        if fetch is not None and APART in values:
            put_back(values, fetch)
        body = body_from(type_, step_path, attempt, values)
    except OSError as error:
        raise JournalError(
            "journal.corrupt",
            f"Event {seq} of run {run_id} refers to output that cannot be read from the artifacts "
            f"store: {error.strerror or error}. Other runs are not affected.",
            details={"run_id": run_id, "seq": seq},
        ) from error
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
