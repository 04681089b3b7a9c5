"""SARIF logs have the shape that the standard (2.1.0) gives the parts that are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from fleetprompt.results import Diagnostic
from fleetprompt.sarif import sarif_log

CORPUS = Path(__file__).parents[1] / "agent" / "language" / "corpus"


def closed(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required.split(),
        "properties": properties,
        "additionalProperties": False,
    }


TEXT = {"type": "string", "minLength": 1}
MESSAGE = closed("text", text=TEXT)
NUMBER = {"type": "integer", "minimum": 1}
REGION = closed("startLine", startLine=NUMBER, startColumn=NUMBER, endLine=NUMBER, endColumn=NUMBER)
ARTIFACT = closed("uri", uri={"type": "string", "format": "uri-reference"}, uriBaseId=TEXT)
LOCATION = closed(
    "physicalLocation",
    physicalLocation=closed("artifactLocation", artifactLocation=ARTIFACT, region=REGION),
)
RESULT = closed(
    "message",
    ruleId=TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level={"enum": ["none", "note", "warning", "error"]},
    message=MESSAGE,
    locations={"type": "array", "items": LOCATION},
    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
)
RULE = closed("id", id=TEXT, shortDescription=MESSAGE)
DRIVER = closed(
    "name",
    name=TEXT,
    version=TEXT,
    semanticVersion=TEXT,
    rules={"type": "array", "uniqueItems": True, "items": RULE},
)
RUN = closed(
    "tool",
    tool=closed("driver", driver=DRIVER),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
    results={"type": "array", "items": RESULT},
)
LOG = closed(
    "version runs",
    **{"$schema": {"type": "string", "format": "uri"}},
    version={"const": "2.1.0"},
    runs={"type": "array", "items": RUN},
)


@pytest.fixture(scope="module")
def found() -> list[Diagnostic]:
    """Every finding of the corpus, in a file whose name needs to be escaped."""
    findings = [
        finding
        for golden in sorted(CORPUS.glob("*.golden.json"))
        for finding in json.loads(golden.read_text())
    ]
    return [Diagnostic.model_validate({**one, "file": f"é b%/{one['file']}"}) for one in findings]


def test_every_finding_fits(found: list[Diagnostic]) -> None:
    log = json.loads(json.dumps(sarif_log(found)))
    validator = jsonschema_rs.Draft202012Validator(LOG, validate_formats=True, offline=True)
    assert [error.message for error in validator.iter_errors(log)] == []
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert len(run["results"]) == len(found) > 300
    assert all(rules[one["ruleIndex"]] == one["ruleId"] for one in run["results"])


def test_a_log_without_findings_fits() -> None:
    validator = jsonschema_rs.Draft202012Validator(LOG, validate_formats=True, offline=True)
    assert validator.is_valid(sarif_log([]))
