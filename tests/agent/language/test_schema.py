from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from fleetprompt_agent.language.loader import load_workflow
from fleetprompt_agent.language.schema import workflow_schema
from fleetprompt_indexer.document import compose
from fleetprompt_indexer.vocabulary import STEP_FIELDS, WORKFLOW_FIELDS
from fleetprompt_protocol.errors import WorkflowError

ROOT = Path(__file__).parents[3]
CORPUS = Path(__file__).with_name("corpus")
REAL = sorted((ROOT / ".fleetprompt" / "workflows").glob("*.yaml"))


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return workflow_schema()


def problems(schema: dict[str, Any], document: Any) -> list[str]:
    validator = jsonschema_rs.Draft202012Validator(schema, offline=True)
    return [error.message for error in validator.iter_errors(document)]


def test_it_is_a_schema_of_its_draft(schema: dict[str, Any]) -> None:
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert json.loads(json.dumps(schema)) == schema


def test_it_refers_to_nothing_outside_itself(schema: dict[str, Any]) -> None:
    references: list[str] = []
    pending: list[Any] = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            references += [value for key, value in part.items() if key == "$ref"]
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    assert references
    assert all(reference.startswith("#/$defs/") for reference in references)
    assert {reference.removeprefix("#/$defs/") for reference in references} == set(schema["$defs"])


def test_it_has_the_supported_fields_and_no_others(schema: dict[str, Any]) -> None:
    def supported(table: Any) -> set[str]:
        return {name for name, field in table.items() if table[field.canonical or name].supported}

    assert set(schema["properties"]) == supported(WORKFLOW_FIELDS)
    assert set(schema["$defs"]["Step"]["properties"]) == supported(STEP_FIELDS)


def test_every_field_has_its_description(schema: dict[str, Any]) -> None:
    for owner in (schema, schema["$defs"]["Step"]):
        for name, field in owner["properties"].items():
            assert field.get("description"), name


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_the_workflows_of_this_repository_meet_it(path: Path, schema: dict[str, Any]) -> None:
    document = compose(path.read_bytes(), format="yaml", file=path.name)
    assert problems(schema, document.to_python()) == []


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"args": {"a": {"default": 1}}}, True),
        ({"version": 1.1}, True),
        ({"env": {"A": 1}}, True),
        ({"nme": "x"}, False),
        ({"type": "grph"}, False),
        ({"inputs": {"1a": {}}}, False),
        ({"steps": []}, False),
        ({"steps": [{"id": "a"}]}, False),
        ({"steps": [{"id": "a", "command": "gh pr list"}]}, False),
        ({"steps": [{"id": "a", "command": "CLI gh pr list"}]}, True),
        ({"steps": [{"id": "a", "command": "cli x", "timeout": 30}]}, False),
        ({"steps": [{"id": "a", "command": "cli x", "timout": "30s"}]}, False),
        ({"steps": [{"id": "a", "command": "cli x", "condition": "true"}]}, True),
        ({"steps": [{"id": "a", "approval": {"promt": "x"}}]}, False),
        ({"steps": [{"id": "a", "approval": "required"}]}, True),
    ],
)
def test_an_editor_sees_what_the_loader_sees(
    schema: dict[str, Any], change: dict[str, Any], fits: bool
) -> None:
    document = {"name": "x", "steps": [{"id": "a", "command": "cli x"}], **change}
    assert (problems(schema, document) == []) is fits
    data = json.dumps(document).encode()
    assert load_workflow(data, format="json", file="w.json").is_valid is fits


def test_it_refuses_nothing_that_the_loader_takes(every_field: frozenset[str]) -> None:
    """What is broken in the corpus in other ways than its shape meets the schema."""
    schema = workflow_schema(every_field)
    shapes = ("field.", "value.", "document.", "step.no_action", "command.", "tool.")
    checked = 0
    for path in CORPUS.iterdir():
        if path.suffix != ".yaml":
            continue
        data = path.read_bytes()
        compiled = load_workflow(data, format="yaml", file=path.name, also_supported=every_field)
        if any(d.code.startswith(shapes) for d in compiled.diagnostics if d.severity == "error"):
            continue
        try:
            document = compose(data, format="yaml", file=path.name).to_python()
        except WorkflowError:
            continue
        assert problems(schema, document) == [], path.name
        checked += 1
    assert checked > 20
