"""The indexer over YAML and JSON that other people wrote.

    python -m benchmarks.index.real DIRECTORY…

Takes every .yaml, .yml and .json file beneath the directories (package trees, checkouts), each
content once, as a workflow file of scratch repositories in a temporary directory, and indexes
these. Then compiles each as the agent does before a run. Prints how many files of each kind were
refused, by code, and fails when one was lost, raised, took longer than a second, was refused by the
index and not by the agent, was read as plain but as something else than by the walk, or is said to
be fit to run without having steps.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from fleetprompt_agent.language.loader import load_workflow
from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.events import decode
from fleetprompt_indexer.index import index_roots
from fleetprompt_indexer.reader import MAX_FILE_BYTES
from fleetprompt_indexer.scan import MAX_FILES
from fleetprompt_indexer.walker import plain_head, walk_events

ENDINGS = frozenset({".yaml", ".yml", ".json"})
SLOW_S = 1.0
FORMS = (
    ("Helm template", re.compile(rb"\{\{-?\s*(?:\.|if|range|include|with|end|template|\$|-)")),
    ("GitHub Actions", re.compile(rb"^jobs:", re.MULTILINE)),
    ("GitHub action", re.compile(rb"^runs:", re.MULTILINE)),
    ("Kubernetes", re.compile(rb"^apiVersion:", re.MULTILINE)),
    ("Compose", re.compile(rb"^services:", re.MULTILINE)),
    ("OpenAPI", re.compile(rb"^(?:openapi|swagger):", re.MULTILINE)),
)


def kind_of(path: Path, data: bytes) -> str:
    """What the file seems to be."""
    if path.suffix.lower() == ".json":
        return "JSON"
    return next((name for name, form in FORMS if form.search(data)), "other YAML")


def gathered(directories: list[str]) -> dict[str, tuple[Path, bytes]]:
    """Digest to path and content, for each content once."""
    found: dict[str, tuple[Path, bytes]] = {}
    for directory in directories:
        for folder, _, names in os.walk(directory):
            for name in names:
                path = Path(folder) / name
                if path.suffix.lower() not in ENDINGS or path.is_symlink() or not path.is_file():
                    continue
                try:
                    data = path.read_bytes()
                except OSError:
                    continue
                found.setdefault(hashlib.sha256(data).hexdigest(), (path, data))
    return found


def main() -> int:
    """Index and compile what the directories hold; 1 when something is not as it should be."""
    files = gathered(sys.argv[1:])
    faults: list[str] = []
    listed: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, (digest, (path, data)) in enumerate(files.items()):
            root = Path(scratch) / "repositories" / f"r{number // MAX_FILES}"
            folder = root / ".fleetprompt" / "workflows"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{digest[:40]}{path.suffix.lower()}").write_bytes(data)
        with Catalog(Path(scratch) / "catalog.db") as catalog:
            before = time.process_time()
            summary = index_roots(catalog, [Path(scratch) / "repositories"])
            spent = time.process_time() - before
            for item in catalog.entries(limit=len(files) + 1):
                codes = [p.code for p in item.entry.problems if p.severity == "error"]
                name = Path(item.entry.file_path).stem
                listed[name] = codes[0] if codes else ""
    size = sum(len(data) for _, data in files.values())
    print(f"{len(files):,} files, {size / 1e6:.1f} MB, indexed in {spent:.1f} s CPU")
    print(f"refused: {summary.refused}")
    counts: Counter[tuple[str, str, str]] = Counter()
    plain: Counter[str] = Counter()
    for digest, (path, data) in files.items():
        kind = kind_of(path, data)
        if digest[:40] not in listed:
            faults.append(f"{path} is not listed")
            continue
        code = listed[digest[:40]]
        if len(data) > MAX_FILE_BYTES:
            counts[kind, code, ""] += 1
            continue
        format_ = "json" if path.suffix.lower() == ".json" else "yaml"
        before = time.process_time()
        try:
            compiled = load_workflow(
                data, format=format_, file=path.name, root=Path("/nonexistent")
            )
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            faults.append(f"{path} raises {type(error).__name__}: {error}")
            continue
        if time.process_time() - before > SLOW_S:
            faults.append(f"{path} took {time.process_time() - before:.1f} s")
        errors = [item.code for item in compiled.diagnostics if item.severity == "error"]
        if compiled.plan is not None and b"steps" not in data:
            faults.append(f"{path} is said to be fit to run")
        if code.startswith("document.") and code not in errors:
            faults.append(f"{path}: the index says {code}, the agent {errors[:3]}")
        counts[kind, code, "" if code else (errors or ["fit to run"])[0]] += 1
        text, problems = decode(data)
        head = plain_head(text, format=format_) if not problems else None
        if head is not None:
            plain[kind] += 1
            walked = walk_events(text, [], format=format_)
            if walked.problems or repr(walked.values) != repr(head.values):
                faults.append(f"{path} is read as something else")
    for kind in sorted({kind for kind, _, _ in counts}):
        total = sum(count for found, count in counts.items() if found[0] == kind)
        print(f"\n{kind}: {total:,}, of which {plain[kind]:,} are read as plain")
        rows = sorted((item for item in counts.items() if item[0][0] == kind), key=lambda i: -i[1])
        for (_, code, later), count in rows:
            print(f"  {count:>6,}  {code or f'listed; for a run: {later}'}")
    print(f"\n{len(faults)} faults", *faults[:50], sep="\n  ")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
