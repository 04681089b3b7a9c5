"""A user's own `agent/`, `protocol/` and `indexer/` packages are never imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

COMMAND = Path(sys.executable).with_name("fleetprompt")


def test_packages_of_the_indexed_repository_are_not_imported(tmp_path: Path) -> None:
    for name in ("agent", "protocol", "indexer", "host", "fleetprompt_plugins"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\n"
        )
    workflows = tmp_path / ".fleetprompt/workflows"
    workflows.mkdir(parents=True)
    (workflows / "w.yaml").write_text("steps:\n  - {id: a, tool: flow:noop}\n")
    env = {**os.environ, "PYTHONPATH": ".", "FLEETPROMPT_HOME": str(tmp_path.parent / "home")}
    for command in (
        [str(COMMAND), "list"],
        [sys.executable, "-m", "fleetprompt", "list"],
        [str(COMMAND), "run", "w"],
    ):
        done = subprocess.run(
            command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
    assert not (tmp_path / "imported").exists()
