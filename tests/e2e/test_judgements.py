"""`llm` steps over plain JSON-RPC: who holds the gate's token answers for the model."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from fleetprompt_testing.judging import SORT

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import Workspace

EACH = """\
steps:
  - id: each
    command: llm prompt="Length of ${{ item }}?" schema:={"type":"integer"}
    for_each: '["a", "bb", "ccc", "dddd"]'
    max_parallel: 2
"""


def started(workspace: Workspace, text: str = SORT) -> tuple[Any, dict[str, Any]]:
    """An agent, and a run of the text that waits."""
    workspace.write("w.yaml", text)
    agent = workspace.agent()
    run = agent.call("fp_run_workflow", {"workflow": "w"})
    assert run["status"] == "waiting", run
    return agent, run


def test_an_answer_that_meets_the_schema_is_the_steps_result(workspace: Workspace) -> None:
    agent, run = started(workspace)
    (gate,) = run["gates"]
    assert (gate["kind"], gate["prompt"]) == ("judgement", "Spam? buy now")
    assert gate["action"] == {"tool": "llm:big-1", "model": "big-1", "system": "Be terse."}
    assert gate["response_schema"]["required"] == ["label"]
    for wrong in ("spam", {"label": "maybe"}, None, {}):
        refused = agent.error("fp_resume_run", {"token": gate["token"], "response": wrong})
        assert refused["code"] == "gate.bad_response", wrong
    for decision in ({"approve": True}, {"approve": False}, {"complete": True}, {"skip": True}):
        refused = agent.error("fp_resume_run", {"token": gate["token"], **decision})
        assert refused["code"] == "gate.bad_response", decision
    meta = {"actor": {"type": "agent", "id": "model:big-1"}}
    ended = agent.call(
        "fp_resume_run", {"token": gate["token"], "response": {"label": "ham"}, "meta": meta}
    )
    assert ended["status"] == "succeeded"
    assert ended["output"] == {
        "label": "ham", "usage": None, "by": {"type": "agent", "id": "model:big-1"},
    }  # fmt: skip
    assert agent.call("fp_replay_run", {"run_id": run["run_id"]})["ok"] is True


def test_the_same_answer_again_says_so_and_another_is_refused(workspace: Workspace) -> None:
    agent, run = started(workspace)
    answer = {"token": run["gates"][0]["token"], "response": {"label": "ham"}}
    assert "note" not in agent.call("fp_resume_run", answer)
    again = agent.call("fp_resume_run", answer)
    assert (again["status"], "decided so before" in again["note"]) == ("succeeded", True)
    other = agent.error("fp_resume_run", {**answer, "response": {"label": "spam"}})
    assert other["code"] == "run.conflict"


def test_of_two_answers_at_once_one_holds_and_the_other_is_told(workspace: Workspace) -> None:
    agent, run = started(workspace)
    token = run["gates"][0]["token"]
    agents = [agent, workspace.agent()]

    def answer(number: int) -> Any:
        label = {"label": ("spam", "ham")[number]}
        asked = agents[number].send("fp_resume_run", {"token": token, "response": label})
        return agents[number].answer(asked)

    with ThreadPoolExecutor(2) as both:
        said: list[Any] = list(both.map(answer, range(2)))
    won = [number for number in range(2) if "result" in said[number]]
    assert len(won) == 1, said
    assert said[won[0]]["result"]["output"]["label"] == ("spam", "ham")[won[0]]
    assert said[1 - won[0]]["error"]["data"]["code"] == "run.conflict"


def test_an_answer_beyond_the_limit_leaves_the_question_open(workspace: Workspace) -> None:
    text = "steps:\n  - {id: a, tool: llm, with: {prompt: x}, max_output_bytes: 100}\n"
    agent, run = started(workspace, text)
    token = run["gates"][0]["token"]
    long = agent.error("fp_resume_run", {"token": token, "response": {"a": "x" * 100}})
    assert (long["code"], "at most 100" in long["message"]) == ("gate.bad_response", True)
    ended = agent.call("fp_resume_run", {"token": token, "response": {"a": "x" * 90}})
    assert ended["status"] == "succeeded"


def test_questions_of_a_list_are_answered_in_any_order(workspace: Workspace) -> None:
    agent, run = started(workspace, EACH)
    answered = 0
    while run["status"] == "waiting":
        assert 1 <= len(run["gates"]) <= 2
        gate = run["gates"][-1]
        size = len(gate["prompt"].removeprefix("Length of ").removesuffix("?"))
        # A token is shown once, by the call that opened its gate.
        token = gate.get("token") or tokens_of(agent, run)[gate["gate_id"]]
        run = agent.call("fp_resume_run", {"token": token, "response": size})
        answered += 1
    assert (run["status"], run["output"], answered) == ("succeeded", [1, 2, 3, 4], 4)


def tokens_of(agent: Any, run: dict[str, Any]) -> dict[str, str]:
    """New tokens of the run's open gates, by gate."""
    shown = agent.call("fp_get_run", {"run_id": run["run_id"], "reissue": True})
    return {gate["gate_id"]: gate["token"] for gate in shown["gates"]}


def test_the_largest_questions_fit_into_one_result(workspace: Workspace) -> None:
    """Eight at once, made of what JSON writes longest, in a frame of 4 MiB."""
    steps = "".join(
        f"  - {{id: s{n}, needs: [], tool: llm, with: {{prompt: $inputs.text}}}}\n"
        for n in range(20)
    )
    workspace.write("w.yaml", f"inputs: {{text: {{type: string}}}}\nsteps:\n{steps}")
    agent = workspace.agent()
    for text in ("\x01" * 21_000, "\u4e2d" * 43_000, '"' * 65_000):
        run = agent.call("fp_run_workflow", {"workflow": "w", "inputs": {"text": text}})
        assert (run["status"], len(run["gates"])) == ("waiting", 8)
        assert {gate["prompt"] for gate in run["gates"]} == {text}


def test_a_run_that_was_killed_at_its_question_is_answered_by_another(workspace: Workspace) -> None:
    agent, run = started(workspace)
    agent.kill()
    other = workspace.agent()
    shown = other.call("fp_get_run", {"run_id": run["run_id"]})
    assert (shown["status"], shown["gates"][0]["kind"]) == ("waiting", "judgement")
    token = run["gates"][0]["token"]
    ended = other.call("fp_resume_run", {"token": token, "response": {"label": "spam"}})
    assert (ended["status"], ended["output"]["label"]) == ("succeeded", "spam")


def test_a_cancel_at_the_question_ends_the_run(workspace: Workspace) -> None:
    agent, run = started(workspace)
    agent.call("fp_cancel_execution", {"run_id": run["run_id"]})
    assert agent.call("fp_get_run", {"run_id": run["run_id"]})["status"] == "canceled"
    late = {"token": run["gates"][0]["token"], "response": {"label": "ham"}}
    assert agent.error("fp_resume_run", late)["code"] == "gate.closed"


def test_a_question_that_cannot_be_rendered_fails_its_step(workspace: Workspace) -> None:
    text = "steps:\n  - {id: a, tool: flow:set, with: {n: 1}}\n"
    text += "  - {id: b, tool: llm, with: {prompt: '${{ steps.a.json.n.x }}'}}\n"
    workspace.write("w.yaml", text)
    run = workspace.agent().call("fp_run_workflow", {"workflow": "w"})
    assert (run["status"], run["error"]["code"]) == ("failed", "step.expression")
    assert "step b" in run["error"]["message"]


def test_an_edited_question_is_rehearsed_with_the_recorded_answer(workspace: Workspace) -> None:
    agent, run = started(workspace)
    answer = {"token": run["gates"][0]["token"], "response": {"label": "ham"}}
    agent.call("fp_resume_run", answer)
    rehearse = {"workflow": "w", "against": run["run_id"]}

    def against() -> tuple[dict[str, Any], dict[str, Any]]:
        compared = agent.call("fp_plan_workflow", rehearse)["against"]
        return compared, next(step for step in compared["steps"] if step["step_id"] == "sort")

    same, sort = against()
    assert (same["counts"]["same"], sort["basis"]) == (2, "recorded")
    workspace.write("w.yaml", SORT.replace("Spam?", "Is this spam?"))
    edited, sort = against()
    assert (sort["change"], sort["fields"], sort["basis"]) == ("changed", ["with"], "assumed")
    assert edited["gates"][0]["prompt"] == {
        "before": "Spam? buy now", "after": "Is this spam? buy now",
    }  # fmt: skip
    assert edited["status"]["after"] == "succeeded"
    workspace.write("w.yaml", SORT.replace("[spam, ham]", "[good, bad]"))
    _, sort = against()
    assert (sort["status"]["after"], sort["basis"]) == ("unknown", "unknown")


def test_a_playbook_points_to_the_tool_that_takes_an_answer(workspace: Workspace) -> None:
    workspace.write("w.yaml", SORT)
    agent = workspace.agent()
    paused = agent.call("fp_playbook", {"action": "run", "pipeline": "w"})
    assert (paused["status"], paused["requiresApproval"]["prompt"]) == (
        "needs_approval", "Spam? buy now",
    )  # fmt: skip
    token = paused["requiresApproval"]["resumeToken"]
    yes = agent.call("fp_playbook", {"action": "resume", "token": token, "approve": True})
    assert (yes["status"], yes["error"]["code"]) == ("error", "gate.bad_response")
    assert "fp_resume_run" in yes["error"]["message"]
    ended = agent.call("fp_resume_run", {"token": token, "response": {"label": "ham"}})
    assert ended["status"] == "succeeded"


def test_the_plan_names_the_model_and_says_that_nothing_holds_it(workspace: Workspace) -> None:
    workspace.write("w.yaml", SORT)
    shown = workspace.command("plan", "w").stdout
    assert "asks the calling model (big-1): Spam? buy now" in shown
    described = json.loads(workspace.command("describe", "w", "--json").stdout)
    held = {one["permission"]: one["enforced"] for one in described["permissions"]}
    assert held == {"model:invoke:big-1": False}
