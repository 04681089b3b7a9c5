"""A step's end is the end of everything it started, however that tries to live on."""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetprompt_agent.steps.contract import stopped_outcome

if TYPE_CHECKING:
    from tests.agent.steps.conftest import Bench, Roll

    from fleetprompt_agent.steps.cli import CliRunner
    from fleetprompt_agent.steps.contract import StepOutcome
    from fleetprompt_agent.steps.spawner import Spawner

DAEMON = """
import os, signal, sys, time
os.open(sys.argv[1], os.O_WRONLY)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(3, b"daemon\\n")
        time.sleep(1000)
    os._exit(0)
os.wait()
os.write(3, b"main\\n")
if sys.argv[2] == "stay":
    time.sleep(1000)
"""
"""Leaves a daemon behind: a double fork, a session of its own, deaf to SIGTERM and SIGHUP."""

ORPHAN = """
import os, signal, sys, time
os.open(sys.argv[1], os.O_WRONLY)
main = os.getpid()
signal.signal(signal.SIGTERM, lambda *_: os.write(3, b"deaf\\n"))
if os.fork() == 0:
    while os.getppid() == main:
        time.sleep(0.001)
    os.write(3, b"orphan\\n")
    while True:
        time.sleep(1000)
"""
"""Leaves a child that tells when its parent has ended and when it is asked to end."""

CHASER = """
import os, signal, sys, time
os.open(sys.argv[1], os.O_WRONLY)
until = time.monotonic() + 20
if os.fork():
    os.write(3, b"main\\n")
    time.sleep(1000)
while time.monotonic() < until:
    if sys.argv[2] == "sessions":
        os.setsid()
    if os.fork():
        os._exit(0)
"""
"""Never has one process id for longer than a fork takes."""

STORM = """
import os, sys, time
os.open(sys.argv[1], os.O_WRONLY)
os.write(3, b"main\\n")
until = time.monotonic() + 20
for _ in range(5):
    os.fork()
while time.monotonic() < until:
    try:
        if os.fork() == 0:
            os._exit(0)
        os.wait()
    except OSError:
        pass
"""
"""Thirty-two processes that fork as fast as they can."""


async def _stopped(
    runner: CliRunner, bench: Bench, argv: list[str], ready: asyncio.Event | None = None
) -> StepOutcome | None:
    """The outcome of a step that is cancelled when `ready` is set."""
    task = asyncio.create_task(runner.run(bench.request(*argv), bench.show))
    if ready is not None:
        await ready.wait()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as stop:
        return stopped_outcome(stop)
    raise AssertionError("a cancelled step must end cancelled")


def _stop_when(bench: Bench, roll: Roll, lines: int, *argv: str, grace_s: float) -> StepOutcome:
    """Starts a step, waits for so many lines of its roll, and cancels it."""

    async def use(runner: CliRunner, _: Spawner) -> StepOutcome | None:
        ready = asyncio.Event()
        stopping = asyncio.create_task(_stopped(runner, bench, list(argv), ready))
        for _line in range(lines):
            await roll.line()
        ready.set()
        outcome = await stopping
        assert roll.is_empty, "the step was over, but a process of it was alive"
        return outcome

    outcome = bench.with_runner(use, grace_s)
    assert outcome is not None
    return outcome


def test_cancelling_ends_a_step_and_keeps_what_it_printed(bench: Bench, roll: Roll) -> None:
    script = f"exec 3>{roll.path}; echo partial; echo ready >&3; sleep 1000"

    outcome = _stop_when(bench, roll, 1, "sh", "-c", script, grace_s=30)

    assert outcome.error is not None
    assert outcome.error["code"] == "step.interrupted"
    assert outcome.effect == "unknown"
    assert outcome.result["stdout"] == "partial\n"


def test_a_program_may_clean_up_when_it_is_stopped(bench: Bench, roll: Roll) -> None:
    script = (
        f"exec 3>{roll.path}; trap 'echo clean; exit 0' TERM; echo ready >&3; "
        "while true; do sleep 0.01; done"
    )

    outcome = _stop_when(bench, roll, 1, "sh", "-c", script, grace_s=30)

    assert outcome.result["stdout"] == "clean\n"
    assert outcome.result["exit_code"] == 0
    assert outcome.error is not None
    assert outcome.error["code"] == "step.interrupted"


def test_every_process_of_the_tree_gets_the_signal(bench: Bench, roll: Roll) -> None:
    wait = "while :; do sleep 0.01; done"
    child = f"exec 3>{roll.path}; trap 'echo child; exit' TERM; echo x >&3; {wait}"
    script = f'setsid sh -c "{child}" & wait; wait'

    outcome = _stop_when(bench, roll, 1, "sh", "-c", script, grace_s=30)

    assert outcome.result["stdout"] == "child\n"


def test_a_program_that_ignores_sigterm_is_killed(bench: Bench, roll: Roll) -> None:
    script = f"exec 3>{roll.path}; trap '' TERM; echo ready >&3; while :; do sleep 1000; done"

    outcome = _stop_when(bench, roll, 1, "sh", "-c", script, grace_s=0.05)

    assert outcome.effect == "unknown"


def test_a_stopped_program_can_be_cancelled(bench: Bench, roll: Roll) -> None:
    script = f"exec 3>{roll.path}; echo ready >&3; kill -STOP $$"

    outcome = _stop_when(bench, roll, 1, "sh", "-c", script, grace_s=30)

    assert outcome.effect == "unknown"


def test_a_program_that_holds_up_its_keeper_is_ended(bench: Bench, roll: Roll) -> None:
    script = f"exec 3>{roll.path}; kill -STOP $PPID; echo ready >&3; sleep 1000"

    outcome = _stop_when(bench, roll, 1, "sh", "-c", script, grace_s=30)

    assert outcome.effect == "unknown"


def test_a_program_that_holds_up_its_keeper_for_ever_is_ended(bench: Bench, roll: Roll) -> None:
    script = f"exec 3>{roll.path}; echo ready >&3; while :; do kill -STOP $PPID; done"

    async def use(runner: CliRunner, _: Spawner) -> StepOutcome | None:
        ready = asyncio.Event()
        argv = ["sh", "-c", f"trap '' TERM; {script}"]
        stopping = asyncio.create_task(_stopped(runner, bench, argv, ready))
        assert await roll.line() == "ready"
        ready.set()
        return await stopping

    outcome = bench.with_runner(use, grace_s=0.01)

    roll.wait_for_end()
    assert outcome is not None
    assert outcome.effect == "unknown"


def test_a_second_cancel_does_not_wait_for_the_grace(bench: Bench, roll: Roll) -> None:
    wait = "while :; do sleep 0.01; done"
    script = f"exec 3>{roll.path}; trap 'echo deaf >&3' TERM; echo ready >&3; {wait}"

    async def use(runner: CliRunner, _: Spawner) -> None:
        request = bench.request("sh", "-c", script)
        task = asyncio.create_task(runner.run(request, bench.show))
        assert await roll.line() == "ready"
        task.cancel()
        assert await roll.line() == "deaf"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert roll.is_empty

    bench.with_runner(use, grace_s=3600)


@pytest.mark.parametrize("how", ["stay", "leave"])
def test_a_daemon_that_double_forks_does_not_outlive_its_step(
    bench: Bench, roll: Roll, how: str
) -> None:
    argv = (*bench.python, DAEMON, str(roll.path), how)
    if how == "stay":
        outcome = _stop_when(bench, roll, 2, *argv, grace_s=0.05)
        assert outcome.effect == "unknown"
        return

    async def use(runner: CliRunner, _: Spawner) -> StepOutcome:
        outcome = await runner.run(bench.request(*argv), bench.show)
        assert roll.is_empty
        return outcome

    outcome = bench.with_runner(use, grace_s=0.05)
    assert outcome.ok, "what a program leaves behind does not fail it"


def test_a_child_that_finishes_by_itself_is_let_finish(bench: Bench) -> None:
    """As the `tee` of `cmd > >(tee log)`: its parent does not wait for it."""
    outcome = bench.run("sh", "-c", "(sleep 0.05; echo late) & echo early")

    assert outcome.result["stdout"] == "early\nlate\n"


def test_a_child_that_holds_the_pipe_does_not_hold_the_step(bench: Bench, roll: Roll) -> None:
    outcome = bench.run("sh", "-c", f"exec 3>{roll.path}; (trap '' HUP; sleep 1000) & echo done")

    assert outcome.ok
    assert outcome.result["stdout"] == "done\n"
    roll.wait_for_end()


@pytest.mark.parametrize("how", ["groups", "sessions"])
def test_a_process_that_forks_away_from_every_signal_is_caught(
    bench: Bench, roll: Roll, how: str
) -> None:
    argv = (*bench.python, CHASER, str(roll.path), how)

    _stop_when(bench, roll, 1, *argv, grace_s=0.05)


def test_a_fork_storm_is_ended(bench: Bench, roll: Roll) -> None:
    _stop_when(bench, roll, 1, *bench.python, STORM, str(roll.path), grace_s=0.05)


def test_a_timeout_of_the_caller_ends_the_step(bench: Bench) -> None:
    async def use(runner: CliRunner, _: Spawner) -> StepOutcome | None:
        with pytest.raises(TimeoutError) as late:
            async with asyncio.timeout(0.1):
                await runner.run(bench.request("sleep", "1000"), bench.show)
        return stopped_outcome(late.value)

    outcome = bench.with_runner(use)

    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error["code"] == "step.interrupted"
    assert outcome.effect == "unknown"


def test_a_program_that_ended_before_the_stop_keeps_its_outcome(bench: Bench, roll: Roll) -> None:
    """The stop comes while what it left behind is ended."""
    argv = (*bench.python, ORPHAN, str(roll.path))

    async def use(runner: CliRunner, _: Spawner) -> StepOutcome | None:
        task = asyncio.create_task(runner.run(bench.request(*argv), bench.show))
        assert await roll.line() == "orphan"
        task.cancel()
        assert await roll.line() == "deaf"
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as stop:
            await task
        return stopped_outcome(stop.value)

    outcome = bench.with_runner(use, grace_s=3600)

    assert outcome is not None
    assert outcome.ok
    assert outcome.effect == "done"
    assert outcome.result["exit_code"] == 0


def test_sixty_four_steps_run_at_once(bench: Bench, roll: Roll) -> None:
    """Each waits until all are there: a lower limit would hang."""
    fifo = bench.root / "go"
    os.mkfifo(fifo)
    script = f"exec 3>{roll.path}; echo here >&3; : < go; echo $1"

    async def use(runner: CliRunner, _: Spawner) -> list[StepOutcome]:
        tasks = [
            asyncio.create_task(
                runner.run(bench.request("sh", "-c", script, "sh", str(number)), bench.show)
            )
            for number in range(64)
        ]
        for _number in range(64):
            assert await roll.line() == "here"
        writer = await asyncio.to_thread(os.open, fifo, os.O_WRONLY)
        outcomes = await asyncio.gather(*tasks)
        os.close(writer)
        return outcomes

    outcomes = bench.with_runner(use)

    assert [outcome.result["text"] for outcome in outcomes] == [str(number) for number in range(64)]


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_hundred_steps_leave_no_descriptor_open(bench: Bench) -> None:
    async def use(runner: CliRunner, _: Spawner) -> tuple[int, int]:
        async def some(count: int) -> int:
            for _number in range(count):
                await runner.run(bench.request("true", stdin="x"), bench.show)
                await runner.run(bench.request("no-such-program-anywhere"), bench.show)
            return _open_descriptors()

        return await some(2), await some(100)

    early, late = bench.with_runner(use)
    assert early == late


def test_a_flood_of_output_takes_no_memory(bench: Bench) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    outcome = bench.run("head", "-c", "300000000", "/dev/zero")

    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert outcome.result["truncated"]["stdout"]["bytes"] == 300_000_000
    assert len(outcome.result["stdout"]) == 512_000
    assert grown_kb < 50_000


def test_without_descriptors_a_step_is_refused_and_later_ones_run(bench: Bench) -> None:
    async def use(runner: CliRunner, _: Spawner) -> tuple[StepOutcome, StepOutcome]:
        await runner.run(bench.request("true"), bench.show)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (_open_descriptors(), hard))
        try:
            refused = await runner.run(bench.request("true"), bench.show)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return refused, await runner.run(bench.request("true"), bench.show)

    refused, later = bench.with_runner(use)

    assert refused.error is not None
    assert refused.effect == "none"
    assert refused.error["retryable"]
    assert later.ok
