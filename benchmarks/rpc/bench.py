"""Ratios of the peer to the floor, measured in turns in the same run; see README.md."""

import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

HERE = Path(__file__).parent
FLOOR = [sys.executable, str(HERE / "floor_server.py")]
PEER = [sys.executable, str(HERE / "peer_server.py")]
PRODUCT = [sys.executable, "-P", "-m", "fleetprompt"]

Measure: TypeAlias = Callable[[list[str]], tuple[float, float]]
Unit: TypeAlias = tuple[str, float, str]


def message(number: int, method: str = "echo", **params: object) -> bytes:
    body = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return json.dumps(body, separators=(",", ":")).encode() + b"\n"


class Server:
    """A server process with its pipes."""

    def __init__(self, command: list[str], **environment: str) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={**os.environ, **environment},
        )
        self.pid = self.process.pid
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin = self.process.stdin.fileno()
        self.stdout = self.process.stdout.fileno()
        self.buffer = b""

    def line(self) -> bytes:
        """The next line that it writes."""
        while b"\n" not in self.buffer:
            data = os.read(self.stdout, 1 << 16)
            if not data:
                raise EOFError
            self.buffer += data
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line

    def send(self, data: bytes) -> None:
        """Writes to it."""
        os.write(self.stdin, data)

    def exchange(self, data: bytes, lines: int) -> None:
        """Writes all, reads that many lines, both at once."""
        out, back = self.stdin, self.stdout
        os.set_blocking(out, False)
        view, seen = memoryview(data), 0
        while seen < lines:
            readable, writable, _ = select.select([back], [out] if view else [], [])
            if readable:
                seen += os.read(back, 1 << 16).count(b"\n")
            if writable:
                view = view[os.write(out, view[: 1 << 16]) :]
        os.set_blocking(out, True)

    def cpu_s(self) -> float:
        """CPU that it has used."""
        return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]) / 1e9

    def rss_mb(self) -> float:
        """Memory that it holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 1e6

    def end(self) -> None:
        """Closes its input and waits for its end."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


def spawn(command: list[str], method: str = "echo") -> tuple[float, float]:
    start = time.perf_counter()
    server = Server(command)
    server.send(message(1, method))
    server.line()
    wall, cpu = time.perf_counter() - start, server.cpu_s()
    server.end()
    return wall, cpu


def sequential(command: list[str], calls: int = 5000) -> tuple[float, float]:
    server = Server(command)
    server.send(message(0))
    server.line()
    before = server.cpu_s()
    waits = []
    for number in range(1, calls + 1):
        start = time.perf_counter()
        server.send(message(number, text="x" * 40))
        server.line()
        waits.append(time.perf_counter() - start)
    cpu = server.cpu_s() - before
    server.end()
    return statistics.median(waits), cpu / calls


def pipelined(command: list[str], calls: int = 10_000) -> tuple[float, float]:
    server = Server(command)
    server.send(message(0))
    server.line()
    before, start = server.cpu_s(), time.perf_counter()
    server.exchange(b"".join(message(n, text="x" * 40) for n in range(1, calls + 1)), calls)
    wall, cpu = time.perf_counter() - start, server.cpu_s() - before
    server.end()
    return wall / calls, cpu / calls


def compare(name: str, measure: Measure, rounds: int, units: list[Unit]) -> None:
    """Prints the best of each side, and the ratio; sides take turns, so that load hits both."""
    results: dict[str, list[tuple[float, float]]] = {"floor": [], "peer": []}
    for _ in range(rounds):
        results["floor"].append(measure(FLOOR))
        results["peer"].append(measure(PEER))
    for index, (what, scale, unit) in enumerate(units):
        floor = min(result[index] for result in results["floor"])
        peer = min(result[index] for result in results["peer"])
        print(
            f"{name:28} {what:5} floor {floor * scale:8.1f} {unit:3} "
            f"peer {peer * scale:8.1f} {unit:3} ratio {peer / floor:5.2f}",
            flush=True,
        )


def memory(calls: int = 100_000) -> None:
    server = Server(PEER)
    sizes = []
    for part in range(10):
        first = part * calls // 10
        text = b"".join(message(first + n, text="x" * 40) for n in range(calls // 10))
        server.exchange(text, calls // 10)
        sizes.append(server.rss_mb())
    server.end()
    print(f"RSS after each {calls // 10} calls, MB: {' '.join(f'{size:.1f}' for size in sizes)}")


def held_back(method: str, **environment: str) -> None:
    """How long one quick call takes while 1,000 slow ones run."""
    server = Server(PEER, **environment)
    server.send(message(0))
    server.line()
    for number in range(1, 1001):
        server.send(message(number, "sleep", seconds=3))
    start = time.perf_counter()
    server.send(message(5000, method))
    while json.loads(server.line())["id"] != 5000:
        pass
    wait = time.perf_counter() - start
    server.process.kill()
    server.end()
    print(f"{method} {environment or ''} behind 1,000 calls of 3 s: {wait * 1000:.1f} ms")


def agent(rounds: int) -> None:
    """The agent itself, with one workflow to list, against the floor in turns."""
    with tempfile.TemporaryDirectory() as folder:
        workflows = Path(folder, "project/.fleetprompt/workflows")
        workflows.mkdir(parents=True)
        Path(workflows, "greet.yaml").write_text("steps:\n  - {id: a, tool: flow:noop}\n")
        os.environ["FLEETPROMPT_HOME"] = f"{folder}/home"
        command = [*PRODUCT, "agent", "--root", f"{folder}/project", "--log-level", "error"]
        methods = ("fp_list_workflows", "no_such_method")
        floor, found = [], {method: [] for method in methods}
        for _ in range(rounds):
            floor.append(spawn(FLOOR))
            for method in methods:
                found[method].append(spawn(command, method))
    for method, results in found.items():
        for index, what in enumerate(("wall", "CPU")):
            least = min(result[index] for result in floor)
            best = min(result[index] for result in results)
            print(
                f"spawn to {method:19} {what:5} floor {least * 1e3:8.1f} ms  "
                f"agent {best * 1e3:7.1f} ms  ratio {best / least:5.2f}",
                flush=True,
            )


def version(rounds: int) -> None:
    """What `--version` costs above a bare interpreter."""
    bare = min(_run_cpu([sys.executable, "-P", "-c", ""]) for _ in range(rounds))
    asked = min(_run_cpu([*PRODUCT, "--version"]) for _ in range(rounds))
    print(f"fleetprompt --version: {(asked - bare) * 1000:.1f} ms CPU above a bare interpreter")


def imports() -> None:
    """CPU of importing what the peer needs, above a bare interpreter."""
    for what in (
        "asyncio",
        "fleetprompt_protocol.peer",
        "jsonrpcserver",
        "pydantic",
        "fleetprompt_protocol.messages",
        "structlog",
    ):
        best = min(_import_cpu(f"import asyncio, {what}") for _ in range(5))
        bare = min(_import_cpu("import asyncio") for _ in range(5))
        print(f"import {what:34} {(best - bare) * 1000:6.1f} ms CPU above asyncio")


def _import_cpu(code: str) -> float:
    return _run_cpu([sys.executable, "-W", "ignore", "-c", code])


def _run_cpu(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    # An installed package is compiled; a server must not compile its modules at each start.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    cpu_and_wall = [("wall", 1e3, "ms"), ("CPU", 1e3, "ms")]
    agent(rounds * 2)
    version(rounds * 2)
    compare("spawn to first answer", spawn, rounds * 2, cpu_and_wall)
    per_call = [("wall", 1e6, "µs"), ("CPU", 1e6, "µs")]
    compare("sequential, a call", sequential, rounds, per_call)
    compare("pipelined 10,000, a call", pipelined, rounds, per_call)
    memory()
    held_back("ping")
    held_back("echo", BENCH_IN_FLIGHT="2048")
    imports()


main()
