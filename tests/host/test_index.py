"""`fleetprompt index`: what it says, how it ends, and following changes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt.cells import cell_width
from fleetprompt.index_meter import IndexMeter, progress_line
from fleetprompt.style import Style
from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.index import Progress, index_roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    At = Callable[..., Any]
    Command = Callable[..., subprocess.CompletedProcess[str]]

BOUND_S = 60.0


def write(root: Path, name: str, text: str) -> Path:
    file = root / ".fleetprompt" / "workflows" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_summary_counts_what_is_new_gone_and_refused(root: Path, fleetprompt: Command) -> None:
    for name, text in {"a": "name: A", "b": "x: *y", "c": "x: *y", "d": "x: 1\nx: 2"}.items():
        write(root, name, text)
    first = fleetprompt("index", str(root))
    assert (first.returncode, first.stdout) == (
        0,
        "4 workflows in 1 repository: 4 new, 0 changed, 0 removed.\n",
    )
    assert first.stderr.splitlines() == [
        "2 unusable: document.alias",
        "1 unusable: document.duplicate_key",
    ]
    write(root, "a", "name: A2")
    (root / ".fleetprompt" / "workflows" / "d.yaml").unlink()
    second = fleetprompt("index")
    assert second.stdout == "3 workflows in 1 repository: 0 new, 1 changed, 1 removed.\n"
    assert second.stderr == "2 unusable: document.alias\n"


def test_only_what_was_asked_for_is_counted(
    root: Path, tmp_path: Path, fleetprompt: Command
) -> None:
    write(root, "a", "x: *y")
    write(tmp_path / "other", "b", "name: B")
    fleetprompt("index", str(root), str(tmp_path / "other"))
    done = json.loads(fleetprompt("index", str(tmp_path / "other"), "--json").stdout)
    assert (done["found"], done["refused"]) == (1, {})


def test_a_folder_that_cannot_be_looked_through_is_an_error(
    tmp_path: Path, fleetprompt: Command
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name, reason in (
        ("file", "is not a directory"),
        ("none", "There is no"),
        ("loop", "cannot be looked through"),
    ):
        done = fleetprompt("index", str(tmp_path / name), env={"COLUMNS": "400"})
        assert (done.returncode, done.stdout) == (4, "")
        assert reason in done.stderr
        assert "root.not_found" in done.stderr


def test_a_folder_that_went_away_is_told_and_forgotten_by_a_full_run(
    root: Path, tmp_path: Path, fleetprompt: Command
) -> None:
    other = tmp_path / "other"
    write(other, "b", "name: B")
    fleetprompt("index", str(root), str(other))
    other.rename(tmp_path / "away")
    done = fleetprompt("index")
    assert (done.returncode, done.stderr) == (0, "1 repository not there\n")
    full = fleetprompt("index", "--full")
    assert (full.returncode, "is not looked through" in full.stderr) == (0, True)
    assert fleetprompt("index", "--full").stderr == ""


def test_a_state_directory_that_is_a_file_says_what_to_do(
    tmp_path: Path, fleetprompt: Command
) -> None:
    (tmp_path / "home").write_text("")
    done = fleetprompt("index", env={"FLEETPROMPT_HOME": str(tmp_path / "home")})
    assert done.returncode == 1
    assert "FLEETPROMPT_HOME" in done.stderr


# Progress


@pytest.mark.parametrize("columns", [10, 30, 59, 100])
@pytest.mark.parametrize("unicode", [True, False])
def test_progress_fits_into_its_line(columns: int, unicode: bool) -> None:
    style = Style(unicode=unicode)
    for progress in (
        Progress(12_000, 31, None, 0, "/home/someone/a/long/way/down"),
        Progress(12_000, 15_065, 30_130, 50_000, "/home"),
        Progress(12_000, 30_130, 30_130, 100_000, "/home"),
        Progress(1, 0, 0, 0, "/"),
    ):
        assert cell_width(progress_line(progress, columns, style)) <= columns
    line = progress_line(Progress(1, 15, 30, 50, "/"), 100, style)
    bar = "━" * 15 + "─" * 15 if unicode else "#" * 15 + "-" * 15
    assert line == f"{bar} 15 of 30 repositories, 50 workflows"


def test_a_run_that_is_soon_over_shows_no_progress_and_a_long_one_cleans_up() -> None:
    now = 0.0
    stream = io.StringIO()
    meter = IndexMeter(stream, Style(), clock=lambda: now)
    meter.update(Progress(1, 1, 2, 3, "/"))
    meter.clear()
    assert stream.getvalue() == ""
    now = 1.0
    meter.update(Progress(1, 1, 2, 3, "/"))
    meter.update(Progress(1, 2, 2, 4, "/"))
    assert stream.getvalue().count("repositories") == 1, "not more often than anybody reads"
    meter.clear()
    assert stream.getvalue().endswith("\r\x1b[J")


def test_at_a_narrow_terminal_only_the_summary_stays(tmp_path: Path, at_terminal: At) -> None:
    for number in range(60):
        for name in range(40):
            write(tmp_path / "tree" / f"r{number}", f"w{name}", "name: W\n" + "# text\n" * 40)
    write(tmp_path / "tree" / "r0", "broken", "x: *y")
    terminal = at_terminal("index", str(tmp_path / "tree"))
    assert terminal.end() == 0
    assert [line for line in terminal.screen if line.strip()] == [
        "2401 workflows in 60 repositories: 2401 new, 0 changed, 0 removed.",
        "1 unusable: document.alias",
    ]


# Being interrupted


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # open folders
def test_an_interrupt_at_any_point_leaves_a_good_catalog(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleetprompt_indexer.index.BATCH", 10)
    tree = tmp_path / "tree"
    for number in range(8):
        for name in range(5):
            write(tree / f"r{number}", f"w{name}", f"name: W{name}\nsteps: []\n")
    path = tmp_path / "state" / "catalog.db"
    wanted = {f"r{number}/w{name}" for number in range(8) for name in range(5)}
    calls = ends = 0
    while ends == 0:
        calls = calls * 5 // 4 + 1
        for old in path.parent.glob("catalog.db*"):
            old.unlink()
        with Catalog(path) as catalog:
            ends = interrupted_after(calls, lambda: index_roots(catalog, [tree]))
            kept = len(catalog.entries())
            assert kept in (0, 10, 15, 20, 30, 40)
            summary = index_roots(catalog, [tree])
            assert (summary.found, summary.discovered) == (40, 40 - kept)
            assert {f"{i.root.name}/{i.entry.workflow_id}" for i in catalog.entries()} == wanted
            assert len(catalog.search("w3 ", limit=50).hits) == 8
            assert catalog.notices == []
    assert calls > 1000, "the run was interrupted at many points"


def interrupted_after(calls: int, work: Callable[[], object]) -> int:
    """Do the work with a Ctrl-C at its nth call; 1 when it ended before."""
    left = calls

    def count(frame: Any, event: str, _argument: object) -> None:
        nonlocal left
        if event in ("call", "c_call") and "fleetprompt_indexer" in frame.f_code.co_filename:
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGINT)

    sys.setprofile(count)
    try:
        work()
    except KeyboardInterrupt:
        return 0
    finally:
        sys.setprofile(None)
    return 1


def test_ctrl_c_says_that_nothing_is_lost(tmp_path: Path, at_terminal: At, home: Path) -> None:
    # One file that takes long to read, many times over.
    steps = "steps:\n" + "- {id: a, command: cli b}\n" * 500
    large = write(tmp_path / "tree" / "r0", "w0", steps)
    for number in range(1, 5000):
        folder = tmp_path / "tree" / f"r{number // 10}" / ".fleetprompt" / "workflows"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(large, folder / f"w{number}.yaml")
    terminal = at_terminal("index", str(tmp_path / "tree"))
    terminal.expect(" of 500 repositories")
    terminal.send("\x03")
    assert terminal.end() == 130
    said = "".join(terminal.screen).removeprefix("^C")
    assert said == "Interrupted. What was found so far is kept; the next run goes on from there."
    with Catalog(home / "catalog.db") as catalog:
        assert len(catalog.entries()) > 0


# Following changes


class Watch:
    """`fleetprompt index --watch` under way."""

    def __init__(self, *arguments: str, cwd: Path, env: dict[str, str]) -> None:
        command = [sys.executable, "-P", "-m", "fleetprompt", "index", "--watch", *arguments]
        self.process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self.stdout, self.stderr = self.process.stdout, self.process.stderr

    def until(self, stream: Any, text: str) -> str:
        """The line of the stream that holds the text."""
        for line in stream:
            if text in line:
                return str(line)
        pytest.fail(f"{text!r} was not written")

    def end(self, number: int | None = None) -> int:
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(BOUND_S)


@pytest.fixture
def watch(root: Path, environ: dict[str, str]) -> Iterator[Callable[..., Watch]]:
    """Gives a watch that stands."""
    made: list[Watch] = []

    def start(*arguments: str) -> Watch:
        made.append(Watch(*arguments, cwd=root, env=environ))
        made[-1].until(made[-1].stderr, "Watching")
        return made[-1]

    yield start
    for one in made:
        one.process.kill()
        one.process.communicate()


def test_changes_are_a_line_each_until_ctrl_c(
    root: Path, watch: Callable[..., Watch], home: Path
) -> None:
    write(root, "a", "name: A")
    watching = watch()
    assert watching.stdout.readline().startswith("1 workflow in 1 repository: 1 new")
    file = write(root, "b", "name: B")
    assert watching.stdout.readline() == f"discovered  b  {file}\n"
    file.write_text("name: B\nname: C\n")
    line = watching.until(watching.stdout, "unusable")
    assert line == f"changed     b  {file}  unusable: document.duplicate_key\n"
    file.unlink()
    assert watching.stdout.readline() == f"removed     b  {file}\n"
    assert watching.end(signal.SIGINT) == 130
    assert (watching.stdout.read(), watching.stderr.read()) == ("", "")
    with Catalog(home / "catalog.db") as catalog:
        assert [item.entry.workflow_id for item in catalog.entries()] == ["a"]


def test_programs_read_a_json_document_a_line(root: Path, watch: Callable[..., Watch]) -> None:
    watching = watch("--json")
    assert json.loads(watching.stdout.readline())["found"] == 0
    write(root, "b", "name: B")
    change = json.loads(watching.stdout.readline())
    assert re.fullmatch("[0-9a-f]{64}", change.pop("sha256"))
    assert change == {
        "kind": "discovered",
        "root": str(root),
        "file_path": ".fleetprompt/workflows/b.yaml",
        "workflow_id": "b",
        "refused": None,
    }
    assert watching.end(signal.SIGINT) == 130


def test_a_watch_ends_when_nobody_reads_it_any_more(watch: Callable[..., Watch]) -> None:
    watching = watch()
    watching.stdout.readline()
    watching.stdout.close()
    assert watching.end() == 1
    assert watching.stderr.read() == ""


def test_streams_that_are_closed_do_not_matter(root: Path, environ: dict[str, str]) -> None:
    write(root, "a", "name: A")
    for closed in (">&-", "<&- >&-", "2>&- <&-", "<&- >&- 2>&-"):
        command = f'exec "$0" -P -m fleetprompt index {closed}'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable], cwd=root, env=environ, capture_output=True
        )
        assert (done.returncode, done.stderr) == (0, b"")


# Disks


@contextmanager
def disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of its own."""
    place.mkdir()
    options = ["-t", "tmpfs", "-o", f"size={size},mode=0700"]
    if subprocess.run(["mount", *options, "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_told_and_the_next_run_goes_on(tmp_path: Path, fleetprompt: Command) -> None:
    for number in range(3000):
        text = f"name: W{number}\ndescription: {'word ' * 100}\n"
        write(tmp_path / "tree" / f"r{number % 30}", f"w{number}", text)
    with disk(tmp_path / "disk", "2m") as home:
        environ = {"FLEETPROMPT_HOME": str(home)}
        done = fleetprompt("index", str(tmp_path / "tree"), env=environ)
        assert (done.returncode, done.stdout) == (1, "")
        assert "catalog.unavailable" in done.stderr
        assert "full" in done.stderr
        again = fleetprompt("search", "W1", "--json", env=environ)
        kept = json.loads(again.stdout)["workflows"]
        subprocess.run(["mount", "-o", "remount,size=64m", home], check=True)
        more = fleetprompt("index", "--json", env=environ)
        summary = json.loads(more.stdout)
        assert (more.returncode, summary["found"], summary["notices"]) == (0, 3000, [])
        assert summary["discovered"] <= 3000 - len(kept)


def test_a_state_directory_that_cannot_be_written_is_told(
    root: Path, tmp_path: Path, fleetprompt: Command
) -> None:
    write(root, "a", "name: A")
    with disk(tmp_path / "disk", "2m") as home:
        environ = {"FLEETPROMPT_HOME": str(home)}
        assert fleetprompt("index", env=environ).returncode == 0
        subprocess.run(["mount", "-o", "remount,ro", home], check=True)
        for command in (["index"], ["search", "a"]):
            done = fleetprompt(*command, env=environ)
            assert (done.returncode, done.stdout) == (1, "")
            assert "catalog.unavailable" in done.stderr
            assert "Read-only file system" in done.stderr
