"""The official conformance suite against our own server, with the suite's fixtures beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetprompt_testing.mcp_project import McpProject
    from fleetprompt_testing.node import Node

HERE = Path(__file__).parent
SUITE = "node_modules/@modelcontextprotocol/conformance/dist/index.js"


@pytest.fixture
def url(project: McpProject) -> Iterator[str]:
    """Where the server listens: the loopback interface, at a port of its own."""
    project.write("deploy.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    process = subprocess.Popen(
        [sys.executable, "-P", str(HERE / "conformance_server.py"), str(project.root)],
        env=project.environ,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
def test_every_scenario_passes_or_is_expected_to_fail(node: Node, url: str, version: str) -> None:
    done = node.run(
        SUITE, "server", "--url", url, "--suite", "all", "--spec-version", version,
        "--expected-failures", str(HERE / f"expected-failures-{version}.yml"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert "Total: " in done.stdout
