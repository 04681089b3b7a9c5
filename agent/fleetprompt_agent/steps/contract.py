"""What the engine hands to a step runner, and what it gets back.

A runner acts on the world and reports; it decides nothing about retries, gates or the run. A step's
failure is a value (`StepOutcome.error`), not an exception. The caller applies timeouts with
`asyncio.timeout` around `run`; cancelling is how a step is stopped, whatever the reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fleetprompt_agent.record import record

if TYPE_CHECKING:
    from pathlib import Path

    from fleetprompt_agent.language.plan import Json, Output
    from fleetprompt_protocol.ids import Correlation

Effect = Literal["none", "done", "unknown"]
"""What a step did to the world: it never started, it ran to its own end, or nobody can tell."""

Progress = Callable[[str, str], None]
"""Called with `(channel, text)` while a step runs. The channel is `stdout` or `stderr`, of a routed
call also `log`, or `partial_result` with JSON as its text. Best effort: the pieces are for showing,
they stop at the output cap, and the outcome alone is consumed."""


@record
class StepRequest:
    """One attempt of one step, with every template rendered."""

    run_id: str
    step_path: str
    """The instance: `deploy`, `deploy[3]`, `sub/build[0]`."""
    step_id: str
    attempt: int
    """From 1."""
    namespace: str
    """`cli`, `flow` …"""
    tool_id: str
    """`cli:gh`, `flow:set`."""
    action: dict[str, Json]
    """cli: `{"argv": [str, …], "cwd": str | None, "env": {name: str}, "stdin": str | bytes | null}`
    with cwd relative to the run's; flow and tools of other agents: `{"with": json}`."""
    root: Path
    """The workspace: no working directory and no `./program` leaves it."""
    cwd: str | None
    """The run's working directory, relative to `root`; null is `root` itself."""
    output: Output
    ok_exit_codes: tuple[int, ...]
    max_output_bytes: int
    """For stdout and stderr each; what is past it is counted and digested, not kept."""
    idempotency_key: str
    """`run_id/step_path`, the same for every attempt."""
    correlation: Correlation
    artifacts: tuple[str, ...] = ()
    """Globs, relative to the step's working directory, of the files to keep; the engine keeps them
    when the step has succeeded."""
    timeout_s: float | None = None
    """How long the attempt may take; its caller sees to that, a routed call says it on."""


@record
class StepOutcome:
    """How an attempt ended."""

    ok: bool
    result: dict[str, Json]
    """What `steps.<id>` shows. cli: `stdout`, `stderr`, `exit_code`, `text`, `json` when the output
    is JSON, and `truncated` as `{channel: {"truncated": true, "bytes": int, "sha256": hex}}` when a
    channel was cut (`bytes` and `sha256` are those of everything it wrote). flow: `json`."""
    error: dict[str, Json] | None
    """`{code, message, details?, retryable}` when not ok."""
    effect: Effect
    duration_ms: float
    metrics: dict[str, Any]
    """cli: `cpu_ms` and `max_rss_kb` of the program and the children it waited for."""


class StepStoppedError(Exception):
    """The cause of the CancelledError that a stopped attempt ends with: what it had done.

    `asyncio.timeout` turns a CancelledError into a TimeoutError only when it is that very class
    (Python 3.11), so the outcome travels as its cause. `stopped_outcome` finds it in either.
    """

    def __init__(self, outcome: StepOutcome) -> None:
        super().__init__("the step was stopped")
        self.outcome = outcome


def stopped_outcome(error: BaseException) -> StepOutcome | None:
    """What a stopped attempt had done and printed, or None when it had not begun.

    Its code is `step.interrupted`; the caller, who knows why it stopped the step, may say better.

    Args:
        error: The CancelledError or TimeoutError that came out of `run` or its task.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, StepStoppedError):
        cause = cause.__cause__
    return None if cause is None else cause.outcome


class StepRunner(Protocol):
    """Performs the steps of one namespace."""

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:
        """How the attempt ended.

        Raises:
            asyncio.CancelledError: the task was cancelled and nothing of the step is left running;
                `stopped_outcome` says what it had done.
        """
        ...

    def resolve_action(self, request: StepRequest) -> dict[str, Json]:
        """What would run, made by the system, for the eyes of whoever approves it.

        cli: `{tool, argv, cwd, program, program_sha256, env, stdin_sha256, stdin_head}`, where env
        is what the step declares; flow: `{tool, with}`. Without any effect.

        Raises:
            RequestError: it cannot run as it is (`cli.not_found`, `cli.cwd`, `cli.argument` …).
        """
        ...
