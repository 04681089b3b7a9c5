"""What the core wants done. A command is repeated by `decide` until its event has been applied."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from fleetprompt_agent.record import record

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Body, GateKind, Json


@record
class StartStep:
    """Journal `step.started`, then act."""

    step_path: str
    attempt: int
    not_before_ms: int = 0
    """Epoch milliseconds; a retry waits for it."""


@record
class Settle:
    """Journal this body: it follows from the state alone, and nothing has to be done for it."""

    body: Body


@record
class OpenGate:
    """Ask somebody. `step_path` is null for the run's `effects` gate."""

    kind: GateKind
    step_path: str | None
    action: Json
    prompt: str | None = None
    preview: Json = None
    items: Json = None
    response_schema: Json = None
    expires_s: float = 7 * 86_400


@record
class ScheduleRetry:
    """Journal `step.retry_scheduled`: now + `delay_s`, with up to `jitter` of it more or less."""

    step_path: str
    attempt: int
    delay_s: float
    jitter: float


@record
class CancelStep:
    """Stop the step; journal `step.canceled` when it has stopped."""

    step_path: str


Command: TypeAlias = StartStep | Settle | OpenGate | ScheduleRetry | CancelStep
