"""The schema in a real editor server (`npm install yaml-language-server`), where there is one."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt_agent.language.schema import workflow_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = shutil.which("yaml-language-server")

pytestmark = pytest.mark.skipif(SERVER is None, reason="yaml-language-server is not installed")

TEXT = """\
name: demo
typ: chain
steps:
  - id: a
    command: gh pr list
    timeout: 30
  - id: b
    command: cli true
    \n"""


class Editor:
    """As much of an editor as the server needs."""

    def __init__(self, folder: Path) -> None:
        assert SERVER is not None
        self.server = subprocess.Popen(
            [SERVER, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.received: Queue[dict[str, Any]] = Queue()
        self.folder = folder
        self.count = 0
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.server.stdout is not None
        while header := self.server.stdout.readline():
            length = int(header.split(b":")[1])
            while self.server.stdout.readline().strip():
                pass
            self.received.put(json.loads(self.server.stdout.read(length)))

    def send(self, method: str, params: Any, *, is_request: bool = False) -> Any:
        """Send a message; for a request, the result."""
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "params": params}
        if is_request:
            self.count += 1
            message["id"] = self.count
        self._write(message)
        return (
            self.wait(lambda found: found.get("id") == self.count)["result"] if is_request else None
        )

    def _write(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        assert self.server.stdin is not None
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.server.stdin.flush()

    def wait(self, is_wanted: Any) -> dict[str, Any]:
        """The first message that is wanted; questions of the server get an answer meanwhile."""
        while True:
            message = self.received.get(timeout=60)
            if "method" in message and "id" in message:
                answer: Any = None
                if message["method"] == "workspace/configuration":
                    answer = [self.settings()] + [{}] * (len(message["params"]["items"]) - 1)
                self._write({"jsonrpc": "2.0", "id": message["id"], "result": answer})
            elif is_wanted(message):
                return message

    def settings(self) -> dict[str, Any]:
        """The schema of the workflow files, as a modeline or an editor's setting gives it."""
        schema = (self.folder / "schema.json").as_uri()
        return {"validate": True, "hover": True, "completion": True, "schemas": {schema: "*.yaml"}}


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Editor]:
    (tmp_path / "schema.json").write_text(json.dumps(workflow_schema()))
    editor = Editor(tmp_path)
    capabilities = {"workspace": {"configuration": True}, "textDocument": {"hover": {}}}
    editor.send(
        "initialize",
        {"processId": None, "rootUri": tmp_path.as_uri(), "capabilities": capabilities},
        is_request=True,
    )
    editor.send("initialized", {})
    editor.send("workspace/didChangeConfiguration", {"settings": {"yaml": editor.settings()}})
    yield editor
    editor.server.kill()
    editor.server.wait()
    for stream in (editor.server.stdin, editor.server.stdout):
        assert stream is not None
        stream.close()


def test_an_editor_gets_errors_descriptions_and_completions(editor: Editor, tmp_path: Path) -> None:
    uri = (tmp_path / "demo.yaml").as_uri()
    document = {"uri": uri, "languageId": "yaml", "version": 1, "text": TEXT}
    editor.send("textDocument/didOpen", {"textDocument": document})
    found = editor.wait(
        lambda message: (
            message.get("method") == "textDocument/publishDiagnostics"
            and message["params"]["diagnostics"]
        )
    )["params"]["diagnostics"]
    assert {item["range"]["start"]["line"] for item in found} == {1, 4, 5}

    place = {"textDocument": {"uri": uri}, "position": {"line": 4, "character": 6}}
    hover = editor.send("textDocument/hover", place, is_request=True)
    assert "one program with its arguments, never a shell" in json.dumps(hover)

    place = {"textDocument": {"uri": uri}, "position": {"line": 8, "character": 4}}
    completions = editor.send("textDocument/completion", place, is_request=True)
    labels = {item["label"] for item in completions["items"]}
    assert {"timeout", "approval", "stdin", "needs", "output"} <= labels
    assert "command" not in labels
