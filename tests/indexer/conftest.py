"""Repositories made for one test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

MakeRepository = Callable[..., Path]


@pytest.fixture
def make_repository(tmp_path: Path) -> MakeRepository:
    """Give a function that makes a root with the workflow files it is given."""
    count = 0

    def make(files: dict[str, str | bytes] | None = None, *, name: str | None = None) -> Path:
        nonlocal count
        count += 1
        root = tmp_path / (name or f"repository{count}")
        folder = root / ".fleetprompt" / "workflows"
        folder.mkdir(parents=True)
        for file, content in (files or {}).items():
            raw = content.encode() if isinstance(content, str) else content
            (folder / file).write_bytes(raw)
        return root

    return make
