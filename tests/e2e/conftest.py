"""A workspace whose agents are ended with the test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fleetprompt_testing.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    made = Workspace(root, tmp_path / "home")
    yield made
    for agent in made.agents:
        agent.dispose()
