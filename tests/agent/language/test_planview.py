from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.inputs import check_inputs
from fleetprompt_agent.language.loader import Compiled, load_workflow
from fleetprompt_agent.language.permissions import UNSEEN
from fleetprompt_agent.language.plangraph import dot, mermaid
from fleetprompt_agent.language.planview import view_plan

Load = Callable[[str], Compiled]

WORKFLOW = """\
type: graph
inputs: {pr: {type: integer, required: true}, dry: {type: boolean, default: true}}
secrets: {T: secret://env/T}
steps:
  - {id: list, command: 'cli gh pr view ${{ inputs.pr }} --json files', output: json}
  - id: left
    command: 'cli lint "pr ${{ inputs.pr }}" ${{ steps.list.json.files[0] }}'
    needs: [list]
  - id: right
    tool: cli:make
    with: {args: [test]}
    needs: [list]
    env: {TOKEN: "${{ secrets.T }}"}
  - id: publish
    command: cli git push
    needs: [left, right]
    if: "!inputs.dry"
    stdin: $left.stdout
    approval: {prompt: Publish?, preview: $left.stdout, expires: 1h}
    timeout: 90s
    retry: {max_attempts: 2, on: [step.exit_code]}
finally:
  - {id: clean, command: cli rm -rf build, if: run.status == "failed"}
outputs: {files: $list.json, pr: $inputs.pr}
"""


@pytest.fixture
def view(load: Load) -> dict[str, Any]:
    plan = load(WORKFLOW).raise_if_invalid()
    return view_plan(plan, check_inputs(plan, {"pr": 7}))


def steps_of(view: dict[str, Any]) -> dict[str, Any]:
    return {step["step_id"]: step for step in (*view["steps"], *view["finally"])}


def test_steps_stand_in_levels(view: dict[str, Any]) -> None:
    assert view["levels"] == [["list"], ["left", "right"], ["publish"]]


def test_what_is_known_is_rendered_and_the_rest_has_placeholders(view: dict[str, Any]) -> None:
    steps = steps_of(view)
    assert steps["list"]["action"]["argv"] == ["gh", "pr", "view", 7, "--json", "files"]
    assert steps["left"]["action"]["argv"] == ["lint", "pr 7", "⟨steps.list.json.files[0]⟩"]
    assert steps["right"]["action"]["env"] == {"TOKEN": "⟨secrets.T⟩"}
    assert steps["publish"]["action"]["stdin"] == "⟨$left.stdout⟩"
    assert view["outputs"] == {"files": "⟨$list.json⟩", "pr": 7}


def test_without_inputs_they_are_placeholders_too(load: Load) -> None:
    view = view_plan(load(WORKFLOW).raise_if_invalid())
    assert steps_of(view)["list"]["action"]["argv"][3] == "⟨inputs.pr⟩"
    assert steps_of(view)["publish"]["will_run"] is None


def test_inputs_that_are_missing_stay_placeholders_among_those_that_are_known(load: Load) -> None:
    plan = load(WORKFLOW).raise_if_invalid()
    view = view_plan(plan, {"dry": False})
    assert steps_of(view)["list"]["action"]["argv"][3] == "⟨inputs.pr⟩"
    assert steps_of(view)["publish"]["will_run"] is True


def test_edges_say_where_they_come_from(view: dict[str, Any]) -> None:
    edges = {(edge["from"], edge["to"]): edge["origin"] for edge in view["edges"]}
    assert edges["list", "left"] == edges["right", "publish"] == "needs"
    assert steps_of(view)["publish"]["needs"] == ["left", "right"]


def test_a_condition_of_inputs_alone_is_decided(view: dict[str, Any]) -> None:
    steps = steps_of(view)
    assert steps["publish"]["will_run"] is False
    assert steps["clean"]["will_run"] is None
    assert "will_run" not in steps["list"]


def test_gates_retries_and_effects_are_shown(view: dict[str, Any]) -> None:
    publish = steps_of(view)["publish"]
    assert view["gates"] == ["publish"]
    assert publish["gate"] == {
        "kind": "approval",
        "prompt": "Publish?",
        "preview": "⟨$left.stdout⟩",
        "expires": "1h",
        "on_deny": "cancel",
    }
    assert publish["retry"]["max_attempts"] == 2
    assert publish["timeout_s"] == 90
    assert view["side_effects"] == ["list", "left", "right", "publish", "clean"]


def test_permissions_say_what_is_enforced_and_what_cannot_be_seen(view: dict[str, Any]) -> None:
    found = {one["permission"]: one for one in view["permissions"]}
    assert set(found) == {
        "process:exec:gh",
        "process:exec:git",
        "process:exec:lint",
        "process:exec:make",
        "process:exec:rm",
        "secret:use:secret://env/T→cli:make",
    }
    assert all(one["enforced"] for one in found.values())
    assert UNSEEN in found["process:exec:make"]["why"]
    assert UNSEEN not in found["process:exec:gh"]["why"]
    assert steps_of(view)["right"]["caution"] == UNSEEN


def test_what_nothing_enforces_is_declared_only(load: Load) -> None:
    plan = load("""\
        allow: {network: [api.github.com], read: [~/.config/gh], write: [dist]}
        steps: [{id: a, command: cli gh}]
        """).raise_if_invalid()
    found = {one["permission"]: one["enforced"] for one in view_plan(plan)["permissions"]}
    assert found == {
        "process:exec:gh": True,
        "network:egress:api.github.com": False,
        "filesystem:read:~/.config/gh": False,
        "filesystem:write:dist": False,
    }


def test_a_view_is_json(view: dict[str, Any]) -> None:
    assert json.loads(json.dumps(view)) == view


def test_the_graph_has_a_node_for_each_step_and_an_edge_for_each_need(load: Load) -> None:
    plan = load(WORKFLOW).raise_if_invalid()
    flowchart = mermaid(plan)
    assert flowchart.startswith("flowchart TD\n")
    assert flowchart.count("-->") == 4
    assert 's3{{"publish<br/>cli:git"}}' in flowchart
    assert "subgraph finally" in flowchart
    assert dot(plan).count("->") == 4
    assert dot(plan).startswith("digraph workflow {")


HOSTILE = st.text(
    alphabet=st.sampled_from("\"'`<>[]{}()|;#&%\\/-=~ab \n\t\u202e\u0007é中") | st.characters(),
    min_size=1,
    max_size=30,
)


@settings(max_examples=100)
@given(HOSTILE)
def test_hostile_names_stay_inside_their_labels(name: str) -> None:
    document = {"steps": [{"id": "a", "name": name, "command": "flow noop"}]}
    try:
        data = json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    plan = load_workflow(data, format="json", file="w.json").plan
    if plan is None:
        return
    lines = mermaid(plan).splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r'    s0\["a<br/>[A-Za-z0-9 _.,:/()=+#;-]*<br/>flow:noop"\]', lines[1])
    graph = dot(plan).splitlines()
    assert len(graph) == 5
    assert re.fullmatch(r'    s0 \[label="(?:[^"\\]|\\.)*"\];', graph[3])


def test_a_question_to_a_model_is_shown_as_one(load: Load) -> None:
    text = """\
inputs: {mail: {type: string}}
steps:
  - {id: a, command: 'llm prompt="Spam? ${{ inputs.mail }} ${{ run.id }}" model=big'}
  - {id: b, tool: llm, with: {prompt: Why?, system: Be terse.}}
"""
    plan = load(text).raise_if_invalid()
    a, b = view_plan(plan, {"mail": "hello"})["steps"]
    assert (a["kind"], a["tool_id"], a["action"]) == ("judgement", "llm:big", None)
    assert a["gate"] == {
        "kind": "judgement", "prompt": "Spam? hello ⟨run.id⟩", "model": "big",
        "schema": {"type": "object"},
    }  # fmt: skip
    assert b["gate"]["system"] == "Be terse."
    for drawn in (mermaid(plan), dot(plan)):
        assert "asks the calling model (big)" in drawn
        assert drawn.count("asks the calling model") == 2
