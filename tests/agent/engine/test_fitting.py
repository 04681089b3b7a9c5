"""What is told of a run fits into an answer, and says what it left out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fleetprompt_agent.engine.fitting import FIELD_BYTES, fit_entry, fit_gate, fit_run, is_deep
from fleetprompt_protocol.wire import dumps

STATUSES = ("succeeded", "skipped", "pending", "failed", "running", "waiting", "unknown")
SLACK = 2_000
"""What stands beside the fields that can be left out."""


def result(**fields: Any) -> dict[str, Any]:
    return {"run_id": "r", "steps": [], "gates": [], "outputs": None, "output": None, **fields}


def step(path: str, status: str = "succeeded", text: str = "") -> dict[str, Any]:
    return {"step_path": path, "status": status, "stderr_tail": text}


def gate(*items: Any, **fields: Any) -> dict[str, Any]:
    return {"gate_id": "r.g1", "kind": "approval", "items": list(items), **fields}


paths = st.builds(
    lambda name, index: name + index, st.sampled_from("abc"), st.sampled_from(["", "[0]", "[1]/x"])
)
steps = st.lists(
    st.builds(step, paths, st.sampled_from(STATUSES), st.text(max_size=300)), max_size=60
)
values = st.one_of(st.none(), st.text(max_size=5000), st.lists(st.integers(), max_size=500))
gates = st.lists(
    st.lists(st.text(max_size=300), max_size=40).map(lambda items: gate(*items)), max_size=3
)


@given(steps, values, st.none() | st.dictionaries(st.text(max_size=5), values, max_size=4), gates)
def test_a_result_fits_and_what_it_left_out_is_named(
    steps: list[Any], output: Any, outputs: Any, gates: list[Any]
) -> None:
    whole = result(steps=steps, output=output, outputs=outputs, gates=gates)
    limit = 8_000
    fitted = fit_run(whole, limit)
    size = len(dumps(whole))
    if size <= limit:
        assert fitted is whole
        return
    assert len(dumps(fitted)) <= limit + SLACK
    left_out = fitted.pop("left_out", {})
    for name in ("steps", "output", "outputs", "gates"):
        assert (fitted[name] != whole[name]) == (name in left_out)
        assert left_out.get(name, len(dumps(whole[name]))) == len(dumps(whole[name]))
    places = iter(steps)
    assert all(any(kept is one for one in places) for kept in fitted["steps"])  # in their order
    for kept, before in zip(fitted["gates"], gates, strict=True):
        assert kept["items"] == before["items"][: len(kept["items"])]


def test_items_at_ease_are_left_out_first_and_the_loop_itself_last() -> None:
    items = [step(f"each[{number}]", text="x" * 90) for number in range(100)]
    items[40]["status"] = "failed"
    fitted = fit_run(result(steps=[step("each"), *items, step("last")]), 3_000)
    kept = [one["step_path"] for one in fitted["steps"]]
    assert {"each", "each[40]", "last"} < set(kept)
    assert kept == ["each", *(f"each[{n}]" for n in range(len(kept) - 3)), "each[40]", "last"]


def test_outputs_stay_while_the_steps_alone_are_too_long() -> None:
    steps = [step(f"each[{number}]", text="x" * 90) for number in range(100)]
    fitted = fit_run(result(steps=steps, outputs={"a": "y" * 900}), 3_000)
    assert fitted["outputs"] == {"a": "y" * 900}
    assert set(fitted["left_out"]) == {"steps"}


def test_of_two_outputs_the_longer_one_goes() -> None:
    fitted = fit_run(result(outputs={"a": "y" * 9_000}, output="z" * 100), 3_000)
    assert (fitted["outputs"], fitted["output"]) == (None, "z" * 100)
    assert fitted["left_out"] == {"outputs": 9_008}


def test_a_gate_keeps_all_but_some_of_its_items() -> None:
    asked = gate(*("x" * 100 for _ in range(50)), action={"items": 50})
    fitted = fit_gate(asked, 1_000)
    assert fitted["action"] == {"items": 50}
    assert 5 < len(fitted["items"]) < 10
    assert fitted["left_out"] == {"items": len(dumps(asked["items"]))}
    assert fit_gate(gate("x")) == gate("x")


def nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_too_deep_for_a_message_is_left_out_or_stands_as_text() -> None:
    deep = nested(60)
    fitted = fit_run(result(outputs={"a": deep}, output=nested(40), gates=[gate(preview=deep)]))
    assert (fitted["outputs"], fitted["output"]) == (None, nested(40))
    assert fitted["left_out"] == {"outputs": len(dumps({"a": deep}))}
    (asked,) = fitted["gates"]
    assert not is_deep(asked)
    assert fit_run(fitted)["gates"] == [asked]
    assert dumps(asked["preview"]).count(b"[") == 60
    assert fit_gate(gate(deep))["items"] != [deep]
    assert fit_entry({"data": {"a": deep, "b": 1}})[0]["data"] == {"b": 1}


def test_what_a_larger_limit_has_left_out_keeps_its_size() -> None:
    whole = result(outputs={"a": "y" * 9_000}, steps=[step(f"e[{n}]") for n in range(100)])
    once = fit_run(whole, 8_000)
    again = fit_run(once, 1_000)
    assert once["left_out"].items() <= again["left_out"].items()
    assert again["left_out"]["outputs"] == len(dumps(whole["outputs"]))
    assert "steps" in again["left_out"]
    items = ["x" * 100] * 50
    cut = fit_gate(gate(*items), 1_000)
    assert fit_gate(cut, 500)["left_out"] == cut["left_out"]


def test_an_event_loses_its_long_fields_only() -> None:
    entry = {"seq": 3, "data": {"result": "x" * FIELD_BYTES, "duration_ms": 5}}
    fitted, size = fit_entry(entry)
    assert fitted == {"seq": 3, "data": {"duration_ms": 5}, "left_out": {"result": FIELD_BYTES + 2}}
    assert size < 200
    assert fit_entry(fitted)[0] is fitted
