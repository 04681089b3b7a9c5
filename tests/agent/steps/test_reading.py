"""Output is JSON or it is not, and meets its schema or does not; nothing is fetched to find out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetprompt_agent.steps.reading import MAX_SCHEMA_ERRORS, check_output, parse_output


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    value, error = parse_output(data)

    assert error is None or (error["code"] == "output.not_json" and value is None)


@pytest.mark.parametrize("data", [b"", b" ", b"\xff", b"NaN", b"1e999", b"9" * 5000, b"[" * 65])
def test_what_json_cannot_hold_is_no_json(data: bytes) -> None:
    _, error = parse_output(data)

    assert error is not None
    assert error["code"] == "output.not_json"


def test_a_value_that_meets_its_schema_passes() -> None:
    assert check_output({"a": 1}, {"type": "object", "required": ["a"]}) is None


def test_violations_are_listed_up_to_a_bound() -> None:
    error = check_output(["x" * 10_000] * 50, {"items": {"type": "integer"}})

    assert error is not None
    violations = error["details"]["violations"]
    assert len(violations) == MAX_SCHEMA_ERRORS
    assert violations[1]["path"] == "[1]"
    assert all(len(item["message"]) <= 301 for item in violations)


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json"},
        {"$ref": "#/missing"},
        {"type": "nonsense"},
        {"pattern": "("},
        7,
    ],
)
def test_a_schema_that_is_none_or_lies_elsewhere_is_an_error(schema: Any) -> None:
    error = check_output("x", schema)

    assert error is not None
    assert error["code"] == "output.schema"
