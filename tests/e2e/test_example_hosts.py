"""The hosts under examples/hosts say what docs/protocol.md lets a stranger expect."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HOSTS = Path(__file__).parents[2] / "examples/hosts"
SAID = """\
list release slow
describe version
validate true
plan build ship
status run: waiting
status run: waiting
gate effects - -
status build: started
status build: completed
status ship: waiting
status run: waiting
gate approval ship built 2
status ship: started
status ship: completed
status run: succeeded
run succeeded shipped 2
run canceled
timeline run.created run.canceled
"""


@pytest.mark.parametrize(
    "host",
    [
        pytest.param([sys.executable, "-P", "host.py"], id="python"),
        pytest.param(["node", "host.mjs"], id="node"),
        pytest.param(["bash", "host.sh"], id="bash"),
    ],
)
def test_a_host_lists_runs_decides_follows_and_cancels(host: list[str], tmp_path: Path) -> None:
    needed = {"node": ["node"], "bash": ["bash", "jq"]}.get(host[0], [])
    if any(shutil.which(program) is None for program in needed):
        pytest.skip(f"needs {' and '.join(needed)}")
    root = shutil.copytree(HOSTS, tmp_path / "project")
    agent = [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", str(root)]
    done = subprocess.run(
        [*host, *agent],
        cwd=root,
        env={**os.environ, "FLEETPROMPT_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr
