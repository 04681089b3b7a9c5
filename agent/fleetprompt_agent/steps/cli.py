"""Performs `cli` steps: one program, an argument vector, never a shell."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import posixpath
import signal
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt_agent.steps.arguments import check_argv, encode_words
from fleetprompt_agent.steps.capture import Capture
from fleetprompt_agent.steps.contract import StepOutcome, StepStoppedError
from fleetprompt_agent.steps.environment import inherited_environment, step_environment
from fleetprompt_agent.steps.orders import Spawn
from fleetprompt_agent.steps.programs import PathCleaner, find_program, program_sha256
from fleetprompt_agent.steps.reading import check_output, parse_output
from fleetprompt_agent.steps.workdir import open_directory, relative_directory
from fleetprompt_protocol.errors import FleetPromptError, OperatorError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetprompt_agent.language.plan import Json
    from fleetprompt_agent.steps.contract import Effect, Progress, StepRequest
    from fleetprompt_agent.steps.orders import Report
    from fleetprompt_agent.steps.spawner import Process, Spawner

GRACE_S = 2.0
"""Between SIGTERM and SIGKILL (engine.md §3)."""

PIPE_END_S = 1.0
"""How long a pipe may stay open when every process of the step is gone."""

WATCH_AFTER_S = 0.003
"""When the loop begins to watch the pipes. Watching costs 0.1 ms of CPU a step, more than all else
that is ours, and most programs have ended by then."""

STDIN_HEAD_CHARACTERS = 2_000
"""What an approver is shown of a step's stdin; its digest covers all of it."""

STDERR_TAIL_CHARACTERS = 500
"""How much of stderr an exit-code error repeats."""


class CliRunner:
    """Performs `cli` steps through a spawner.

    Args:
        spawner: Starts and ends the programs.
        environ: The agent's own environment, of which programs see a short list of names.
        grace_s: Between SIGTERM and SIGKILL when a step is stopped.
    """

    def __init__(
        self, spawner: Spawner, environ: Mapping[str, str] = os.environ, grace_s: float = GRACE_S
    ) -> None:
        self._spawner = spawner
        self._path = PathCleaner(environ.get("PATH", os.defpath))
        self._inherited = inherited_environment(environ)
        self._grace_s = grace_s
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:
        """How the program ended. See `contract.StepRunner`; the step's end is its tree's end."""
        attempt = _Attempt(request, progress)
        try:
            try:
                process = self._start(request, attempt)
            except FleetPromptError as error:
                return attempt.refused(error)
            return await self._until_over(process, attempt)
        finally:
            attempt.close()

    def _start(self, request: StepRequest, attempt: _Attempt) -> Process:
        prepared = self._prepare(request)
        with ExitStack() as stack:
            stack.callback(os.close, prepared.directory)
            try:
                stdin = self._null
                if prepared.stdin is not None:
                    stdin = _readable_file(prepared.stdin)
                    stack.callback(os.close, stdin)
                stdout, stderr = attempt.open()
            except OSError as error:
                raise _execution_error(prepared.program, error.errno or 0) from error
            stack.callback(attempt.close_write_ends)
            descriptors = (stdin, stdout, stderr, prepared.directory)
            process = self._spawner.spawn(prepared.spawn, descriptors)
        attempt.watch_soon()
        return process

    async def _until_over(self, process: Process, attempt: _Attempt) -> StepOutcome:
        try:
            report = await process.wait()
            await attempt.finish()
        except asyncio.CancelledError as stop:
            report_or_none = await self._stop(process)
            attempt.drain()
            raise stop from StepStoppedError(attempt.outcome(report_or_none))
        except OperatorError:
            attempt.drain()
            return attempt.outcome(None)
        return attempt.outcome(report)

    async def _stop(self, process: Process) -> Report | None:
        """Ends the tree and waits until it is gone; a second cancel ends it at once."""
        process.stop(self._grace_s)
        while True:
            try:
                return await process.wait()
            except asyncio.CancelledError:
                process.stop(0)
            except OperatorError:
                return None

    def resolve_action(self, request: StepRequest) -> dict[str, Json]:
        """What would run, for whoever approves it: nothing is started."""
        prepared = self._prepare(request)
        os.close(prepared.directory)
        stdin = prepared.stdin
        return {
            "tool": request.tool_id,
            "argv": list(request.action["argv"]),
            "cwd": posixpath.normpath(prepared.cwd),
            "program": prepared.program,
            "program_sha256": program_sha256(prepared.program),
            "env": dict(request.action.get("env") or {}),
            "stdin_sha256": None if stdin is None else hashlib.sha256(stdin).hexdigest(),
            "stdin_head": None if stdin is None else _head(stdin),
        }

    def _prepare(self, request: StepRequest) -> _Prepared:
        action = request.action
        argv: list[str] = action["argv"]
        check_argv(argv, action.get("tainted") or [False] * len(argv))
        words = encode_words(argv, "argument")
        path = self._path.clean(request.root)
        program = find_program(argv[0], path, request.root)
        env = step_environment(self._inherited, path.text, request)
        pairs = encode_words([f"{name}={value}" for name, value in env.items()], "variable")
        stdin = action.get("stdin")
        if isinstance(stdin, str):
            (stdin,) = encode_words([stdin], "stdin", nul_is_fine=True)
        cwd = relative_directory(request.cwd, action.get("cwd"))
        spawn = Spawn(os.fsencode(program), words, pairs, self._grace_s)
        return _Prepared(spawn, program, cwd, stdin, open_directory(request.root, cwd))


class _Prepared(NamedTuple):
    """All that is needed to start, found and checked."""

    spawn: Spawn
    program: str
    cwd: str
    stdin: bytes | None
    directory: int
    """To be closed by who got it."""


def _readable_file(data: bytes) -> int:
    """A descriptor to read the data from: in memory, so that no program can block its writer."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    else:
        import tempfile

        with tempfile.TemporaryFile(buffering=0) as file:
            fd = os.dup(file.fileno())
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _head(data: bytes) -> str:
    """The beginning of a step's stdin, as text."""
    text = data[: 4 * STDIN_HEAD_CHARACTERS].decode("utf-8", "replace")
    return text[:STDIN_HEAD_CHARACTERS]


class _Attempt:
    """One attempt: its channels, and the outcome that they and the report make."""

    def __init__(self, request: StepRequest, progress: Progress) -> None:
        self._request = request
        self._progress = progress
        self._started = time.perf_counter()
        self._channels: list[Capture] = []
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> tuple[int, int]:
        """The writing ends of stdout and stderr.

        Raises:
            OSError: no more pipes.
        """
        for name in ("stdout", "stderr"):
            self._channels.append(Capture(name, self._request.max_output_bytes, self._progress))
        stdout, stderr = self._channels
        return stdout.write_fd, stderr.write_fd

    def watch_soon(self) -> None:
        """Reads the channels as they come, unless the program has ended by then."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(WATCH_AFTER_S, self._watch)

    def _watch(self) -> None:
        for channel in self._channels:
            channel.watch()

    def close_write_ends(self) -> None:
        for channel in self._channels:
            channel.close_write_end()

    async def finish(self) -> None:
        for channel in self._channels:
            await channel.finish(PIPE_END_S)

    def drain(self) -> None:
        for channel in self._channels:
            channel.drain()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for channel in self._channels:
            channel.close()

    def refused(self, error: FleetPromptError) -> StepOutcome:
        """The outcome of a step that was never started."""
        return self._outcome({}, error.to_data(), "none", {})

    def outcome(self, report: Report | None) -> StepOutcome:
        """The outcome of a step that is over; no report means that its keeper is gone."""
        if report is None:
            message = "The process that watched the step was killed, and the step with it."
            lost = _error("supervisor.lost", f"{message} Nobody saw how far it came.")
            return self._outcome(self._result(None), lost, "unknown", {})
        if not report.started:
            error = _execution_error(self._request.action["argv"][0], report.status)
            return self.refused(error)
        metrics = {"cpu_ms": report.cpu_us / 1000, "max_rss_kb": report.max_rss_kb}
        code = report.status if report.status < 0 else os.waitstatus_to_exitcode(report.status)
        result = self._result(code if code >= 0 else None)
        failure, effect = self._judge(report, code, result)
        return self._outcome(result, failure, effect, metrics)

    def _judge(
        self, report: Report, code: int, result: dict[str, Json]
    ) -> tuple[dict[str, Json] | None, Effect]:
        """What is wrong, if anything, and what is known of the effect. Adds `json` to `result`."""
        name = f"`{self._request.action['argv'][0]}`"
        failure: dict[str, Json] | None = None
        if report.stopped:
            return _error("step.interrupted", f"{name} was stopped before it ended."), "unknown"
        if report.survivors:
            return _error("step.unknown_outcome", f"{name} could not be killed."), "unknown"
        if code < 0:
            signal_name = _signal_name(-code)
            message = f"{name} was ended by {signal_name}, which nobody here sent."
            return _error("step.signaled", message, signal=signal_name), "unknown"
        if code not in self._request.ok_exit_codes:
            tail = result["stderr"][-STDERR_TAIL_CHARACTERS:]
            message = f"{name} ended with exit code {code}."
            failure = _error("step.exit_code", message, exit_code=code, stderr_tail=tail)
        if self._request.output.type == "json":
            problem = self._read_json(result)
            failure = failure or problem
        return failure, "done"

    def _read_json(self, result: dict[str, Json]) -> dict[str, Json] | None:
        stdout = self._channels[0]
        if stdout.is_truncated:
            limit = self._request.max_output_bytes
            return _error(
                "output.truncated",
                f"The output is longer than {limit} bytes, and a part of it is no JSON. Print less "
                "or raise `max_output_bytes`.",
                **stdout.truncation(),
            )
        value, failure = parse_output(stdout.data)
        if failure is not None:
            return failure
        result["json"] = value
        schema = self._request.output.schema
        return None if schema is None else check_output(value, schema)

    def _result(self, exit_code: int | None) -> dict[str, Json]:
        stdout, stderr = self._channels
        wants_stdout = self._request.output.type != "none"
        text = stdout.text() if wants_stdout else ""
        result: dict[str, Json] = {
            "stdout": text,
            "stderr": stderr.text(),
            "exit_code": exit_code,
            "text": text.removesuffix("\n").removesuffix("\r"),
        }
        cut = {
            name: channel.truncation()
            for name, channel in (("stdout", stdout), ("stderr", stderr))
            if channel.is_truncated and (name != "stdout" or wants_stdout)
        }
        if cut:
            result["truncated"] = cut
        return result

    def _outcome(
        self,
        result: dict[str, Json],
        error: dict[str, Json] | None,
        effect: Effect,
        metrics: dict[str, float],
    ) -> StepOutcome:
        return StepOutcome(
            ok=error is None,
            result=result,
            error=error,
            effect=effect,
            duration_ms=(time.perf_counter() - self._started) * 1000,
            metrics=metrics,
        )


def _error(code: str, message: str, **details: Json) -> dict[str, Json]:
    data: dict[str, Json] = {"code": code, "message": message}
    if details:
        data["details"] = details
    data["retryable"] = False
    return data


_PASSING = (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETXTBSY)
"""Reasons not to start that may be gone a moment later."""


def _execution_error(program: str, number: int) -> RequestError:
    """Why a program that was found could not be started."""
    reasons = {
        errno.ENOENT: "The interpreter that its first line names does not exist.",
        errno.ENOEXEC: "It is neither a program for this machine nor a script with a `#!` line.",
        errno.EACCES: "Permission denied.",
        errno.ETXTBSY: "Somebody is writing to its file.",
        errno.E2BIG: "Its arguments and variables are longer than the system allows.",
    }
    return RequestError(
        "cli.argument" if number == errno.E2BIG else "cli.not_executable",
        f"`{program}` cannot be executed. {reasons.get(number, os.strerror(number) + '.')}",
        details={"program": program, "errno": errno.errorcode.get(number, str(number))},
        retryable=number in _PASSING,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
