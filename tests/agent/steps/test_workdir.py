"""No working directory leaves the workspace; both ways of opening one keep that promise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.steps.workdir import (
    open_by_kernel,
    open_directory,
    open_walking,
    relative_directory,
)
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable
ESCAPES = [
    "..",
    "a/../..",
    "../workspace",
    "../workspace-2",
    "out",
    "out/below",
    "a/up",
    "absolute",
    "a/b/../../../..",
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with symlinks in and out."""
    base = tmp_path_factory.mktemp("base")
    root = base / "workspace"
    (root / "a" / "b").mkdir(parents=True)
    (base / "workspace-2" / "below").mkdir(parents=True)
    (root / "file").touch()
    (root / "inward").symlink_to("a/b")
    (root / "out").symlink_to("../workspace-2")
    (root / "a" / "up").symlink_to("../..")
    (root / "absolute").symlink_to(root / "a")
    (root / "loop").symlink_to("loop")
    return root


def _opened(fd: int) -> tuple[int, int]:
    info = os.fstat(fd)
    os.close(fd)
    return info.st_dev, info.st_ino


def _identity(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_dev, info.st_ino


@pytest.mark.parametrize("opener", [open_by_kernel, open_walking])
def test_a_directory_beneath_is_opened(root: Path, opener: Callable[[int, str], int]) -> None:
    base = os.open(root, os.O_RDONLY)
    try:
        assert _opened(opener(base, "a/b")) == _identity(root / "a/b")
        assert _opened(opener(base, "a/../a/./b/")) == _identity(root / "a/b")
    finally:
        os.close(base)


@pytest.mark.parametrize("opener", [open_by_kernel, open_walking])
@pytest.mark.parametrize("relative", [*ESCAPES, "missing", "file", "loop", "/", "a" * 300])
def test_neither_way_leads_out(
    root: Path, opener: Callable[[int, str], int], relative: str
) -> None:
    base = os.open(root, os.O_RDONLY)
    try:
        with pytest.raises(OSError):  # noqa: PT011 - which errno is the kernel's choice
            opener(base, relative)
    finally:
        os.close(base)


@pytest.mark.parametrize("relative", [*ESCAPES, "missing", "file", "/", "/etc", "a\0b", "\ud800"])
def test_a_directory_that_leads_out_is_refused(root: Path, relative: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_directory(root, relative)

    assert caught.value.code == "cli.cwd"


def test_the_workspace_itself_is_a_directory(root: Path) -> None:
    assert _opened(open_directory(root, ".")) == _identity(root)


def test_a_workspace_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        open_directory(tmp_path / "gone", ".")

    assert caught.value.code == "cli.cwd"


@pytest.mark.parametrize(
    ("run", "step", "together"),
    [
        (None, None, "."),
        ("a", None, "a"),
        (None, "b", "b"),
        ("a", "b", "a/b"),
        ("a", "../b", "a/../b"),
    ],
)
def test_a_steps_directory_is_relative_to_the_runs(
    run: str | None, step: str | None, together: str
) -> None:
    assert relative_directory(run, step) == together


@settings(max_examples=200)
@given(
    relative=st.lists(
        st.sampled_from(["a", "b", "..", ".", "", "out", "up", "inward", "absolute", "loop"]),
        max_size=6,
    ).map("/".join)
)
def test_whatever_path_is_given_the_directory_lies_beneath(root: Path, relative: str) -> None:
    for opener in (open_by_kernel, open_walking):
        base = os.open(root, os.O_RDONLY)
        try:
            found = opener(base, relative)
        except OSError:
            continue
        finally:
            os.close(base)
        assert found is not None  # this kernel has `openat2`
        real = Path(f"/proc/self/fd/{found}").readlink()
        os.close(found)
        assert f"{real}/".startswith(f"{root}/")
