"""Imports point one way only: protocol ← indexer ← agent ← host; the engine's core is pure."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {
    "fleetprompt_protocol": ROOT / "protocol/fleetprompt_protocol",
    "fleetprompt_indexer": ROOT / "indexer/fleetprompt_indexer",
    "fleetprompt_agent": ROOT / "agent/fleetprompt_agent",
    "fleetprompt": ROOT / "host/fleetprompt",
}
ORDER = list(ROOMS)
IMPURE = {
    "asyncio", "os", "subprocess", "time", "random", "sqlite3", "logging", "socket", "threading",
}  # fmt: skip
HEAVY = {
    "asyncio", "pydantic", "structlog", "watchfiles", "jsonrpcserver", "jsonschema_rs",
    "uuid_utils", "sqlite3", "yaml", "platformdirs", "argparse",
}  # fmt: skip
"""What `import fleetprompt` and `fleetprompt --version` must not pay for."""


def imports(file: Path) -> set[str]:
    """Top-level names of everything that the file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("room", ORDER)
def test_a_room_imports_only_what_lies_below_it(room: str) -> None:
    above = set(ORDER[ORDER.index(room) + 1 :])
    wrong = {
        str(file.relative_to(ROOT)): sorted(imports(file) & above)
        for file in ROOMS[room].rglob("*.py")
        if imports(file) & above
    }
    assert wrong == {}


def test_there_is_something_to_check() -> None:
    for folder in ROOMS.values():
        assert len(list(folder.rglob("*.py"))) > 3


def test_the_engines_core_is_pure() -> None:
    core = ROOMS["fleetprompt_agent"] / "engine/core"
    wrong = {file.name: sorted(imports(file) & IMPURE) for file in core.glob("*.py")}
    assert {name: found for name, found in wrong.items() if found} == {}


def test_rooms_that_speak_on_stdout_never_print() -> None:
    for room in ORDER[:3]:
        for file in ROOMS[room].rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                is_print = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                assert not (is_print and node.func.id == "print"), file  # type: ignore[attr-defined]  # checked above


def test_importing_the_package_costs_nothing_heavy() -> None:
    import subprocess
    import sys

    code = "import sys, fleetprompt, fleetprompt.__main__; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert set(shown.stdout.split()) & HEAVY == set()
