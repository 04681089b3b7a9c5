"""The schema in a real editor server (`make test-node`), where there is one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from fleetprompt_testing.editor import SERVER, Editor

from fleetprompt_agent.language.schema import workflow_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    SERVER is None, reason="yaml-language-server is not installed: `make test-node` does"
)

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


@pytest.fixture
def editor(tmp_path: Path) -> Iterator[Editor]:
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(workflow_schema()))
    editor = Editor(tmp_path, schema)
    yield editor
    editor.close()


def test_an_editor_gets_errors_descriptions_and_completions(editor: Editor, tmp_path: Path) -> None:
    file = tmp_path / "demo.yaml"
    found = editor.open(file, TEXT)
    assert {item["range"]["start"]["line"] for item in found} == {1, 4, 5}
    assert "one program with its arguments, never a shell" in editor.hover(file, 4, 6)
    labels = editor.completions(file, 8, 4)
    assert {"timeout", "approval", "stdin", "needs", "output"} <= labels
    assert "command" not in labels
