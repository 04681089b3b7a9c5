"""Projects for MCP clients, and the two eras of the protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fleetprompt_testing.mcp_project import HANDSHAKE, STATELESS, McpProject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[HANDSHAKE, STATELESS])
def era(request: pytest.FixtureRequest) -> str:
    """A test that takes it runs in both eras."""
    return str(request.param)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[McpProject]:
    root = tmp_path / "project"
    root.mkdir()
    made = McpProject(root, tmp_path / "home")
    yield made
    for agent in made.agents:
        agent.dispose()
