"""Other engines, each with its own durable store, on the same chain of 100 no-op steps.

They live in a virtual environment and a folder of their own beneath `benchmarks/.cache`:

    python -m benchmarks.engine.peers          installs them
    python -m benchmarks.engine --peers        measures those that are installed

Lobster's steps are processes of a shell: it is compared with the cost of a process, not of a no-op.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(__file__).parents[1] / ".cache" / "engine"
PYTHON = CACHE / "venv" / "bin" / "python"
LOBSTER = CACHE / "npm" / "node_modules" / ".bin" / "lobster"
PACKAGES = ("langgraph", "langgraph-checkpoint-sqlite", "dbos")
ROUNDS = 3

LANGGRAPH = """
import json, sqlite3, sys, tempfile, time, resource
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, StateGraph
from typing import TypedDict
class State(TypedDict):
    n: int
count = int(sys.argv[1])
graph = StateGraph(State)
for i in range(count):
    graph.add_node(f"s{i}", lambda state: {"n": state["n"] + 1})
    graph.add_edge(START if i == 0 else f"s{i-1}", f"s{i}")
graph.add_edge(f"s{count-1}", END)
with tempfile.TemporaryDirectory() as folder:
    db = sqlite3.connect(folder + "/g.db", check_same_thread=False)
    app = graph.compile(checkpointer=SqliteSaver(db))
    for thread in ("warm", "measured"):
        began = time.process_time()
        config = {"configurable": {"thread_id": thread}, "recursion_limit": count + 10}
        app.invoke({"n": 0}, config, durability="sync")
        spent = time.process_time() - began
print(json.dumps({"cpu_ms": spent * 1e3, "peak_kb": resource.getrusage(0).ru_maxrss}))
"""
DBOS = """
import json, os, sys, tempfile, time, resource, logging
from dbos import DBOS
count = int(sys.argv[1])
folder = tempfile.mkdtemp()
DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder}/d.db",
             "log_level": "ERROR", "run_admin_server": False})
@DBOS.step()
def noop(n: int) -> int:
    return n + 1
@DBOS.workflow()
def chain() -> int:
    n = 0
    for _ in range(count):
        n = noop(n)
    return n
DBOS.launch()
for _ in range(2):
    began = time.process_time()
    chain()
    spent = time.process_time() - began
print(json.dumps({"cpu_ms": spent * 1e3, "peak_kb": resource.getrusage(0).ru_maxrss}), flush=True)
os._exit(0)
"""


def install() -> None:
    """Make the environments, with what the registries give."""
    CACHE.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        venv.create(CACHE / "venv", with_pip=True)
    subprocess.run([PYTHON, "-m", "pip", "install", "--quiet", *PACKAGES], check=False)
    npm = ["npm", "install", "--silent", "--prefix", str(CACHE / "npm"), "@clawdbot/lobster"]
    subprocess.run(npm, check=False)


def print_peers(our_step_ms: float) -> None:
    """What a durable step costs elsewhere, as a ratio to ours."""
    print(f"\n{'peers, one durable no-op step of 100':40} {'ms':>9} {'to ours':>7} {'peak MB':>8}")
    for name, script in (("LangGraph + SQLite, sync", LANGGRAPH), ("DBOS + SQLite", DBOS)):
        cost = _measure(script)
        if cost is None:
            print(f"{name:40} not measured")
            continue
        step_ms, peak_mb = cost
        print(f"{name:40} {step_ms:9.3f} {step_ms / our_step_ms:6.1f}x {peak_mb:8.1f}")
    lobster = _lobster_ms()
    shown = "not measured" if lobster is None else f"{lobster:9.3f}"
    print(f"{'Lobster, one process step of 20':40} {shown}")


def _measure(script: str) -> tuple[float, float] | None:
    """The least CPU of a step in ms and the peak memory in MB, or None without the peer."""
    if not PYTHON.exists():
        return None
    costs = []
    for _ in range(ROUNDS):
        done = subprocess.run(
            [PYTHON, "-c", script, "100"], capture_output=True, text=True, check=False
        )
        if done.returncode:
            return None
        costs.append(json.loads(done.stdout.splitlines()[-1]))
    return (
        min(cost["cpu_ms"] for cost in costs) / 100,
        min(cost["peak_kb"] for cost in costs) / 1024,
    )


def _lobster_ms() -> float | None:
    """CPU of one step of a pipeline of `exec true`, the start of its process taken off."""
    import resource

    if not LOBSTER.exists():
        return None

    def cpu_ms(pipeline: str) -> float | None:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([LOBSTER, "run", pipeline], capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if done.returncode:
            return None
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return spent * 1e3

    rounds = []
    for _ in range(ROUNDS):
        one, many = cpu_ms("exec true"), cpu_ms(" | ".join(["exec true"] * 21))
        if one is None or many is None:
            return None
        rounds.append((many - one) / 20)
    return min(rounds)


if __name__ == "__main__":
    install()
    sys.exit(0)
