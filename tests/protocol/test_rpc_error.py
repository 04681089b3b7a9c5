"""Errors to the wire and back."""

from __future__ import annotations

from typing import Self

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, model_validator

from fleetprompt_protocol.errors import CODES, FleetPromptError, RequestError
from fleetprompt_protocol.rpc_error import (
    RPC_NUMBERS,
    broken_rule,
    from_rpc_error,
    invalid_params,
    to_rpc_error,
)
from fleetprompt_protocol.wire import dumps, loads

values = st.recursive(
    st.none() | st.booleans() | st.integers(-40_000, 5) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["code", "message", "data", "details", "retryable", "where"]), inner
        )
    ),
)


@pytest.mark.parametrize("code", CODES)
def test_every_code_survives_the_way_there_and_back(code: str) -> None:
    error = FleetPromptError(
        code, "What happened.", details={"a": [1]}, retryable=True, where={"line": 3}
    )
    back = from_rpc_error(loads(dumps(to_rpc_error(error))))
    assert (back.code, back.message, back.details, back.retryable, back.where) == (
        code,
        "What happened.",
        {"a": [1]},
        True,
        {"line": 3},
    )
    assert back.rpc_code == RPC_NUMBERS.get(code, -32000)


def test_a_number_that_was_given_is_kept() -> None:
    assert to_rpc_error(RequestError("inputs.invalid", "No.", rpc_code=-32602))["code"] == -32602


def test_the_numbers_belong_to_documented_codes() -> None:
    assert set(RPC_NUMBERS) <= set(CODES)


def test_an_error_of_another_kind_keeps_what_was_said() -> None:
    back = from_rpc_error({"code": -1, "message": "No." * 5000, "data": {"code": "their.own"}})
    assert back.code == "protocol.peer_error"
    assert back.details == {"rpc_code": -1, "code": "their.own"}
    assert back.message.startswith("No.No.")
    assert len(back.message) == 2000


@settings(max_examples=200)
@given(values)
def test_any_error_object_becomes_a_documented_error(error: object) -> None:
    assert from_rpc_error(error).code in CODES


class _Pair(BaseModel):
    a: int = 0
    b: int = 0

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if self.a and self.b:
            raise broken_rule("give either a or b")
        return self


def test_a_rule_about_several_fields_is_told_in_its_own_words() -> None:
    with pytest.raises(ValidationError) as caught:
        _Pair.model_validate({"a": 1, "b": 2})
    error = invalid_params(caught.value)
    assert error.message == "The parameters are not valid: give either a or b."
    assert error.details == {"problems": [{"path": "", "message": "give either a or b"}]}
