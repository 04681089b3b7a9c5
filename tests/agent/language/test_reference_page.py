"""The reference page names every field that is accepted, and none that is refused as enforced."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetprompt_indexer import vocabulary

PAGE = (Path(__file__).parents[3] / "docs/workflows.md").read_text(encoding="utf-8")
TABLES = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))


@pytest.mark.parametrize("level", ["workflow", "step"])
def test_every_accepted_field_has_a_row_and_no_other(level: vocabulary.Level) -> None:
    for field in vocabulary.fields_of(level).values():
        assert (f"`{field.name}`" in TABLES or f"`{field.name}:" in TABLES) == field.supported, (
            field
        )


def test_the_namespaces_are_those_that_are_accepted() -> None:
    for namespace in vocabulary.NAMESPACES.values():
        assert (f"| `{namespace.name}` |" in TABLES) == namespace.supported
