"""One measured workload in a process of its own: prints its cost as one JSON line.

    python -m benchmarks.engine.workload NAME COUNT

Only the second of two identical rounds is measured: the first one imports and warms up.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.engine import plans

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_agent.engine.custody import NewRun
from fleetprompt_agent.engine.engine import Engine
from fleetprompt_agent.engine.journal import Journal
from fleetprompt_agent.engine.owner import Owner
from fleetprompt_agent.engine.requests import Asker
from fleetprompt_agent.steps.contract import StepOutcome
from fleetprompt_agent.steps.flow import FlowRunner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.steps.contract import Progress, StepRequest

ASKER = Asker("req", "cor")


class AwaitedRunner:
    """A step that the engine has to wait for, as it waits for every tool."""

    async def run(self, request: StepRequest, progress: Progress) -> StepOutcome:  # noqa: ARG002 (the protocol)
        """The step's name, after one round of the loop."""
        await asyncio.sleep(0)
        return StepOutcome(True, {"json": request.step_id}, None, "none", 0.0, {})

    def resolve_action(self, request: StepRequest) -> dict[str, Any]:
        """The tool."""
        return {"tool": request.tool_id}


class Clock:
    """CPU and wall time of a block."""

    def __enter__(self) -> Self:
        gc.freeze()  # as the agent does when it opens the engine
        self._cpu, self._wall = time.process_time(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_ms = (time.process_time() - self._cpu) * 1e3
        self.wall_ms = (time.perf_counter() - self._wall) * 1e3


def engine_in(folder: Path, namespaces: dict[str, Any]) -> Engine:
    return Engine(Journal(folder / "journal.db"), "/w", Owner.of_this_process(), namespaces)


async def run(engine: Engine, plan: Plan, number: int, items: int = 0) -> None:
    """Start the plan, wait for its end, and check that it succeeded."""
    asker = Asker("req", f"cor-{number}")
    new = NewRun(plan, {"items": list(range(items))}, intent="spawner")
    snapshot = await engine.start(new, asker, None, None)
    assert snapshot.status == "succeeded", snapshot.state.error


async def _ours(folder: Path, plan: Plan, runner: Any, runs: int = 1, items: int = 0) -> Clock:
    engine = engine_in(folder, {"flow": runner})
    await run(engine, plan, 0, items)
    numbers = range(1, runs + 1)
    with Clock() as clock:
        await asyncio.gather(*(run(engine, plan, number, items) for number in numbers))
    await engine.stop()
    engine.journal.close()
    return clock


async def chain(folder: Path, count: int) -> Clock:
    return await _ours(folder, plans.chain(count), AwaitedRunner())


async def chain_instant(folder: Path, count: int) -> Clock:
    return await _ours(folder, plans.chain(count), FlowRunner())


async def chain_fsync(folder: Path, count: int) -> Clock:
    plan = plans.chain(count, side_effects=True)
    return await _ours(folder, plan, AwaitedRunner())


async def fan_out(folder: Path, count: int) -> Clock:
    return await _ours(folder, plans.fan_out(count), AwaitedRunner())


async def fan_out_instant(folder: Path, count: int) -> Clock:
    return await _ours(folder, plans.fan_out(count), FlowRunner())


async def each(folder: Path, count: int) -> Clock:
    return await _ours(folder, plans.each(), AwaitedRunner(), items=count)


async def many_runs(folder: Path, count: int) -> Clock:
    return await _ours(folder, plans.chain(5), AwaitedRunner(), runs=count)


async def resume(folder: Path, count: int) -> Clock:
    """Loading and folding a run of about `count` events."""
    engine = engine_in(folder, {"flow": FlowRunner()})
    await run(engine, plans.chain(count // 2 - 2), 0)
    engine.load("cor-0")
    with Clock() as clock:
        fold("cor-0", engine.journal.load("cor-0"))
    engine.journal.close()
    return clock


# Floors: the least that could be called the same


def _floor_database(folder: Path, synchronous: str) -> sqlite3.Connection:
    db = sqlite3.connect(folder / "floor.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute(f"PRAGMA synchronous={synchronous}")
    db.execute("CREATE TABLE events (run TEXT, seq INTEGER, data TEXT, PRIMARY KEY (run, seq))")
    return db


_ROW = json.dumps({"step": "s", "result": {"json": None}, "at": "2026-01-01T00:00:00Z"})


async def _floor_chain(folder: Path, count: int, synchronous: str) -> Clock:
    db = _floor_database(folder, synchronous)
    clock = Clock()
    for run_id in ("warm", "measured"):
        with clock:
            for seq in range(count):
                await asyncio.sleep(0)
                db.execute("BEGIN IMMEDIATE")
                db.execute("INSERT INTO events VALUES (?,?,?)", (run_id, seq, _ROW))
                db.execute("COMMIT")
    db.close()
    return clock


async def floor_chain(folder: Path, count: int) -> Clock:
    return await _floor_chain(folder, count, "NORMAL")


async def floor_chain_fsync(folder: Path, count: int) -> Clock:
    return await _floor_chain(folder, count, "FULL")


async def floor_fan_out(folder: Path, count: int) -> Clock:
    """Tasks gathered; one commit for all their starts, one for all their ends."""
    db = _floor_database(folder, "NORMAL")

    async def noop() -> None:
        await asyncio.sleep(0)

    clock = Clock()
    for run_id in ("warm", "measured"):
        with clock:
            tasks = [asyncio.ensure_future(noop()) for _ in range(count)]
            for half in range(2):
                db.execute("BEGIN IMMEDIATE")
                rows = [(run_id, half * count + seq, _ROW) for seq in range(count)]
                db.executemany("INSERT INTO events VALUES (?,?,?)", rows)
                db.execute("COMMIT")
                await asyncio.gather(*tasks)
    db.close()
    return clock


async def floor_resume(folder: Path, count: int) -> Clock:
    """Reading the same rows and decoding their JSON."""
    await resume(folder, count)
    db = sqlite3.connect(folder / "journal.db")
    clock = Clock()
    for _ in range(2):
        with clock:
            rows = db.execute("SELECT * FROM events WHERE run_id = 'cor-0' ORDER BY seq").fetchall()
            for row in rows:
                json.loads(row[6])
    db.close()
    return clock


WORKLOADS: dict[str, Callable[[Path, int], Awaitable[Clock]]] = {
    work.__name__: work
    for work in (
        chain, chain_instant, chain_fsync, fan_out, fan_out_instant, each, many_runs, resume,
        floor_chain, floor_chain_fsync, floor_fan_out, floor_resume,
    )
}  # fmt: skip


def main() -> None:
    name, count = sys.argv[1], int(sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="fleetprompt-bench-") as folder:
        clock = asyncio.run(WORKLOADS[name](Path(folder), count))  # type: ignore[arg-type]  # coroutines
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cost = {"cpu_ms": clock.cpu_ms, "wall_ms": clock.wall_ms, "peak_kb": peak_kb}
    sys.stdout.write(json.dumps(cost) + "\n")


if __name__ == "__main__":
    main()
