"""Meta: ids are checked or made, everything unknown is ignored."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.ids import Correlation, is_id
from fleetprompt_protocol.meta import Actor, correlation_from, meta_from, meta_json

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_ids_that_are_given_are_kept() -> None:
    given_ids = {"request_id": "r.1", "correlation_id": "c:2", "causation_id": "e_3", "v": 1}
    assert correlation_from(given_ids) == Correlation("r.1", "c:2", "e_3")


@pytest.mark.parametrize("meta", [None, {}, {"request_id": None, "unknown": [1]}])
def test_ids_that_are_absent_are_made(meta: Any) -> None:
    first, second = correlation_from(meta), correlation_from(meta)
    assert is_id(first.request_id)
    assert is_id(first.correlation_id)
    assert first.causation_id is None
    assert len({first.request_id, second.request_id, first.correlation_id}) == 3
    assert first.correlation_id < second.correlation_id


@pytest.mark.parametrize("name", ["request_id", "correlation_id", "causation_id"])
@pytest.mark.parametrize("value", ["", "a b", "é", "x" * 129, "a\n", 5, True, [], {}])
def test_ids_that_are_malformed_are_refused(name: str, value: Any) -> None:
    with pytest.raises(RequestError) as caught:
        correlation_from({name: value})
    assert caught.value.code == "protocol.invalid_params"
    assert caught.value.rpc_code == -32602
    assert f"meta.{name}" in caught.value.message


def test_everything_else_is_read() -> None:
    meta = meta_from(
        {
            "request_id": "r",
            "correlation_id": "c",
            "actor": {"type": "human", "id": "u1", "display": "Ada", "more": 1},
            "tenant": "t",
            "traceparent": TRACE,
            "stream": True,
        }
    )
    assert meta.actor == Actor("human", "u1", "Ada")
    assert meta.actor.to_json() == {"type": "human", "id": "u1", "display": "Ada"}
    assert (meta.tenant, meta.traceparent, meta.stream) == ("t", TRACE, True)
    assert Actor("system", "s").to_json() == {"type": "system", "id": "s"}


@pytest.mark.parametrize("value", ["", "00-zz", 5, TRACE + "\n", TRACE.upper()])
def test_a_malformed_trace_is_ignored(value: Any) -> None:
    assert meta_from({"traceparent": value}).traceparent is None


@pytest.mark.parametrize(
    "meta",
    [5, "x", [], {"stream": 1}, {"tenant": ""}, {"tenant": 5}, {"actor": "me"}]
    + [{"actor": actor} for actor in ({}, {"type": "god", "id": "x"}, {"type": "human"})],
)
def test_what_has_the_wrong_type_is_refused(meta: Any) -> None:
    with pytest.raises(RequestError) as caught:
        meta_from(meta)
    assert caught.value.code == "protocol.invalid_params"


def test_results_carry_the_ids_and_the_time() -> None:
    meta = meta_json(Correlation("r", "c", "e"))
    assert {key: meta[key] for key in ("v", "request_id", "correlation_id", "causation_id")} == {
        "v": 1,
        "request_id": "r",
        "correlation_id": "c",
        "causation_id": "e",
    }
    assert meta["ts"].endswith("Z")
    assert "causation_id" not in meta_json(Correlation("r", "c"))
    assert correlation_from(meta) == Correlation("r", "c", "e")


@settings(max_examples=200)
@given(
    st.dictionaries(
        st.sampled_from(["request_id", "correlation_id", "actor", "stream", "tenant", "v"]),
        st.none() | st.booleans() | st.text(max_size=5) | st.dictionaries(st.text(), st.text()),
    )
)
def test_any_meta_is_read_or_refused(meta: dict[str, Any]) -> None:
    try:
        ids = meta_from(meta).correlation
    except RequestError as exc:
        code = exc.code
    else:
        code = "protocol.invalid_params"
        assert is_id(ids.request_id)
    assert code == "protocol.invalid_params"
