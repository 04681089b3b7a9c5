"""Logs: one JSON line an event, harmless to read, and never a reason to wait or fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fleetprompt_protocol.ids import Correlation
from fleetprompt_protocol.log import LEVELS, bound, configure, get_logger
from fleetprompt_protocol.log_lines import StderrLines, shown


def run(code: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
    source = "import sys\nfrom fleetprompt_protocol.log import *\nlog = get_logger('test')\n" + code
    return subprocess.run([sys.executable, "-c", source], timeout=30, **options)


def lines(err: str) -> list[Any]:
    return [json.loads(line) for line in err.splitlines()]


def test_a_line_tells_when_what_where_and_for_whom(capfd: pytest.CaptureFixture[str]) -> None:
    log = get_logger("fleetprompt.test")
    with bound(Correlation("r1", "c1", "e1")):
        log.info("run.started", run_id="x", count=3)
    log.warning("after")
    first, second = lines(capfd.readouterr().err)
    assert list(first)[:4] == ["ts", "level", "event", "logger"]
    assert {key: value for key, value in first.items() if key != "ts"} == {
        "level": "info",
        "event": "run.started",
        "logger": "fleetprompt.test",
        "request_id": "r1",
        "correlation_id": "c1",
        "causation_id": "e1",
        "run_id": "x",
        "count": 3,
    }
    assert first["ts"].endswith("Z")
    assert "request_id" not in second


def test_the_level_decides_what_is_written(capfd: pytest.CaptureFixture[str]) -> None:
    log = get_logger("test")
    try:
        for level in LEVELS:
            configure(level)
            for name in LEVELS:
                getattr(log, name)(f"{level}/{name}")
    finally:
        configure("info")
    names = list(LEVELS)
    assert [line["event"] for line in lines(capfd.readouterr().err)] == [
        f"{level}/{name}" for level in names for name in names[names.index(level) :]
    ]
    with pytest.raises(ValueError, match="debug, info, warning, error"):
        configure("loud")


def test_a_traceback_is_part_of_its_line(capfd: pytest.CaptureFixture[str]) -> None:
    try:
        int("password=hunter2")
    except ValueError as exc:
        get_logger("test").error("fault", ref="abc", exc_info=exc)
    (line,) = lines(capfd.readouterr().err)
    assert "ValueError" in line["traceback"]
    assert "hunter2" not in line["traceback"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a\x1b[0m\u202e", "a\\x1b[0m\\u202e"),
        ("password=hunter2", "password=[redacted]"),
        ("x" * 5000, "x" * 2000 + "…"),
        (b"a\xff", "a\\xff"),
        (float("nan"), "NaN"),
        (10**4000, "a large number"),
        (object(), "<object>"),
        (Path("/a/b"), "/a/b"),
        ({"k\n": [1, {"x": None}]}, {"k\n": [1, {"x": None}]}),
        ((1, 2), [1, 2]),
        ([[[[[[[1]]]]]]], [[[[["<list>"]]]]]),
        (list(range(99)), list(range(50))),
    ],
)
def test_every_value_is_made_harmless(value: Any, expected: Any) -> None:
    assert shown(value) == expected
    json.dumps(shown(value), allow_nan=False)


def test_values_that_collide_or_cannot_be_shown_raise_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    class Hostile:
        def __repr__(self) -> str:
            raise RuntimeError

    log = get_logger("test")
    log.info("a", level="x", timestamp=1, logger="y")
    log.info("b", value=Hostile(), keys={Hostile(): 1})
    log.info("c")
    assert [line["event"] for line in lines(capfd.readouterr().err)][-1] == "c"


def test_a_full_standard_error_drops_lines_and_says_how_many() -> None:
    reader, writer = os.pipe()
    out = StderrLines(writer)
    for _ in range(200):
        out.error(b"x" * 1000)
    assert out.dropped > 100
    assert os.get_blocking(writer)
    got = os.read(reader, 1 << 20)
    out.error(b'{"event":"after"}')
    got += os.read(reader, 1 << 20)
    os.close(reader)
    out.error(b"nobody reads")
    os.close(writer)
    *whole, note, after, _ = got.split(b"\n")
    assert {line for line in whole if line} == {b"x" * 1000}
    assert json.loads(note)["event"] == "log.dropped"
    assert json.loads(note)["lines"] == 200 - len([line for line in whole if line])
    assert json.loads(after) == {"event": "after"}


def test_a_long_line_is_written_whole() -> None:
    reader, writer = os.pipe()
    out = StderrLines(writer)
    out.error(b"y" * 20_000)
    assert os.read(reader, 1 << 16) == b"y" * 20_000 + b"\n"
    os.close(reader)
    os.close(writer)


def test_a_closed_standard_error_is_no_error() -> None:
    done = run(
        "import os; os.close(2)\nfor _ in range(3): log.error('x')\nprint('went on')",
        capture_output=True,
    )
    assert done.stdout == b"went on\n"
    assert done.returncode == 0


def test_a_standard_error_that_nobody_reads_does_not_stop_the_process() -> None:
    reader, writer = os.pipe()
    try:
        done = run(
            "for _ in range(500): log.error('x', text='y' * 1000)\nprint('went on')",
            stdout=subprocess.PIPE,
            stderr=writer,
        )
    finally:
        os.close(reader)
        os.close(writer)
    assert done.stdout == b"went on\n"


def test_nothing_is_imported_until_a_line_is_written() -> None:
    done = run(
        "log.debug('quiet')\nassert 'structlog' not in sys.modules\n"
        "log.info('loud')\nassert 'structlog' in sys.modules",
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()] == ["loud"]
