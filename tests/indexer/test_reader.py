"""Reading one file: nothing is followed, nothing blocks, and what is given is one state."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_indexer.reader import MAX_FILE_BYTES, read_file
from fleetprompt_protocol.errors import WorkflowError

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")


def refusal(root: Path, relative: str | bytes) -> str:
    with pytest.raises(WorkflowError) as caught:
        read_file(root, relative)
    found = (caught.value.details or {})["diagnostics"][0]
    assert caught.value.code == (
        "workflow.not_found" if found["code"] == "file.missing" else "workflow.unreadable"
    )
    return str(found["code"])


def test_the_content_comes_with_its_digest_and_signature(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "f.yaml").write_bytes(b"a: 1\n")
    content = read_file(tmp_path, "a/f.yaml")
    assert content.data == b"a: 1\n"
    assert content.sha256 == hashlib.sha256(b"a: 1\n").hexdigest()
    assert content.signature.size == 5


def test_a_file_of_exactly_the_limit_is_read_and_a_longer_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(b"x" * MAX_FILE_BYTES)
    (tmp_path / "over").write_bytes(b"x" * (MAX_FILE_BYTES + 1))
    assert len(read_file(tmp_path, "full").data) == MAX_FILE_BYTES
    assert refusal(tmp_path, "over") == "file.too_large"


def test_a_sparse_file_of_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(1 << 40)
    assert refusal(tmp_path, "big") == "file.too_large"


def test_links_are_not_followed_at_the_end_or_on_the_way(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (root / "f").symlink_to(outside / "f")
    (root / "dir").symlink_to(outside)
    (root / "real" / "loop").symlink_to(root / "real" / "loop")
    assert refusal(root, "f") == "file.symlink"
    assert refusal(root, "dir/f") == "file.symlink"
    assert refusal(root, "real/loop") == "file.symlink"


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_file(tmp_path / "link", "f").data == b"x"


def test_pipes_sockets_devices_and_folders_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        assert refusal(tmp_path, "pipe") == "file.not_regular"
        assert refusal(tmp_path, "socket") == "file.not_regular"
        assert refusal(tmp_path, "folder") == "file.not_regular"
    assert refusal(Path("/dev"), "zero") == "file.not_regular"


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../f", "a/../../f", "a//b", "./f", "f/", "a\0b", ".", ".."],
)
def test_a_path_that_could_leave_the_root_is_refused(tmp_path: Path, path: str) -> None:
    assert refusal(tmp_path, path) == "file.path"


def test_what_is_missing_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    assert refusal(tmp_path, "g") == "file.missing"
    assert refusal(tmp_path, "g/h") == "file.missing"
    assert refusal(tmp_path, "\ud800") == "file.missing"
    assert refusal(tmp_path, "f/h") == "file.not_regular"
    assert refusal(tmp_path / "none", "f") == "file.missing"


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "x" * 300) == "file.path"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "f").chmod(0)
    assert refusal(tmp_path, "f") == "file.permission"


def test_names_that_are_not_utf_8_are_read(tmp_path: Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff.yaml", "wb") as file:
        file.write(b"x")
    assert read_file(tmp_path, b"\xff.yaml").data == b"x"
    assert read_file(tmp_path, os.fsdecode(b"\xff.yaml")).data == b"x"


@needs_proc
def test_a_file_of_the_kernel_that_says_it_has_no_bytes_is_unstable() -> None:
    assert refusal(Path("/proc/self"), "status") == "file.unstable"


@needs_proc
@given(st.binary(max_size=40))
@settings(max_examples=150)
def test_no_path_raises_anything_but_a_refusal(path: bytes) -> None:
    with pytest.raises(WorkflowError):
        read_file(Path("/proc/self/fdinfo"), b"x" + path)


@needs_proc
def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "f").write_text("x")
    (tmp_path / "a" / "l").symlink_to("b")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("a/b/f", "a/b/g", "a/l/f", "a/b", "q/r"):
        for _ in range(3):
            try:
                read_file(tmp_path, path)
            except WorkflowError:
                continue
    assert len(list(Path("/proc/self/fd").iterdir())) == before
