"""Node programs that the tests run: MCP clients that others have written."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LIMIT_S = 300
"""For one program: generous, since tests share the machine."""


class Node:
    """A Node of its own, with the packages that are installed beside it.

    Args:
        folder: Where `node_modules` is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.binary = folder / "node_modules/node/bin/node"

    @property
    def is_installed(self) -> bool:
        """Whether there is anything to run."""
        return self.binary.exists()

    def run(
        self, script: str, *arguments: str, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a script, named from the folder; gives what became of it."""
        given = env if env is not None else dict(os.environ)
        path = f"{self.binary.parent}{os.pathsep}{given['PATH']}"
        return subprocess.run(
            [str(self.binary), str(self.folder / script), *arguments],
            cwd=self.folder,
            env={**given, "PATH": path},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
