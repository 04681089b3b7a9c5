"""Indexing does nothing but read workflow files: watched by Python's audit hook and by strace."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    MakeRepository = Callable[..., Path]

WARM = """
import os, sys
from pathlib import Path
from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.document import compose
from fleetprompt_indexer.entry import format_of
from fleetprompt_indexer.index import index_roots
from fleetprompt_indexer.reader import read_file
from fleetprompt_indexer.scan import scan_root
from fleetprompt_protocol.errors import FleetPromptError

state, harmless, hostile = map(Path, sys.argv[1:])

def everything(root):
    report = scan_root(root)
    with Catalog(state / "catalog.db") as catalog:
        index_roots(catalog, [root], full=True)
        catalog.entries()
        catalog.search("odd")
    for entry in report.entries:
        try:
            content = read_file(root, entry.relative)
            compose(content.data, format=format_of(entry.relative), file=entry.file_path)
        except FleetPromptError:
            pass

everything(harmless)
"""

AUDITED = (
    WARM
    + """
seen = set()
sys.addaudithook(lambda event, args: seen.add(event))
everything(hostile)
seen = sorted(seen)
print(" ".join(seen))
"""
)

TRACED = (
    WARM
    + """
os.access("/from-here", os.F_OK)
everything(hostile)
os.access("/up-to-here", os.F_OK)
"""
)

ALLOWED_EVENTS = {"open", "os.scandir", "os.mkdir", "os.stat", "sys.addaudithook"}
ALLOWED_PREFIXES = ("sqlite3.", "object.", "builtins.id", "marshal.")


@pytest.fixture
def arguments(tmp_path: Path, make_repository: MakeRepository, hostile_root: Path) -> list[str]:
    # What is imported when it is first needed is needed here, before anything is watched.
    harmless = make_repository({"a.yaml": 'name: "token \\x1b"', "b.json": "[", "c.yaml": "a: *b"})
    (harmless / ".fleetprompt" / "config.toml").write_text("[[workflows]]\nid = 'x'\nentry = 'x'\n")
    return [str(path) for path in (tmp_path / "state", harmless, hostile_root)]


def test_python_sees_nothing_but_files_being_read(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AUDITED, *arguments], capture_output=True, text=True
    )
    assert done.stderr == ""
    events = set(done.stdout.split())
    assert "open" in events
    strange = {event for event in events - ALLOWED_EVENTS if not event.startswith(ALLOWED_PREFIXES)}
    assert strange == set()


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_the_kernel_sees_nothing_but_files_being_read(tmp_path: Path, arguments: list[str]) -> None:
    log = tmp_path / "strace.log"
    traced = "trace=%process,%network,%file,openat,openat2,getdents64"
    done = subprocess.run(
        [
            *("strace", "-f", "-y", "-s", "4096", "-e", traced, "-o", str(log)),
            *(sys.executable, "-c", TRACED, *arguments),
        ],
        capture_output=True,
        text=True,
    )
    if done.returncode != 0 and "ptrace" in done.stderr:
        pytest.skip("this machine does not allow tracing")
    assert (done.returncode, done.stderr) == (0, "")
    lines = log.read_text(errors="replace").splitlines()
    (start,) = [n for n, line in enumerate(lines) if '"/from-here"' in line]
    (end,) = [n for n, line in enumerate(lines) if '"/up-to-here"' in line]
    state, _, hostile = arguments
    opened = []
    for line in lines[start + 1 : end]:
        call = re.match(r"\d+ +(\w+)\(", line)
        assert call is not None, line
        if call[1] in ("openat", "open"):
            result = re.search(r"= \d+<(.*)>$", line)
            if result is not None:
                opened.append((result[1], "O_DIRECTORY" in line))
        elif call[1] in ("unlink", "chmod", "fchmodat", "rename", "mkdir"):
            assert f'"{state}' in line, line
        else:
            reading = {"newfstatat", "stat", "lstat", "access", "faccessat", "faccessat2"}
            reading |= {"getdents64", "readlink", "getcwd", "statx"}
            assert call[1] in reading, line
    files = {path for path, is_folder in opened if not is_folder}
    ours = (f"{hostile}/.fleetprompt/", f"{state}/")
    outside = {path for path in files if not f"{path}/".startswith(ours)}
    assert outside <= {"/dev/urandom"}, "SQLite asks it for the salt of its log"
    assert any(path.endswith("workflows/merge-bomb.yaml") for path in files)
    folders = {path for path, is_folder in opened if is_folder}
    assert all(path == hostile or path.startswith(f"{hostile}/") for path in folders)
    assert not any("/deeper" in path or "outside" in path for path in folders)
