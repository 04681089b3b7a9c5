from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.inputs import check_inputs, schema_problems
from fleetprompt_agent.language.loader import Compiled
from fleetprompt_agent.language.schemas import schema_fault
from fleetprompt_protocol.errors import RequestError

Load = Callable[[str], Compiled]

WORKFLOW = """\
inputs:
  pr: {type: integer, required: true, description: Number of the pull request}
  tag: {type: string, default: family}
  env: {enum: [dev, prod]}
  any: {}
steps: [{id: a, command: cli true}]
"""


def test_defaults_are_applied_and_the_rest_is_null(load: Load) -> None:
    plan = load(WORKFLOW).raise_if_invalid()
    given = {"pr": 7}
    assert check_inputs(plan, given) == {"pr": 7, "tag": "family", "env": None, "any": None}
    assert given == {"pr": 7}
    assert check_inputs(plan, {"pr": 7, "tag": "x", "env": "dev", "any": [1]}) == {
        "pr": 7,
        "tag": "x",
        "env": "dev",
        "any": [1],
    }


def test_every_problem_is_told_at_once(load: Load) -> None:
    plan = load(WORKFLOW).raise_if_invalid()
    with pytest.raises(RequestError) as caught:
        check_inputs(plan, {"tga": 1, "tag": 5, "env": "test"})
    error = caught.value
    assert error.code == "inputs.invalid"
    problems = {item["name"]: item["message"] for item in (error.details or {})["problems"]}
    assert set(problems) == {"tga", "tag", "env", "pr"}
    assert "`tag`" in problems["tga"]
    assert "required" in problems["pr"]
    assert "Number of the pull request" in problems["pr"]


def test_a_workflow_without_inputs_takes_none(load: Load) -> None:
    plan = load("steps: [{id: a, command: cli true}]\n").raise_if_invalid()
    assert check_inputs(plan, {}) == {}
    with pytest.raises(RequestError):
        check_inputs(plan, {"x": 1})


def test_nothing_is_converted(load: Load) -> None:
    plan = load(WORKFLOW).raise_if_invalid()
    for value in ("7", 7.5, True, None, [7]):
        with pytest.raises(RequestError):
            check_inputs(plan, {"pr": value})


def test_a_schema_cannot_reach_files_or_servers() -> None:
    for place in ("file:///etc/passwd", "http://127.0.0.1:9/x", "other.json"):
        assert schema_fault({"$ref": place}) is not None
    assert schema_fault({"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"}) is None


def test_a_pattern_is_matched_in_linear_time() -> None:
    assert schema_problems({"pattern": "^(a+)+$"}, "a" * 40 + "!") != []
    assert schema_fault({"pattern": "(?=x)y"}) is not None


def test_problems_say_where_and_are_bounded() -> None:
    schema = {"type": "object", "properties": {"a": {"items": {"type": "string"}}}}
    assert schema_problems(schema, {"a": ["x", 5]})[0].startswith("a[1]: ")
    many = schema_problems({"items": {"type": "string"}}, [1] * 500)
    assert len(many) == 20
    assert len(schema_problems({"const": 1}, "x" * 10_000)[0]) <= 300


@settings(max_examples=100)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False)
        | st.text(max_size=6),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "items", "enum", "$ref", "x"]), inner, max_size=3
            )
        ),
        max_leaves=6,
    )
)
def test_anything_is_a_schema_or_has_a_fault(value: object) -> None:
    fault = schema_fault(value)
    assert fault is None or fault
    assert isinstance(schema_problems(value, value), list)
