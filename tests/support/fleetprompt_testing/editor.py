"""As much of an editor as a YAML language server needs, over a real server."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_INSTALLED = Path(__file__).parents[2] / "e2e/node/node_modules/.bin/yaml-language-server"
SERVER = shutil.which("yaml-language-server") or (str(_INSTALLED) if _INSTALLED.exists() else None)
"""The server's program; None when neither the path nor `make test-node` has one."""

WAIT_S = 60.0


class Editor:
    """An open server for one folder.

    Args:
        folder: What the editor has open.
        schema: The schema of every YAML file, as an editor's settings give it; None leaves it to
            the files' own modelines.
    """

    def __init__(self, folder: Path, schema: Path | None = None) -> None:
        assert SERVER is not None
        self.server = subprocess.Popen(
            [SERVER, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.received: Queue[dict[str, Any]] = Queue()
        self.count = 0
        self.settings: dict[str, Any] = {"validate": True, "hover": True, "completion": True}
        self.settings["schemaStore"] = {"enable": False}
        if schema is not None:
            self.settings["schemas"] = {schema.as_uri(): "*.yaml"}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        capabilities = {"workspace": {"configuration": True}, "textDocument": {"hover": {}}}
        self.ask(
            "initialize",
            {"processId": None, "rootUri": folder.as_uri(), "capabilities": capabilities},
        )
        self.tell("initialized", {})
        self.tell("workspace/didChangeConfiguration", {"settings": {"yaml": self.settings}})

    def _read(self) -> None:
        assert self.server.stdout is not None
        while header := self.server.stdout.readline():
            length = int(header.split(b":")[1])
            while self.server.stdout.readline().strip():
                pass
            self.received.put(json.loads(self.server.stdout.read(length)))

    def tell(self, method: str, params: Any) -> None:
        """Send a notification."""
        self._write({"jsonrpc": "2.0", "method": method, "params": params})

    def ask(self, method: str, params: Any) -> Any:
        """The result of a request."""
        self.count += 1
        number = self.count
        self._write({"jsonrpc": "2.0", "method": method, "params": params, "id": number})
        return self.wait(lambda found: found.get("id") == number and "method" not in found)[
            "result"
        ]

    def _write(self, message: dict[str, Any]) -> None:
        data = json.dumps(message).encode()
        assert self.server.stdin is not None
        self.server.stdin.write(b"Content-Length: %d\r\n\r\n" % len(data) + data)
        self.server.stdin.flush()

    def wait(self, is_wanted: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """The first message that is wanted; questions of the server get an answer meanwhile."""
        while True:
            message = self.received.get(timeout=WAIT_S)
            if "method" in message and "id" in message:
                answer: Any = None
                if message["method"] == "workspace/configuration":
                    answer = [self.settings] + [{}] * (len(message["params"]["items"]) - 1)
                self._write({"jsonrpc": "2.0", "id": message["id"], "result": answer})
            elif is_wanted(message):
                return message

    def open(self, file: Path, text: str) -> list[dict[str, Any]]:
        """What the server finds wrong with the text of a file."""
        document = {"uri": file.as_uri(), "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": document})
        found = self.wait(
            lambda message: (
                message.get("method") == "textDocument/publishDiagnostics"
                and message["params"]["uri"] == file.as_uri()
            )
        )
        diagnostics: list[dict[str, Any]] = found["params"]["diagnostics"]
        return diagnostics

    def hover(self, file: Path, line: int, character: int) -> str:
        """What is shown at a place, counted from 0, as JSON text."""
        place = {"line": line, "character": character}
        params = {"textDocument": {"uri": file.as_uri()}, "position": place}
        return json.dumps(self.ask("textDocument/hover", params))

    def completions(self, file: Path, line: int, character: int) -> set[str]:
        """What is offered at a place, counted from 0."""
        place = {"line": line, "character": character}
        params = {"textDocument": {"uri": file.as_uri()}, "position": place}
        answer = self.ask("textDocument/completion", params)
        return {item["label"] for item in answer["items"]}

    def close(self) -> None:
        """End the server."""
        self.server.kill()
        self.server.wait()
        self._reader.join(WAIT_S)
        for stream in (self.server.stdin, self.server.stdout):
            assert stream is not None
            stream.close()
