"""The indexer against libyaml, git, fd and PyYAML, in one run.

    python -m benchmarks.index [FILES]

FILES is the size of the corpus, 10,000 unless given; it is made once, in `benchmarks/.cache`.
Prints CPU time (user and system, of the whole process where a program is run) and the ratios to
the floor that each target names. Where fd is not installed, find stands in without a target.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import yaml
from benchmarks.index.corpus import hostile, make
from yaml._yaml import CParser

from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.discovery import PRUNED
from fleetprompt_indexer.entry import describe
from fleetprompt_indexer.reader import FileContent
from fleetprompt_indexer.walker import walk
from fleetprompt_indexer.watch import follow_roots

CACHE = Path(__file__).parent.parent / ".cache"
ROUNDS = 7

INDEX = """
import sys
from pathlib import Path
from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.index import index_roots
with Catalog(Path(sys.argv[1])) as catalog:
    index_roots(catalog, [Path(path) for path in sys.argv[2:]])
status = Path("/proc/self/status")  # the system's own figure counts the program that started this
if status.exists():
    print(status.read_text().partition("VmHWM:")[2].split()[0])
"""
WALK = """
import os, sys
from fleetprompt_indexer.discovery import discover
print(sum(1 for _ in discover(os.fsencode(sys.argv[1]))))
"""
FLOOR = """
import sys
from yaml._yaml import CParser
for path in sys.stdin.read().split():
    with open(path, "rb") as file:
        CParser(file.read()).raw_parse()
"""


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    corpus = CACHE / f"corpus-{files}"
    if not corpus.exists():
        making = CACHE / f"corpus-{files}.part"
        shutil.rmtree(making, ignore_errors=True)
        make(making, files)
        making.rename(corpus)
    paths = sorted(corpus.glob("*/*/.fleetprompt/workflows/*"))
    print(f"{len(paths):,} files, load {os.getloadavg()[0]:.1f}\n")
    parse([path.read_bytes() for path in paths[:400] if path.suffix == ".yaml"])
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        catalog = Path(folder) / "catalog.db"
        index(corpus, paths, catalog, Path(folder))
        search(catalog)
    edit()
    hazards()


def line(name: str, value: str, target: str, verdict: bool | None = None) -> None:
    mark = {True: "met", False: "MISSED", None: ""}[verdict]
    print(f"{name:<58} {value:>22}   {target:<10} {mark}")


def ratio(name: str, value: float, floor: float, target: float | None = None) -> None:
    line(
        name,
        f"{value / floor:.2f}",
        f"<= {target}" if target else "",
        value / floor <= target if target else None,
    )


def best(*works) -> list[float]:  # noqa: ANN002
    """The least CPU time of each work, over rounds in which they take turns."""
    times = [[] for _ in works]
    for _ in range(ROUNDS):
        for work, found in zip(works, times, strict=True):
            before = time.process_time()
            work()
            found.append(time.process_time() - before)
    return [min(found) for found in times]


def parse(data: list[bytes]) -> None:
    end = yaml.events.StreamEndEvent

    def raw() -> None:
        for item in data:
            CParser(item).raw_parse()

    def events() -> None:
        for item in data:
            get_event = CParser(item).get_event
            while type(get_event()) is not end:
                pass

    def heads() -> None:
        for item in data:
            walk(item, format="yaml")

    def entries() -> None:
        for item in data:
            describe(FileContent(item, "", None), b"w.yaml")

    def loads() -> None:
        for item in data:
            yaml.load(item, yaml.CSafeLoader)

    floor, event, head, entry, load = best(raw, events, heads, entries, loads)
    each = 1e6 / len(data)
    print(
        f"one file, us CPU: libyaml {floor * each:.0f}, PyYAML's events {event * each:.0f}, "
        f"walk {head * each:.0f}, entry {entry * each:.0f}, CSafeLoader {load * each:.0f}"
    )
    ratio("metadata parse / libyaml's C event loop", head, floor, 2.8)
    ratio("metadata parse / CSafeLoader.load", head, load, 0.35)
    ratio("  of which PyYAML's event objects / libyaml", event, floor)
    ratio("  metadata parse / PyYAML's event objects", head, event)
    ratio("whole entry / libyaml's C event loop", entry, floor)
    print()


def run(command: list[object], **options) -> tuple[float, str]:  # noqa: ANN003
    """CPU seconds and the output of a program."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, check=True, **options
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, done.stdout


def index(corpus: Path, paths: list[Path], catalog: Path, folder: Path) -> None:
    python = sys.executable
    names = "\n".join(map(str, paths))
    colds = []
    peak = 0.0
    for _ in range(2):
        for old in catalog.parent.glob("catalog.db*"):
            old.unlink()
        spent, said = run([python, "-c", INDEX, catalog, corpus])
        peak = int(said or 0) / 1024
        floor, _ = run([python, "-c", FLOOR], input=names)
        colds.append((spent / floor, spent, floor))
    _, cold, floor = min(colds)
    print(f"CPU s: cold index {cold:.2f}, read and libyaml's loop {floor:.2f}; peak {peak:.0f} MB")
    ratio("cold index with catalog / libyaml's loop", cold, floor, 3.5)
    line("peak memory of the cold index", f"{peak:.0f} MB", "<= 120 MB", peak <= 120)

    git, fd = shutil.which("git"), shutil.which("fd") or shutil.which("fdfind")
    environment = {**os.environ, "GIT_DIR": str(folder / "git"), "GIT_WORK_TREE": str(corpus)}
    if git:
        run([git, "init", "-q"], env=environment)
        listing = "\n".join(str(path.relative_to(corpus)) for path in paths)
        run([git, "update-index", "--add", "--stdin"], input=listing, env=environment)
        run([git, "update-index", "-q", "--refresh"], env=environment)
    time.sleep(2.1)  # what changed within two seconds is looked at again
    run([python, "-c", INDEX, catalog, corpus])
    works = {"rescan": [python, "-c", INDEX, catalog, corpus]}
    works["walk"] = [python, "-c", WALK, corpus]
    works["start"] = [python, "-c", "from fleetprompt_indexer import catalog, index"]
    prune = [part for name in sorted(PRUNED) for part in ("-E", os.fsdecode(name))]
    if git:
        works["git"] = [git, "diff-files", "--quiet"]
    if fd:
        works["fd"] = [fd, "-HI", "-j1", ".", corpus]
        works["fd pruned"] = [fd, "-HI", "-j1", *prune, ".", corpus]
    else:
        skip = [part for name in sorted(PRUNED) for part in ("-name", os.fsdecode(name), "-o")]
        works["find pruned"] = ["find", corpus, "(", *skip[:-1], ")", "-prune", "-o", "-print"]
        works["find"] = ["find", corpus]
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(ROUNDS):
        for name, command in works.items():
            times[name].append(run(command, env=environment)[0])
    least = {name: min(found) for name, found in times.items()}
    print("CPU s: " + ", ".join(f"{name} {spent:.3f}" for name, spent in least.items()))
    if git:
        ratio("rescan, nothing changed / git diff-files", least["rescan"], least["git"], 2.0)
        net = least["rescan"] - least["start"]
        ratio("  without Python's start and imports", net, least["git"])
    if fd:
        ratio("rescan, nothing changed / fd", least["rescan"], least["fd"], 0.5)
        ratio("full pruned walk / fd with the same pruning", least["walk"], least["fd pruned"], 1.0)
    else:
        print("fd is not installed; find stands in for it, without a target")
        ratio("rescan, nothing changed / find", least["rescan"], least["find"])
        ratio("full pruned walk / find with the same pruning", least["walk"], least["find pruned"])
    print()


def search(path: Path) -> None:
    with Catalog(path) as catalog:
        words = [
            "release",
            "w123 ",
            "w77",
            "docs rollback",
            "sentry",
            "inbox triage",
            "nightly pods",
        ]
        words += [f"w{number} " for number in range(0, 400, 9)]
        words += [
            f"{verb} {noun} ledger w{digit}"
            for verb in ("lint", "scan")
            for noun in ("docs", "pods", "cache")
            for digit in range(1, 9)
        ]
        few, many = [], []
        for query in words * 3:
            count = len(catalog.search(query, limit=1001).hits)
            before = time.process_time()
            catalog.search(query)
            spent = (time.process_time() - before) * 1e3
            (few if count <= 500 else many).append(spent)
        p95 = statistics.quantiles(few, n=20)[-1]
        line(
            f"search, at most 500 matches, CPU, p95 of {len(few)}",
            f"{p95:.2f} ms",
            "<= 5 ms",
            p95 <= 5,
        )
        if many:
            p95 = statistics.quantiles(many, n=20)[-1]
            line(f"search, more matches, CPU, p95 of {len(many)}", f"{p95:.2f} ms", "")
    print()


def edit(times: int = 200) -> None:
    """From a file that is written to the search that finds it."""
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        root = Path(folder) / "root"
        file = root / ".fleetprompt" / "workflows" / "w.yaml"
        file.parent.mkdir(parents=True)
        stop, spent = threading.Event(), []
        with Catalog(Path(folder) / "catalog.db") as catalog, Catalog(catalog.path) as reader:
            batches = follow_roots(catalog, [os.fsencode(root)], stop)
            arrived = threading.Semaphore(0)

            def follow() -> None:
                for _ in batches:
                    arrived.release()

            thread = threading.Thread(target=follow)
            thread.start()
            arrived.acquire()
            for number in range(times):
                time.sleep(0.02)  # writes that follow each other are gathered
                before = time.perf_counter()
                file.write_text(f"name: Edition e{number}x\nsteps: []\n")
                while not reader.search(f"e{number}x ").hits:
                    if not arrived.acquire(timeout=5):
                        raise SystemExit("the edit did not arrive")
                spent.append((time.perf_counter() - before) * 1e3)
            stop.set()
            thread.join()
    hundredths = statistics.quantiles(spent, n=100)
    p50, p99 = hundredths[49], hundredths[98]
    line("edit to searchable, p50", f"{p50:.1f} ms", "<= 25 ms", p50 <= 25)
    line("edit to searchable, p99", f"{p99:.1f} ms", "<= 100 ms", p99 <= 100)
    print()


def hazards() -> None:
    """Every hostile file, in a process of its own: CPU of the entry, and growth of the process."""
    program = """
import json, resource, sys, time
from fleetprompt_indexer.entry import describe
from fleetprompt_indexer.reader import FileContent, Signature
data, name = sys.stdin.buffer.read(), sys.argv[1].encode()
describe(FileContent(b"a: [1", "", Signature(0, 0, 0, 0, 0)), b"a.yaml")
describe(FileContent(b"{", "", Signature(0, 0, 0, 0, 0)), b"a.json")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spent = []
for _ in range(9):
    start = time.process_time()
    describe(FileContent(data, "", Signature(0, 0, 0, 0, 0)), name)
    spent.append(time.process_time() - start)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([min(spent) * 1e3, (after - before) / 1024]))
"""
    found = {}
    for name, content in hostile().items():
        done = subprocess.run(
            [sys.executable, "-c", program, name], input=content, capture_output=True, check=True
        )
        found[name] = json.loads(done.stdout)
    slow = max(found, key=lambda name: found[name][0])
    large = max(found, key=lambda name: found[name][1])
    (ms, _), (_, mb) = found[slow], found[large]
    line(f"slowest of {len(found)} hostile files ({slow})", f"{ms:.1f} ms", "<= 40 ms", ms <= 40)
    line(f"largest of them ({large})", f"{mb:+.1f} MB", "<= 10 MB", mb <= 10)


if __name__ == "__main__":
    main()
