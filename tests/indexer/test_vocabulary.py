"""The table of words is consistent and leads from foreign words to our own."""

from __future__ import annotations

import pytest

from fleetprompt_indexer.vocabulary import (
    ACTION_FIELDS,
    FOREIGN_STEP_FIELDS,
    FOREIGN_WORKFLOW_FIELDS,
    NAMESPACES,
    STEP_FIELDS,
    WORKFLOW_FIELDS,
    Level,
    canonical_name,
    hint_for_key,
)


def test_aliases_lead_to_fields_of_their_own_table() -> None:
    for table in (WORKFLOW_FIELDS, STEP_FIELDS):
        for field in table.values():
            assert not field.canonical or table[field.canonical].canonical == ""


def test_no_field_is_foreign_too() -> None:
    assert not WORKFLOW_FIELDS.keys() & FOREIGN_WORKFLOW_FIELDS.keys()
    assert not STEP_FIELDS.keys() & FOREIGN_STEP_FIELDS.keys()


def test_every_word_is_described() -> None:
    for table in (WORKFLOW_FIELDS, STEP_FIELDS):
        for name, field in table.items():
            assert field.name == name
            assert field.description
            assert field.shape
            assert not field.description.endswith(".")
    for name, namespace in NAMESPACES.items():
        assert namespace.form.split()[0] == name == namespace.name
    assert set(ACTION_FIELDS) < set(STEP_FIELDS)


@pytest.mark.parametrize(
    ("level", "key", "words"),
    [
        ("step", "run", "command: cli"),
        ("step", "depends_on", "needs:"),
        ("step", "when", "if:"),
        ("step", "timeout-minutes", "timeout:"),
        ("step", "parallel", "needs: []"),
        ("step", "comand", "`command`"),
        ("step", "Timeout", "`timeout`"),
        ("step", "for-each", "`for_each`"),
        ("step", "steps", "top of the file"),
        ("workflow", "jobs", "steps:"),
        ("workflow", "step", "`steps`"),
        ("workflow", "needs", "in a step"),
    ],
)
def test_a_wrong_key_gets_a_hint(level: Level, key: str, words: str) -> None:
    assert words in (hint_for_key(level, key) or "")


def test_a_key_like_nothing_gets_none() -> None:
    assert hint_for_key("step", "zzzz") is None
    assert hint_for_key("step", "") is None
    assert hint_for_key("step", "x" * 10_000) is None


def test_aliases_have_a_canonical_name() -> None:
    assert canonical_name("workflow", "args") == "inputs"
    assert canonical_name("step", "condition") == "if"
    assert canonical_name("step", "id") == "id"
    assert canonical_name("step", "unknown") == "unknown"
