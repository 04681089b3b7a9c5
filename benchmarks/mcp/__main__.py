"""What a client's first answer costs, and what makes the import of the MCP SDK cheaper.

Run it with `python benchmarks/mcp`. Every variant is a fresh process; rounds are interleaved, so
that all variants meet the same machine, and the least CPU time of each counts. Ratios are against
the floor: an interpreter that imports asyncio.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_SDK = "from mcp.server.lowlevel import Server; from mcp.shared.message import SessionMessage"
_DEFER = "from pydantic import BaseModel; BaseModel.model_config['defer_build'] = True"
_GC = "import gc; gc.disable()"
_FREEZE = "gc.freeze(); gc.enable()"
_BARE = """
import importlib.util, os, sys, types
root = os.path.dirname(importlib.util.find_spec('mcp').origin)
for name, path in (('mcp', root), ('mcp.server', root + '/server')):
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module
"""
"""Empty packages in place of the SDK's, whose `__init__` import its client and MCPServer too."""

IMPORTS = {
    "floor: asyncio": "import asyncio",
    "pydantic and one model": "import asyncio, pydantic\nclass M(pydantic.BaseModel): x: int",
    "mcp_types alone": "import asyncio, mcp_types",
    "SDK as it is": f"import asyncio\n{_SDK}",
    "SDK, validators deferred": f"import asyncio\n{_DEFER}\n{_SDK}",
    "SDK, collector at rest": f"import asyncio\n{_GC}\n{_SDK}\n{_FREEZE}",
    "SDK, both (what we do)": f"import asyncio\n{_GC}\n{_DEFER}\n{_SDK}\n{_FREEZE}",
    "SDK, both, empty packages": f"import asyncio\n{_GC}\n{_DEFER}{_BARE}\n{_SDK}\n{_FREEZE}",
}
_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}
FIRST = {
    "agent, plain list": ("fp_list_workflows", {}),
    "agent, MCP initialize": (
        "initialize",
        {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "bench", "version": "1"},
        },
    ),
    "agent, MCP server/discover": ("server/discover", {"_meta": _META}),
    "agent, MCP tools/list first": ("tools/list", {"_meta": _META}),
}


def run(argv: list[str], message: bytes | None, env: dict[str, str]) -> tuple[float, float]:
    """Seconds until the first answer (or the end), and CPU seconds of the whole process."""
    began = time.perf_counter()
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env
    )
    assert process.stdin is not None
    assert process.stdout is not None
    if message is not None:
        process.stdin.write(message)
        process.stdin.flush()
        assert b'"result"' in process.stdout.readline()
    waited = time.perf_counter() - began
    process.stdin.close()
    process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0
    return waited if message is not None else time.perf_counter() - began, (
        used.ru_utime + used.ru_stime
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "project"
        workflows = root / ".fleetprompt/workflows"
        workflows.mkdir(parents=True)
        (workflows / "hello.yaml").write_text("steps:\n  - {id: a, tool: flow:noop}\n")
        env = {**os.environ, "FLEETPROMPT_HOME": str(Path(folder) / "home")}
        agent = [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", str(root)]
        variants: dict[str, tuple[list[str], bytes | None]] = {
            name: ([sys.executable, "-P", "-c", code], None) for name, code in IMPORTS.items()
        }
        for name, (method, params) in FIRST.items():
            request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
            variants[name] = (agent, json.dumps(request).encode() + b"\n")
        walls: dict[str, list[float]] = {name: [] for name in variants}
        cpus: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(options.rounds):
            for name, (argv, message) in variants.items():
                wall, cpu = run(argv, message, env)
                walls[name].append(wall)
                cpus[name].append(cpu)
    floor = min(cpus["floor: asyncio"])
    print(f"{'variant':<30}{'CPU ms':>8}{'x floor':>9}{'wall ms':>9}")
    for name in variants:
        cpu, wall = min(cpus[name]), min(walls[name])
        print(f"{name:<30}{cpu * 1000:>8.0f}{cpu / floor:>9.1f}{wall * 1000:>9.0f}")


if __name__ == "__main__":
    main()
