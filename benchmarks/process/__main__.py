"""A `cli` step against the bare spawn of the same program, in one run.

    python -m benchmarks.process [STEPS]

Prints CPU and wall time for each step of `true`, as ratios to `os.posix_spawn` and as differences.
The CPU of a step is that of the agent, the keepers and the supervisor; the program's own is what
every row pays. Target (design: engine targets): at most 0.7 ms over the bare spawn.
"""

from __future__ import annotations

import asyncio
import os
import resource
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt_agent.language.plan import Output
from fleetprompt_agent.steps.cli import CliRunner
from fleetprompt_agent.steps.contract import StepRequest
from fleetprompt_agent.steps.orders import Spawn
from fleetprompt_agent.steps.process_tree import children_of
from fleetprompt_agent.steps.spawner import Spawner
from fleetprompt_agent.steps.supervisor import start_supervisor
from fleetprompt_protocol.ids import Correlation

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

TARGET_MS = 0.7
ROUNDS = 5
PROGRAM = "/bin/true"


class Cost(NamedTuple):
    """What one spawn costs, in milliseconds."""

    ours: float
    """CPU of everything but the program."""
    wall: float


def _self_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _cpu_of_s(pid: int) -> float:
    """The CPU time of a process; `schedstat` counts in nanoseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def bare_spawn(count: int) -> Cost:
    """The floor: posix_spawn and waitpid, nothing captured."""
    environment = {"PATH": os.environ["PATH"]}
    cpu, start = _self_cpu_s(), time.perf_counter()
    for _ in range(count):
        os.waitpid(os.posix_spawn(PROGRAM, [PROGRAM], environment), 0)
    return _cost(count, _self_cpu_s() - cpu, start)


async def asyncio_pipes(count: int) -> Cost:
    """The standard library's way to capture both outputs."""
    cpu, start = _self_cpu_s(), time.perf_counter()
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(
            PROGRAM, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        await process.communicate()
    return _cost(count, _self_cpu_s() - cpu, start)


class Ours:
    """Spawns through the supervisor."""

    def __init__(self, spawner: Spawner, supervisor_pid: int) -> None:
        self._spawner = spawner
        self._runner = CliRunner(spawner)
        self._supervisor_pid = supervisor_pid
        self._request = StepRequest(
            run_id="run",
            step_path="step",
            step_id="step",
            attempt=1,
            namespace="cli",
            tool_id="cli:true",
            action={"argv": [PROGRAM], "cwd": None, "env": {}, "stdin": None},
            root=Path.cwd(),
            cwd=None,
            output=Output(),
            ok_exit_codes=(0,),
            max_output_bytes=512_000,
            idempotency_key="run/step",
            correlation=Correlation("request", "correlation"),
        )

    async def spawn_only(self, count: int) -> Cost:
        """The supervisor alone: no pipes, no checks."""
        null, root = os.open(os.devnull, os.O_RDWR), os.open("/", os.O_RDONLY)
        order = Spawn(PROGRAM.encode(), [PROGRAM.encode()], [], 2.0)

        async def one() -> None:
            await self._spawner.spawn(order, (null, null, null, root)).wait()

        cost = await self._measure(count, one, 1)
        os.close(null)
        os.close(root)
        return cost

    async def steps(self, count: int, at_once: int = 1) -> Cost:
        """Whole `cli` steps: resolved, started, captured, judged."""

        async def one() -> None:
            outcome = await self._runner.run(self._request, lambda *_: None)
            assert outcome.ok

        return await self._measure(count, one, at_once)

    async def _measure(self, count: int, one: Callable[[], Awaitable[None]], at_once: int) -> Cost:
        async def several(share: int) -> None:
            for _ in range(share):
                await one()

        await asyncio.gather(*(several(1) for _ in range(at_once)))
        guards = [self._supervisor_pid, *children_of(self._supervisor_pid)]
        guards_cpu = sum(map(_cpu_of_s, guards))
        cpu, start = _self_cpu_s(), time.perf_counter()
        await asyncio.gather(*(several(count // at_once) for _ in range(at_once)))
        cost = _self_cpu_s() - cpu + sum(map(_cpu_of_s, guards)) - guards_cpu
        return _cost(count, cost, start)


def _cost(count: int, cpu_s: float, start: float) -> Cost:
    return Cost(cpu_s / count * 1e3, (time.perf_counter() - start) / count * 1e3)


def _private_kb(pid: int) -> int:
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))


async def measure(count: int) -> dict[str, list[Cost]]:
    """Every way, round by round, so that a busy moment of the machine meets all of them."""
    supervisor = start_supervisor()
    spawner = Spawner(supervisor)
    ours = Ours(spawner, supervisor.pid)
    rows: dict[str, list[Cost]] = {}
    for _ in range(ROUNDS):
        for name, cost in (
            ("os.posix_spawn (floor)", bare_spawn(count)),
            ("asyncio, stdout and stderr piped", await asyncio_pipes(count)),
            ("supervisor, nothing captured", await ours.spawn_only(count)),
            ("cli step", await ours.steps(count)),
            ("cli step, 8 at a time", await ours.steps(count, 8)),
        ):
            rows.setdefault(name, []).append(cost)
    guards = [supervisor.pid, *children_of(supervisor.pid)]
    memory = [_private_kb(pid) for pid in guards]
    print(f"private memory: supervisor {memory[0]} KB, keepers {sorted(memory[1:])} KB\n")
    await spawner.close()
    return rows


def main() -> None:
    """Prints the table; exit code 1 when the target is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    rows = asyncio.run(measure(count))
    floor = statistics.median(cost.ours for cost in next(iter(rows.values())))
    print(f"{'median of ' + str(ROUNDS):34} {'CPU ms':>8} {'ratio':>7} {'over':>7} {'wall ms':>8}")
    step_over = 0.0
    for name, costs in rows.items():
        cpu = statistics.median(cost.ours for cost in costs)
        wall = statistics.median(cost.wall for cost in costs)
        print(f"{name:34} {cpu:8.3f} {cpu / floor:6.1f}x {cpu - floor:7.3f} {wall:8.3f}")
        if name == "cli step":
            step_over = cpu - floor
    verdict = "met" if step_over <= TARGET_MS else "MISSED"
    print(f"\ntarget: a step costs at most {TARGET_MS} ms over the bare spawn: {verdict}")
    sys.exit(step_over > TARGET_MS)


if __name__ == "__main__":
    main()
