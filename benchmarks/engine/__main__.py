"""The engine's costs as ratios to floors that are measured in the same run.

    python -m benchmarks.engine [--rounds 5] [--peers]

Each workload runs in a process of its own, round by round, so that a busy moment of the machine
meets all of them. What counts is CPU time, and of the rounds the least: other programs can only
add to it. A floor is the least that could be called the same: the rows written, nothing decided.
Peers are measured when they are installed (see `peers.py`). Exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import NamedTuple

from benchmarks.engine import peers

WORK = "benchmarks.engine.workload"


class Cost(NamedTuple):
    """What a workload came to, at best."""

    cpu_ms: float
    wall_ms: float
    peak_mb: float


class Line(NamedTuple):
    """One line of the table."""

    title: str
    name: str
    count: int
    per: int
    """By how many units the cost is divided."""
    floor: str | None = None
    most_ms: float | None = None
    """The target for one unit."""
    most_ratio: float | None = None
    """The target as a ratio to the floor."""


LINES = (
    Line("floor: task and commit a step", "floor_chain", 100, 100),
    Line("durable step, chain of 100", "chain", 100, 100, "floor_chain", 0.10, 5),
    Line("the same, steps that wait for nothing", "chain_instant", 100, 100, "floor_chain"),
    Line("floor: the same, synced", "floor_chain_fsync", 100, 100),
    Line("step with side effect, synced", "chain_fsync", 100, 100, "floor_chain_fsync", 0.30),
    Line("floor: 100 at once, two commits", "floor_fan_out", 100, 1),
    Line("fan-out of 100, whole run", "fan_out", 100, 1, "floor_fan_out", 6.0),
    Line("the same, steps that wait for nothing", "fan_out_instant", 100, 1, "floor_fan_out"),
    Line("1,000 runs of 5 steps, one step", "many_runs", 1000, 5000, "floor_chain"),
    Line("for_each of 100, one item", "each", 100, 100),
    Line("for_each of 1,000, one item", "each", 1000, 1000),
    Line("for_each of 10,000, one item", "each", 10_000, 10_000),
    Line("floor: 10,000 rows read and decoded", "floor_resume", 10_000, 1),
    Line("resume of a 10,000-event run", "resume", 10_000, 1, "floor_resume", None, 2.5),
)
FLAT = 0.20
"""How much an item of 10,000 may cost more than one of 100."""


def measure(name: str, count: int) -> Cost:
    """One round of a workload."""
    command = [sys.executable, "-m", WORK, name, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    cost = json.loads(done.stdout)
    return Cost(cost["cpu_ms"], cost["wall_ms"], cost["peak_kb"] / 1024)


def least(costs: list[Cost]) -> Cost:
    """The least of each."""
    return Cost(*(min(values) for values in zip(*costs, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", action="store_true", help="measure the peers too")
    options = parser.parse_args()
    rounds: dict[tuple[str, int], list[Cost]] = {}
    for _ in range(options.rounds):
        for line in LINES:
            rounds.setdefault((line.name, line.count), []).append(measure(line.name, line.count))
    best = {key: least(costs) for key, costs in rounds.items()}
    missed = print_table(best)
    if options.peers:
        peers.print_peers(best["chain", 100].cpu_ms / 100)
    sys.exit(bool(missed))


def print_table(best: dict[tuple[str, int], Cost]) -> list[str]:
    """Print every line; gives those whose target was missed."""
    units = {line.name: best[line.name, line.count].cpu_ms / line.per for line in LINES}
    missed = []
    print(f"{'least CPU of the rounds':40} {'ms':>9} {'ratio':>7} {'peak MB':>8}  target")
    for line in LINES:
        cost = best[line.name, line.count]
        unit = cost.cpu_ms / line.per
        ratio = unit / units[line.floor] if line.floor is not None else None
        verdicts = []
        if line.most_ms is not None:
            verdicts.append((f"≤ {line.most_ms:g} ms", unit <= line.most_ms))
        if line.most_ratio is not None and ratio is not None:
            verdicts.append((f"≤ {line.most_ratio:g}×", ratio <= line.most_ratio))
        if (line.name, line.count) == ("each", 10_000):
            few = best["each", 100].cpu_ms / 100
            verdicts.append((f"flat +{FLAT:.0%} from 100", unit <= few * (1 + FLAT)))
        missed += [line.title for _, met in verdicts if not met]
        shown = ", ".join(f"{what} {'met' if met else 'MISSED'}" for what, met in verdicts)
        times = f"{ratio:6.1f}x" if ratio is not None else ""
        print(f"{line.title:40} {unit:9.3f} {times:>7} {cost.peak_mb:8.1f}  {shown}")
    return missed


if __name__ == "__main__":
    main()
