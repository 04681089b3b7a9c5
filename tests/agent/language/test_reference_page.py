"""The reference page names every field that is accepted, and none that is refused as enforced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fleetprompt_agent.language.loader import load_workflow
from fleetprompt_indexer import vocabulary

DOCS = Path(__file__).parents[3] / "docs"
FOREIGN_KEY = re.compile(r"`([A-Za-z_-]+):[^`]*`")
PAGE = (DOCS / "workflows.md").read_text(encoding="utf-8")
TABLES = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("level", ["workflow", "step"])
def test_every_accepted_field_has_a_row_and_no_other(level: vocabulary.Level) -> None:
    for field in vocabulary.fields_of(level).values():
        assert (f"`{field.name}`" in TABLES or f"`{field.name}:" in TABLES) == field.supported, (
            field
        )


def test_the_workflows_that_it_shows_are_valid(tmp_path: Path) -> None:
    shown = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert shown
    folder = tmp_path / ".fleetprompt" / "workflows"
    folder.mkdir(parents=True)
    for number, text in enumerate(shown):
        (folder / f"shown-{number}.yaml").write_text(text, encoding="utf-8")
    for text in shown:
        data = text.encode()
        load_workflow(data, format="yaml", file="shown.yaml", root=tmp_path).raise_if_invalid()


def test_the_namespaces_are_those_that_are_accepted() -> None:
    for namespace in vocabulary.NAMESPACES.values():
        assert (f"| `{namespace.name}` |" in TABLES) == namespace.supported


def test_every_foreign_key_of_the_table_is_answered_with_what_to_write() -> None:
    page = (DOCS / "coming-from.md").read_text(encoding="utf-8")
    rows = [line.split("|")[3:-1] for line in page.splitlines() if line.startswith("| ")]
    keys = {key for cells in rows for cell in cells for key in FOREIGN_KEY.findall(cell)}
    known = {*vocabulary.STEP_FIELDS, *vocabulary.WORKFLOW_FIELDS}
    assert {"run", "depends", "when", "timeout_ms", "handler_on"} <= keys
    for key in keys - known - {"decode"}:  # inside `output:`
        hints = [vocabulary.hint_for_key(level, key) for level in ("workflow", "step")]
        assert any(hint and "did you mean" not in hint for hint in hints), key
