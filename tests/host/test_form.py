"""Which schemas make a form, and what a typed text means in it."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.cells import cell_width
from fleetprompt.form import form_of, schema_lines
from fleetprompt_protocol.errors import RequestError


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        {},
        {"anyOf": [{"type": "string"}]},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["b"]},
        {"type": "object", "properties": {"a": True}},
    ],
)
def test_what_is_not_flat_is_no_form(schema: Any) -> None:
    assert form_of(schema) is None
    assert schema_lines(schema, 60)[0] == "JSON of this schema:"


def test_a_choice_is_found_by_its_text() -> None:
    form = form_of({"enum": ["small", 3, True, None]})
    assert form is not None
    (field,) = form.fields
    assert [field.value_of(text) for text in ("small", "3", "true", "null")] == [
        "small", 3, True, None,
    ]  # fmt: skip
    with pytest.raises(RequestError, match="one of small, 3, true, null"):
        field.value_of("large")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "properties", "required", "enum", "const", "default", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
kinds = st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object"])
schemas = (
    json_values
    | st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.dictionaries(st.text(max_size=5), json_values)}
        | {"required": json_values}
    )
    | st.fixed_dictionaries({"type": kinds | st.lists(kinds, max_size=2)})
)


@settings(max_examples=200)
@given(schemas, st.text(max_size=10))
def test_any_schema_can_be_shown_and_any_text_typed(schema: Any, text: str) -> None:
    assert all(cell_width(line) <= 60 for line in schema_lines(schema, 60))
    form = form_of(schema)
    for field in form.fields if form is not None else ():
        with contextlib.suppress(RequestError):
            field.value_of(text)
