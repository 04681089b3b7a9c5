"""The Node programs that speak MCP to us; tests are skipped where they are not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from fleetprompt_testing.node import Node


@pytest.fixture(scope="session")
def node() -> Node:
    found = Node(Path(__file__).parent / "node")
    if not found.is_installed:
        pytest.skip("the Node clients are not installed: run `make test-mcp` (it needs npm)")
    return found
