from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(
    importlib.util.find_spec("cel_expr_python") is None, reason="cel-expr-python is not installed"
)
def test_random_expressions_have_the_values_that_google_gives_them() -> None:
    """`make fuzz` runs many more; the other implementation may end its process, so it has one."""
    program = Path(__file__).with_name("fuzz_cel.py")
    ended = subprocess.run(
        [sys.executable, str(program), "--seed", "4", "--cases", "1500"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stdout[-4000:] + ended.stderr[-2000:]
    assert "'same': " in ended.stdout
