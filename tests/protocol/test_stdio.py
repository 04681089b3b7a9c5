"""Standard input and output of a real process: nothing but messages, and an end without noise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SERVER = """
import os, sys
from fleetprompt_protocol.stdio import StdioTransport, claim_stdio
before = set(sys.modules)
descriptors = claim_stdio()
import asyncio, subprocess
from fleetprompt_protocol.peer import Peer

async def echo(context, params):
    print("printed noise")
    os.write(1, b"written noise\\n")
    subprocess.run(["echo", "a child's noise"], check=True)
    return {"params": params, "stdin": sys.stdin.read()}

async def descriptors_of_child(context, params):
    code = "import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    return done.stdout.decode()

async def much(context, params):
    return "x" * params["size"]

async def main():
    methods = {"echo": echo, "descriptors": descriptors_of_child, "much": much}
    peer = Peer(StdioTransport(*descriptors), methods)
    print("ended:", await peer.run(), file=sys.stderr)

asyncio.run(main())
"""


def call(number: int, method: str, **params: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    return json.dumps(message).encode() + b"\n"


def start(**options: Any) -> subprocess.Popen[bytes]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", SERVER], **{**pipes, **options})


def test_only_messages_reach_standard_output() -> None:
    out, err = start().communicate(call(1, "echo", a=1), timeout=30)
    (line,) = out.splitlines()
    assert json.loads(line)["result"] == {"params": {"a": 1}, "stdin": ""}
    for noise in (b"printed noise", b"written noise", b"a child's noise", b"ended: eof"):
        assert noise in err


def test_children_inherit_no_descriptor_of_the_protocol() -> None:
    out, _ = start().communicate(call(1, "descriptors"), timeout=30)
    # 3 is the directory that the child itself reads.
    assert json.loads(out)["result"].strip() == "[0, 1, 2, 3]"


def test_input_and_output_may_be_files(tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(call(1, "echo") + call(2, "echo"))
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as target:
        server = start(stdin=source, stdout=target)
        server.communicate(timeout=30)
    answers = (tmp_path / "out").read_bytes().splitlines()
    assert sorted(json.loads(line)["id"] for line in answers) == [1, 2]


def test_a_reader_that_leaves_ends_the_process_without_a_traceback() -> None:
    server = start()
    assert server.stdin is not None
    assert server.stdout is not None
    assert server.stderr is not None
    server.stdout.close()
    server.stdin.write(call(1, "much", size=200_000))
    server.stdin.flush()
    assert server.wait(30) == 0
    err = server.stderr.read()
    server.stdin.close()
    server.stderr.close()
    assert b"Traceback" not in err
    assert b"ended: eof" in err


def test_a_closed_standard_input_is_its_end() -> None:
    code = "import os; os.close(0)\n" + SERVER
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.returncode == 0
    assert done.stdout == b""
    assert b"ended: eof" in done.stderr


def test_a_closed_standard_error_harms_nothing() -> None:
    code = "import os; os.close(2)\n" + SERVER
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=30, input=call(1, "echo")
    )
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["id"] == 1


def test_a_closed_standard_output_is_told() -> None:
    code = "import os; os.close(1)\n" + SERVER
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.returncode != 0
    assert b"Bad file descriptor" in done.stderr


def test_claiming_needs_no_heavy_module() -> None:
    code = (
        "import sys; bare = set(sys.modules); import fleetprompt_protocol.stdio\n"
        "print(sorted(set(sys.modules) - bare))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        check=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": _source_root()},
    )
    loaded = set(json.loads(done.stdout.decode().replace("'", '"')))
    assert not loaded & {"asyncio", "typing", "json", "socket", "re", "threading", "pathlib"}


def _source_root() -> str:
    import fleetprompt_protocol

    return os.path.dirname(fleetprompt_protocol.__path__[0])  # noqa: PTH120 — a plain string


@pytest.mark.parametrize("framing", ["newline", "content-length"])
def test_a_large_answer_passes_through_a_pipe(framing: str) -> None:
    request = call(1, "much", size=3_000_000).rstrip()
    if framing == "content-length":
        request = b"Content-Length: %d\r\n\r\n%s" % (len(request), request)
    out, _ = start().communicate(request, timeout=60)
    body = out.partition(b"\r\n\r\n")[2] if framing == "content-length" else out
    assert len(json.loads(body)["result"]) == 3_000_000
