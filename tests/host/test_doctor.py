"""`fleetprompt doctor`: what is in order, and what is not, each with a way out."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt.health import Check, file_system_of
from fleetprompt.health import _watches as check_watches

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    Command = Callable[..., subprocess.CompletedProcess[str]]

SOUND = "steps:\n  - {id: a, tool: flow:noop}\n"


def write(root: Path, name: str, text: str) -> None:
    (root / ".fleetprompt" / "workflows" / name).write_text(text)


def examined(fleetprompt: Command, *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and what was found by name."""
    done = fleetprompt("doctor", "--json", *arguments)
    told = json.loads(done.stdout)
    assert told["ok"] is (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in told["checks"]}


def test_all_is_well(fleetprompt: Command, root: Path) -> None:
    write(root, "w.yaml", SOUND)
    fleetprompt("run", "w")
    code, found = examined(fleetprompt)
    assert (code, {check["status"] for check in found.values()}) == (0, {"ok"})
    assert found["journal"]["text"].endswith(" 1 run.")
    assert found["workflows"]["text"] == f"1 in {root}, all valid."


def test_it_fits_a_narrow_terminal(fleetprompt: Command, root: Path) -> None:
    write(root, "w.yaml", "steps: 3\n")
    done = fleetprompt("doctor", env={"COLUMNS": "60"})
    lines = done.stdout.splitlines()
    assert (done.returncode, max(map(len, lines)) <= 60) == (1, True), lines
    assert any(line.startswith("✗ workflows") for line in lines)
    assert "→ `fleetprompt validate` says why" in done.stdout


def test_files_that_cannot_be_used_are_named(fleetprompt: Command, root: Path) -> None:
    write(root, "w.yaml", SOUND)
    write(root, "bad.yaml", "steps: 3\n")
    code, found = examined(fleetprompt)
    assert (code, found["workflows"]["status"]) == (1, "failed")
    assert "1 of 2 files" in found["workflows"]["text"]
    assert ".fleetprompt/workflows/bad.yaml" in found["workflows"]["text"]


def test_a_state_directory_that_others_can_write_is_refused(
    fleetprompt: Command, home: Path
) -> None:
    home.mkdir()
    home.chmod(0o777)
    code, found = examined(fleetprompt)
    assert (code, found["state directory"]["code"]) == (1, "state.unsafe")
    assert "chmod 700" in found["state directory"]["text"]
    assert "journal" not in found


def test_a_journal_that_is_none_is_told(fleetprompt: Command, home: Path, root: Path) -> None:
    write(root, "w.yaml", SOUND)
    home.mkdir(mode=0o700)
    (home / "journal.db").write_bytes(b"no database at all, but long enough to be looked into" * 9)
    code, found = examined(fleetprompt)
    assert (code, found["journal"]["code"]) == (1, "journal.corrupt")


def test_a_damaged_page_is_found(fleetprompt: Command, home: Path, root: Path) -> None:
    write(root, "w.yaml", SOUND)
    fleetprompt("run", "w")
    path = home / "journal.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'events'")
        ((size,),) = db.execute("PRAGMA page_size")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * 64)
    code, found = examined(fleetprompt)
    assert (code, found["journal"]["status"]) == (1, "failed")
    assert "damaged" in found["journal"]["text"]
    assert "move it away" in found["journal"]["hint"]


def test_without_the_repository_the_rest_is_examined(fleetprompt: Command, tmp_path: Path) -> None:
    code, found = examined(fleetprompt, "--root", str(tmp_path / "nowhere"))
    assert (code, found["repository"]["status"]) == (1, "failed")
    assert found["state directory"]["status"] == "ok"


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /home rw,relatime shared:1 - nfs4 server:/home rw
31 30 0:41 / /home/ada/my\\040disk rw - xfs /dev/sdb rw
32 22 0:42 / /srv rw - ext4 /dev/sdc rw
33 32 0:43 / /srv rw - fuse.sshfs host: rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/home/ada", "nfs4"),
        ("/home/ada/my disk/state", "xfs"),
        ("/homes", "ext4"),
        ("/srv/state", "fuse.sshfs"),
    ],
)
def test_the_innermost_mount_tells_the_file_system(tmp_path: Path, path: str, kind: str) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert file_system_of(tmp_path.__class__(path), mounts) == kind
    assert file_system_of(tmp_path, tmp_path / "none") == ""


def test_few_watches_are_a_warning(tmp_path: Path) -> None:
    limit = tmp_path / "max_user_watches"
    limit.write_text("512\n")
    found: Check = check_watches(limit)
    assert (found.status, found.hint) == ("warning", "sysctl fs.inotify.max_user_watches=65536")
