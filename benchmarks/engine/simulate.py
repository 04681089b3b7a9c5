"""Runs of the pure core by the thousand, with failures, lost outcomes, cancels and crashes.

    python -m benchmarks.engine.simulate --runs 1000000 [--seed 1] [--processes 2]

Each run has a plan, an interleaving and crashes of its own, drawn from its seed. After each run: it
has ended, nothing follows, and the fold of its journal gives the same end; a finished step never
started again, and an effect was repeated only where somebody allowed it. Exit code 1 names the seed
of the first run that breaks one of these.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2] / "tests/support"))

from fleetprompt_testing.plans import random_plan
from fleetprompt_testing.simulation import Simulation

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_agent.engine.core.decide import decide

SHARE = 2_000
"""Runs that a process takes at a time."""
FINISHED = ("step.succeeded", "step.skipped", "step.canceled")


class Tally(NamedTuple):
    """What a share of the runs came to."""

    runs: int
    events: int
    crashes: int
    cpu_s: float
    ends: Counter[str]
    fault: str | None


def simulate(first_seed: int, count: int) -> Tally:
    """So many runs, one for each seed from the first."""
    events = crashes = 0
    ends: Counter[str] = Counter()
    began = time.process_time()
    for seed in range(first_seed, first_seed + count):
        random = Random(seed)
        sim = Simulation(random_plan(random), random, intent=random.choice([None, "spawner"]))
        try:
            sim.run()
            fault = fault_of(sim)
        except Exception as error:  # noqa: BLE001 (whatever it is, it is told with its seed)
            fault = f"{type(error).__name__}: {error}"
        if fault is not None:
            spent = time.process_time() - began
            return Tally(seed - first_seed, events, crashes, spent, ends, f"seed {seed}: {fault}")
        events += len(sim.events)
        crashes += sim.crashes
        ends[str(sim.state.ended)] += 1
    return Tally(count, events, crashes, time.process_time() - began, ends, None)


def fault_of(sim: Simulation) -> str | None:
    """What must not be, or None."""
    if sim.state.ended is None or decide(sim.state):
        return "it has not ended"
    again = fold("run-1", sim.events)
    if (again.ended, again.outputs, again.seq) != (
        sim.state.ended, sim.state.outputs, sim.state.seq,
    ):  # fmt: skip
        return "its journal folds to another end"
    if any(event.body.type == "run.reopened" for event in sim.events):
        return None  # what a person had done again may start again
    finished: set[str] = set()
    may_repeat: dict[str, bool] = {}
    for event in sim.events:
        path = getattr(event.body, "step_path", None)
        kind = event.body.type
        if path is None:
            continue
        if kind in FINISHED:
            finished.add(path)
        elif kind in ("step.failed", "gate.resolved"):
            may_repeat[path] = True
        elif kind == "step.started":
            if path in finished:
                return f"{path} had finished and started again"
            step = sim.state.steps[path]
            acts = step.step.side_effects and not step.is_composite
            trusted = step.step.idempotent and sim.state.trusts_author
            if acts and not trusted and may_repeat.get(path) is False:
                return f"the effect of {path} was repeated and nobody allowed it"
            may_repeat[path] = False
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    last = options.seed + options.runs
    firsts = list(range(options.seed, last, SHARE))
    counts = [min(SHARE, last - first) for first in firsts]
    runs = events = crashes = 0
    cpu_s = 0.0
    ends: Counter[str] = Counter()
    began = time.perf_counter()
    with ProcessPoolExecutor(options.processes) as pool:
        for tally in pool.map(simulate, firsts, counts):
            runs, events, crashes = (
                runs + tally.runs,
                events + tally.events,
                crashes + tally.crashes,
            )
            cpu_s, ends = cpu_s + tally.cpu_s, ends + tally.ends
            if tally.fault is not None:
                print(f"after {runs} runs: {tally.fault}")
                pool.shutdown(cancel_futures=True)
                sys.exit(1)
    wall_s = time.perf_counter() - began
    shown = ", ".join(f"{count} {end}" for end, count in ends.most_common())
    print(f"{runs} runs ({shown}), {events} events, {crashes} crashes: nothing broken")
    print(
        f"{wall_s:.1f} s on {options.processes} processes; for a million runs "
        f"{wall_s / runs * 1e6:.0f} s, or {cpu_s / runs * 1e6:.0f} s of CPU"
    )


if __name__ == "__main__":
    main()
