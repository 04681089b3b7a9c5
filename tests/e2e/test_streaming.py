"""What a call streams of real runs: every transition, numbered, in order, whoever reads slowly."""

from __future__ import annotations

import json
import select
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from fleetprompt_testing.workspace import AgentProcess, Workspace

IDS = {"request_id": "req", "correlation_id": "line"}

TALK = """\
i=0
while [ $i -lt 600 ]; do printf '%8000s\\n' $i; i=$((i+1)); done
echo >> finished
"""
"""Prints 4.8 MB: more than pipes and marks hold."""

SEVERAL = """\
steps:
  - {id: first, command: cli echo one}
  - {id: broken, command: cli sh -c 'echo bad >&2; exit 3', on_error: continue, needs: [first],
     retry: {max_attempts: 2, initial: 1ms, on: [step.exit_code]}}
  - {id: never, tool: flow:noop, if: "false", needs: [first]}
  - {id: last, tool: flow:noop, needs: [broken, never]}
"""


def wait_for(path: Path) -> None:
    """Wait until the file is there: a step that talks to nobody who reads can only write it."""
    for _ in range(6000):
        if path.exists():
            return
        select.select([], [], [], 0.01)
    pytest.fail(f"{path} did not come")


def run(agent: AgentProcess, **meta: Any) -> int:
    return agent.send("fp_run_workflow", {"workflow": "w", "meta": {**IDS, "stream": True, **meta}})


def assert_sound(chunks: list[dict[str, Any]], call_id: str) -> None:
    """The invariants of every stream."""
    assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))
    assert {chunk["call_id"] for chunk in chunks} == {call_id}
    for chunk in chunks:
        assert chunk["meta"]["request_id"] == "req"
        assert chunk["meta"]["correlation_id"] == "line"
    done = [chunk["seq"] for chunk in chunks if chunk.get("done")]
    assert done == [len(chunks)]


def states(chunks: list[dict[str, Any]]) -> list[tuple[str | None, str]]:
    """Step and state of each status chunk."""
    return [
        (chunk["data"]["step_path"], chunk["data"]["state"])
        for chunk in chunks
        if chunk["channel"] == "status"
    ]


def test_every_transition_of_a_run_is_streamed_once_and_in_order(workspace: Workspace) -> None:
    workspace.write("w.yaml", SEVERAL)
    agent = workspace.trusted()
    request = run(agent)
    result = agent.answer(request)["result"]
    assert result["status"] == "succeeded"
    assert_sound(agent.chunks, str(request))
    of_broken = [state for path, state in states(agent.chunks) if path == "broken"]
    assert of_broken == ["started", "failed", "retrying", "started", "failed"]
    assert states(agent.chunks)[:2] == [("first", "started"), ("first", "completed")]
    assert ("never", "skipped") in states(agent.chunks)
    assert states(agent.chunks)[-1] == (None, "completed")
    completed = [c["data"]["completed"] for c in agent.chunks if c["channel"] == "status"]
    assert completed == sorted(completed)
    for chunk in agent.chunks:
        if chunk["channel"] == "status" and chunk["data"]["state"] in ("completed", "failed"):
            assert chunk["data"].get("duration_ms", 0) >= 0
    printed = [(c["channel"], c["data"]["text"]) for c in agent.chunks if c["channel"] != "status"]
    assert sorted(printed) == [("stderr", "bad\n"), ("stderr", "bad\n"), ("stdout", "one\n")]


def test_a_reader_that_is_slow_gets_every_transition_and_the_newest_output(
    workspace: Workspace,
) -> None:
    (workspace.root / "talk.sh").write_text(TALK)
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: talk, command: cli sh talk.sh, max_output_bytes: 10000000, output: none}\n"
        "  - {id: after, tool: flow:noop}\n",
    )
    agent = workspace.trusted()
    request = run(agent)
    wait_for(workspace.root / "finished")  # meanwhile nobody has read a byte
    result = agent.answer(request)["result"]
    assert result["status"] == "succeeded"
    assert_sound(agent.chunks, str(request))
    assert states(agent.chunks) == [
        ("talk", "started"), ("talk", "completed"), ("after", "started"), ("after", "completed"),
        (None, "completed"),
    ]  # fmt: skip
    printed = [chunk["data"] for chunk in agent.chunks if chunk["channel"] == "stdout"]
    assert any(data.get("coalesced") for data in printed)
    assert sum(len(data["text"]) for data in printed) < 2_000_000
    assert printed[-1]["text"].rstrip().endswith("599")


def test_calls_that_stream_at_the_same_time_are_numbered_each_for_itself(
    workspace: Workspace,
) -> None:
    workspace.write("w.yaml", SEVERAL)
    agent = workspace.trusted()
    wanted = [run(agent), run(agent), run(agent)]
    answered: set[int] = set()
    order: list[str] = []
    while len(answered) < 3:
        message = agent.read()
        if message.get("method") == "agent.tool.stream":
            agent.chunks.append(message["params"])
            order.append(message["params"]["call_id"])
            assert int(message["params"]["call_id"]) not in answered, "a chunk after its result"
        elif message.get("id") in wanted:
            answered.add(message["id"])
    for request in wanted:
        mine = [chunk for chunk in agent.chunks if chunk["call_id"] == str(request)]
        assert_sound(mine, str(request))
        assert len(states(mine)) == 10
    assert "Traceback" not in json.dumps(agent.chunks)
