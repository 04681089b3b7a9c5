"""Following changes where the kernel's own limits are met: watches run out, the queue runs over."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeRepository = Callable[..., Path]

FOLLOW = """
import json, os, sys, threading
from pathlib import Path
from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.watch import follow_roots

def say(what, value):
    print(json.dumps([what, value]), flush=True)

with Catalog(Path(sys.argv[1])) as catalog:
    batches = follow_roots(
        catalog, [os.fsencode(sys.argv[2])], threading.Event(), reconcile_s=float(sys.argv[3]),
        on_notice=lambda notice: say("notice", notice),
    )
    for changes in batches:
        say("changes", [[change.kind, change.workflow_id] for change in changes])
"""

QUEUE = Path("/proc/sys/fs/inotify/max_queued_events")


class Following:
    """A process that follows one root."""

    def __init__(self, root: Path, state: Path, *, reconcile_s: float, before: list[str]) -> None:
        command = [*before, sys.executable, "-c", FOLLOW, state, root, str(reconcile_s)]
        self.process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, text=True
        )

    def until(self, what: str, wanted: object = None) -> Any:
        """What is said next of this kind, and holds what is wanted."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            kind, value = json.loads(line)
            if kind == what and (wanted is None or wanted in value):
                return value
        pytest.fail(f"the process ended before it said {what}")


@pytest.fixture
def follow(
    tmp_path: Path, make_repository: MakeRepository
) -> Iterator[Callable[..., tuple[Following, Path]]]:
    """Gives a process that follows a root, and the root's folder of workflows."""
    made: list[Following] = []

    def start(reconcile_s: float, *before: str) -> tuple[Following, Path]:
        root = make_repository({"a.yaml": "name: A"})
        state = tmp_path / "state" / "catalog.db"
        made.append(Following(root, state, reconcile_s=reconcile_s, before=list(before)))
        return made[-1], root / ".fleetprompt" / "workflows"

    yield start
    for one in made:
        one.process.send_signal(signal.SIGCONT)
        one.process.kill()
        one.process.communicate()


@pytest.mark.skipif(not QUEUE.exists(), reason="there is no inotify")
def test_a_queue_that_runs_over_is_made_good(
    follow: Callable[..., tuple[Following, Path]],
) -> None:
    following, folder = follow(0.5)
    following.until("changes", ["discovered", "a"])
    following.process.send_signal(signal.SIGSTOP)
    # While nobody takes events, more than the queue holds; then one that there is no room for.
    for number in range(int(QUEUE.read_text()) // 2 + 1000):
        os.utime(folder / "a.yaml", ns=(number, number))
        os.utime(folder, ns=(number, number))
    (folder / "b.yaml").write_text("name: B")
    following.process.send_signal(signal.SIGCONT)
    following.until("changes", ["discovered", "b"])
    (folder / "a.yaml").write_text("name: A2")
    following.until("changes", ["changed", "a"])


@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_watch_that_the_kernel_refuses_is_told_and_everything_is_looked_at_instead(
    follow: Callable[..., tuple[Following, Path]],
) -> None:
    few = 'echo 0 > /proc/sys/user/max_inotify_instances && exec "$@"'
    tried = subprocess.run(["unshare", "-Ur", "sh", "-c", few, "sh", "true"], capture_output=True)
    if tried.returncode:
        pytest.skip("this machine does not allow user namespaces")
    following, folder = follow(0.1, "unshare", "-Ur", "sh", "-c", few, "sh")
    notice = following.until("notice")
    assert "cannot be watched" in notice
    (folder / "b.yaml").write_text("name: B")
    following.until("changes", ["discovered", "b"])
