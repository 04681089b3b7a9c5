"""Runs that are too long to be told in one message, and projects with many of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace

LIMIT = 1024 * 1024
"""Of a run's result, in bytes."""
ITEMS = 1500
MANY = """\
inputs: {items: {type: array, items: {type: integer}, required: true}}
steps:
  - id: work
    for_each: inputs.items
    on_error: continue
    tool: flow:fail
    with: {message: "TEXT ${{ item }}"}
  - {id: last, tool: flow:noop}
""".replace("TEXT", "long " * 150)
WIDE = """\
steps:
  - id: big
    command: cli sh -c "yes 'a line of text' | head -c 3000000"
    max_output_bytes: 4000000
outputs: {a: $big.stdout}
"""
ASK = """\
inputs: {items: {type: array, items: {type: integer}, required: true}}
steps:
  - id: work
    for_each: inputs.items
    command: cli printf "TEXT" ${{ item }}
    approval: required
""".replace("TEXT", "long " * 150)


def size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def depth(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max((depth(part) for part in parts), default=-1)


def whole(agent: AgentProcess, run_id: str, channel: str) -> Any:
    """The field of the run's result, page after page."""
    given = {"run_id": run_id, "channel": channel, "limit": 300_000}
    piece = agent.call("fp_get_output", given)["channels"][channel]
    text = piece["text"]
    while "next_offset" in piece:
        answer = agent.call("fp_get_output", {**given, "offset": piece["next_offset"]})
        piece = answer["channels"][channel]
        text += piece["text"]
    return json.loads(text)


def test_a_long_run_says_how_it_ended_and_gives_its_steps_in_pages(workspace: Workspace) -> None:
    workspace.write("many.yaml", MANY)
    agent = workspace.trusted()
    given = {"workflow": "many", "inputs": {"items": list(range(ITEMS))}}
    call = agent.send("fp_run_workflow", {**given, "meta": {"stream": True}})
    result = agent.answer(call)["result"]
    assert result["status"] == "succeeded"
    assert size(result) < LIMIT + 2000
    assert result["metrics"]["steps"] == {"succeeded": 2, "failed": ITEMS}
    assert set(result["left_out"]) == {"steps"}
    paths = [step["step_path"] for step in result["steps"]]
    assert {"work", "last", "work[0]"} < set(paths)
    assert len(paths) < ITEMS
    every = whole(agent, result["run_id"], "steps")
    assert [step["step_path"] for step in every] == [
        "work", "last", *(f"work[{number}]" for number in range(ITEMS)),
    ]  # fmt: skip
    assert size(every) == result["left_out"]["steps"]
    # The last chunk counts all steps, not only those that are shown.
    last = agent.chunks[-1]["data"]
    assert (last["completed"], last["total"]) == (ITEMS + 2, ITEMS + 2)
    assert size(agent.call("fp_get_run", {"run_id": result["run_id"]})) < LIMIT + 2000


def test_a_large_output_is_named_and_given_in_pages(workspace: Workspace) -> None:
    workspace.write("wide.yaml", WIDE)
    agent = workspace.trusted()
    result = agent.call("fp_run_workflow", {"workflow": "wide"})
    assert (result["ok"], result["outputs"], result["output"]) == (True, None, None)
    assert set(result["left_out"]) == {"outputs", "output"}
    text = "a line of text\n" * 200_000
    run_id = result["run_id"]
    assert whole(agent, run_id, "outputs") == {"a": text[:3_000_000]}
    assert whole(agent, run_id, "output") == text[:2_999_999]  # the text, without its last newline
    # A timeline leaves out what is long, and stays one.
    timeline = agent.call("fp_get_timeline", {"run_id": run_id})
    assert size(timeline) < 20_000
    long = {event["type"] for event in timeline["events"] if "left_out" in event}
    assert long == {"step.succeeded", "run.succeeded"}
    (ended,) = [event for event in timeline["events"] if event["type"] == "step.succeeded"]
    assert ended["data"]["duration_ms"] > 0


def test_a_gate_of_many_items_can_be_decided(workspace: Workspace) -> None:
    workspace.write("ask.yaml", ASK)
    agent = workspace.trusted()
    given = {"workflow": "ask", "inputs": {"items": list(range(ITEMS))}}
    call = agent.send("fp_run_workflow", {**given, "meta": {"stream": True}})
    result = agent.answer(call)["result"]
    (gate,) = result["gates"]
    assert size(result) < LIMIT + 2000
    assert 0 < len(gate["items"]) < gate["action"]["items"] == ITEMS
    assert gate["left_out"]["items"] > LIMIT
    (opened,) = [chunk for chunk in agent.chunks if "gate" in chunk["data"]]
    assert size(opened) < 70_000
    (full,) = whole(agent, result["run_id"], "gates")
    assert len(full["items"]) == ITEMS
    assert full["items"][: len(gate["items"])] == gate["items"]
    assert "token" not in full
    denied = agent.call("fp_resume_run", {"token": gate["token"], "approve": False})
    assert denied["status"] == "canceled"


@pytest.mark.parametrize("levels", [40, 55, 62, 64])
def test_a_run_is_told_however_deep_its_outputs_are_nested(
    workspace: Workspace, levels: int
) -> None:
    text = "[" * levels + "]" * levels
    workspace.write(
        "w.yaml",
        "inputs: {text: {type: string, required: true}}\n"
        "steps:\n"
        "  - {id: deep, command: cli cat, stdin: $inputs.text, output: json}\n"
        "  - {id: wrapped, tool: flow:set, with: {a: {b: {c: $deep.json}}}}\n"
        "  - {id: go, approval: {preview: $wrapped.json}}\n"
        "outputs: {all: $wrapped.json}\n",
    )
    agent = workspace.trusted()
    call = {"workflow": "w", "inputs": {"text": text}, "meta": {"stream": True}}
    asked = agent.answer(agent.send("fp_run_workflow", call))["result"]
    given = {"token": asked["gates"][0]["token"], "approve": True}
    result = agent.call("fp_resume_run", given)
    assert result["status"] == "succeeded"
    deep = json.loads(text)
    assert whole(agent, result["run_id"], "outputs") == {"all": {"a": {"b": {"c": deep}}}}
    assert agent.call("fp_get_timeline", {"run_id": result["run_id"]})["events"]
    assert ("left_out" in result) == (levels > 40)
    for message in (asked, result):
        assert depth(message) < 60


def test_a_playbook_says_what_it_left_out(workspace: Workspace) -> None:
    workspace.write("wide.yaml", WIDE)
    agent = workspace.trusted()
    envelope = agent.call("fp_playbook", {"action": "run", "pipeline": "wide"})
    assert (envelope["status"], envelope["output"]) == ("ok", [])
    assert envelope["left_out"]["output"] > 3_000_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "give step_path, or a channel of the run"),
        ({"channel": "stdout"}, "give step_path, or a channel of the run"),
        ({"channel": "steps", "step_path": "a"}, "leave out step_path"),
        ({"channel": "steps", "attempt": 1}, "attempt goes with step_path"),
    ],
)
def test_a_channel_belongs_to_a_step_or_to_the_run(
    workspace: Workspace, given: dict[str, Any], message: str
) -> None:
    error = workspace.agent().error("fp_get_output", given)
    assert error["code"] == "tool.invalid_input"
    assert message in json.dumps(error)


def test_runs_are_listed_by_how_they_ended(workspace: Workspace) -> None:
    workspace.write("good.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    workspace.write("bad.yaml", "steps:\n  - {id: a, tool: flow:fail}\n")
    workspace.write(
        "ask.yaml", "steps:\n  - {id: a, ask: {prompt: Who?, schema: {type: string}}}\n"
    )
    agent = workspace.trusted()
    names = ["good", "bad", "ask"] * 30
    for name in names:
        agent.call("fp_run_workflow", {"workflow": name})
    for name, status in [("good", "succeeded"), ("bad", "failed"), ("ask", "waiting")]:
        found = agent.call("fp_list_runs", {"status": status, "limit": 200})["runs"]
        assert [run["workflow_id"] for run in found] == [name] * 30
        assert all(("finished_at" in run) and run["status"] == status for run in found)
        assert {run["open_gates"] for run in found} == {int(name == "ask")}
    page = agent.call("fp_list_runs", {"limit": 40})
    listed = page["runs"]
    while "next_cursor" in page:
        page = agent.call("fp_list_runs", {"limit": 40, "cursor": page["next_cursor"]})
        listed += page["runs"]
    assert [run["workflow_id"] for run in listed] == names[::-1]


def test_a_timeline_of_several_runs_comes_in_pages(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = workspace.trusted()
    meta = {"correlation_id": "one-timeline"}
    for _ in range(3):
        agent.call("fp_run_workflow", {"workflow": "w", "meta": meta})
    given = {"correlation_id": "one-timeline"}
    every = agent.call("fp_get_timeline", given)["events"]
    assert len({event["run_id"] for event in every}) == 3
    found: list[Any] = []
    page = agent.call("fp_get_timeline", {**given, "limit": 4})
    while True:
        found += page["events"]
        if "next_cursor" not in page:
            break
        page = agent.call("fp_get_timeline", {**given, "limit": 4, "cursor": page["next_cursor"]})
    assert found == every


def test_a_page_of_a_timeline_ends_before_it_is_too_long(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "inputs: {text: {type: string, required: true}, items: {type: array, required: true}}\n"
        "steps:\n"
        "  - {id: a, for_each: inputs.items, tool: flow:set, with: {x: $inputs.text}}\n",
    )
    agent = workspace.trusted()
    given = {"workflow": "w", "inputs": {"text": "x" * 7_000, "items": list(range(100))}}
    run = agent.call("fp_run_workflow", given)
    page = agent.call("fp_get_timeline", {"run_id": run["run_id"], "limit": 1000})
    assert size(page) < LIMIT + 20_000
    found = page["events"]
    while "next_cursor" in page:
        more = {"run_id": run["run_id"], "limit": 1000, "cursor": page["next_cursor"]}
        page = agent.call("fp_get_timeline", more)
        found += page["events"]
    assert [event["seq"] for event in found] == list(range(1, run["metrics"]["events"] + 1))


@pytest.mark.parametrize("tool", ["fp_get_timeline", "fp_list_runs"])
def test_a_cursor_of_nobodys_is_refused(workspace: Workspace, tool: str) -> None:
    from fleetprompt_agent.tools.paging import encode_cursor

    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = workspace.trusted()
    run_id = agent.call("fp_run_workflow", {"workflow": "w"})["run_id"]
    place = (1 << 63,) if tool == "fp_get_timeline" else (1 << 63, "")
    given: dict[str, Any] = {"cursor": encode_cursor(place)}
    if tool == "fp_get_timeline":
        given["run_id"] = run_id
    assert agent.error(tool, given)["code"] == "tool.invalid_input"
