"""Runs that wait for a person: effects, approvals, tokens, and who decides first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace

APPROVED = """\
steps:
  - id: make
    tool: flow:set
    with: {text: "three files"}
  - id: deploy
    command: cli sh -c 'echo x >> {done}'
    approval:
      prompt: Deploy now?
      preview: $make.json.text
  - id: report
    tool: flow:set
    with: {ok: $deploy.approved}
"""


def waiting(workspace: Workspace) -> tuple[AgentProcess, dict[str, Any]]:
    """An agent and the result of a run that waits for its approval."""
    workspace.write("w.yaml", APPROVED.replace("{done}", str(workspace.root / "done")))
    agent = workspace.agent()
    result = agent.call("fp_run_workflow", {"workflow": "w"})
    assert result["status"] == "waiting", result
    return agent, result


def effects(workspace: Workspace) -> int:
    """How often the step has acted."""
    done = workspace.root / "done"
    return len(done.read_text().splitlines()) if done.exists() else 0


def test_without_intent_a_run_asks_before_its_first_effect(workspace: Workspace) -> None:
    done = workspace.root / "done"
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: pure, tool: flow:noop}}\n"
        f"  - {{id: act, command: cli sh -c 'echo x >> {done}'}}\n"
        f"  - {{id: more, command: cli true}}\n",
    )
    agent = workspace.agent()
    result = agent.call("fp_run_workflow", {"workflow": "w"})
    assert result["status"] == "waiting"
    (gate,) = result["gates"]
    assert gate["kind"] == "effects"
    assert [item["step_path"] for item in gate["items"]] == ["act", "more"]
    assert effects(workspace) == 0
    ended = agent.call("fp_resume_run", {"token": gate["token"], "approve": True})
    assert ended["status"] == "succeeded"
    assert effects(workspace) == 1


def test_an_approval_shows_the_action_first_and_the_preview_as_data(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    (gate,) = result["gates"]
    assert gate["kind"] == "approval"
    assert gate["action"]["argv"] == ["sh", "-c", f"echo x >> {workspace.root / 'done'}"]
    assert gate["action"]["program"].endswith("/sh")
    assert len(gate["action"]["program_sha256"]) == 64
    assert (gate["prompt"], gate["preview"]) == ("Deploy now?", "three files")
    ended = agent.call("fp_resume_run", {"token": gate["token"], "approve": True, "reason": "ok"})
    assert ended["output"] == {"ok": True}
    assert effects(workspace) == 1


def test_a_long_preview_is_cut(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: a, command: cli seq 10000}\n"
        "  - {id: b, approval: {preview: $a.stdout}}\n",
    )
    (gate,) = workspace.trusted().call("fp_run_workflow", {"workflow": "w"})["gates"]
    assert gate["preview"].startswith("1\n2\n3\n")
    assert gate["preview"].endswith("… (cut: 48894 characters in all)")
    assert len(gate["preview"]) < 17_000


def test_a_denial_cancels_the_run_without_the_effect(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    token = result["gates"][0]["token"]
    ended = agent.call("fp_resume_run", {"token": token, "approve": False, "reason": "not now"})
    assert (ended["ok"], ended["status"]) == (True, "canceled")
    assert "not now" in ended["error"]["message"]
    assert effects(workspace) == 0


def test_the_same_decision_again_changes_nothing_and_the_opposite_is_refused(
    workspace: Workspace,
) -> None:
    agent, result = waiting(workspace)
    token = result["gates"][0]["token"]
    agent.call("fp_resume_run", {"token": token, "approve": True})
    again = agent.call("fp_resume_run", {"token": token, "approve": True})
    assert again["status"] == "succeeded"
    assert effects(workspace) == 1
    opposite = agent.error("fp_resume_run", {"token": token, "approve": False})
    assert opposite["code"] == "run.conflict"


def test_a_forged_or_shortened_token_is_refused(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    token = result["gates"][0]["token"]
    for wrong in (token[:-1], token + "x", token.replace("fpg_", "fpg_0"), "x", token[::-1]):
        refused = agent.error("fp_resume_run", {"token": wrong, "approve": True})
        assert refused["code"] == "gate.token_invalid", wrong
    assert effects(workspace) == 0


def test_a_new_token_voids_the_old_one(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    old = result["gates"][0]["token"]
    agent.kill()
    other = workspace.agent()
    assert "token" not in other.call("fp_get_run", {"run_id": result["run_id"]})["gates"][0]
    shown = other.call("fp_get_run", {"run_id": result["run_id"], "reissue": True})
    new = shown["gates"][0]["token"]
    assert other.error("fp_resume_run", {"token": old, "approve": True})["code"] == (
        "gate.token_invalid"
    )
    assert other.call("fp_resume_run", {"token": new, "approve": True})["status"] == "succeeded"


def test_of_two_who_ask_for_new_tokens_at_once_the_last_one_has_them(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps: [{id: a, approval: required}]\n")
    agent = workspace.agent()
    run = agent.call("fp_run_workflow", {"workflow": "w"})
    wanted = {"run_id": run["run_id"], "reissue": True}
    asked = [agent.send("fp_get_run", wanted) for _ in range(4)]
    old = {"token": run["gates"][0]["token"], "approve": True}
    asked.append(agent.send("fp_resume_run", old))
    answers: dict[int, Any] = {}
    while len(answers) < len(asked):
        message = agent.read()
        answers[message["id"]] = message
    late = answers.pop(asked[-1])
    assert late["error"]["data"]["code"] == "gate.token_invalid"
    shown = [answer["result"]["gates"][0].get("token") for answer in answers.values()]
    # One may have had its answer before the next was read: its token is void by now.
    tokens = [token for token in shown if token is not None]
    decided = [
        agent.answer(agent.send("fp_resume_run", {"token": token, "approve": True}))
        for token in tokens
    ]
    (ended,) = [answer["result"] for answer in decided if "result" in answer]
    assert ended["status"] == "succeeded"


def test_two_who_approve_at_once_cause_one_effect(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    token = result["gates"][0]["token"]
    agent.close()
    others = [workspace.agent() for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        results = list(
            pool.map(
                lambda other: other.call("fp_resume_run", {"token": token, "approve": True}),
                others,
            )
        )
    assert {ended["status"] for ended in results} == {"succeeded"}
    assert effects(workspace) == 1


def test_an_approver_and_a_denier_at_once_get_one_outcome(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    token = result["gates"][0]["token"]
    agent.close()
    yes, no = workspace.agent(), workspace.agent()
    yes_id = yes.send("fp_resume_run", {"token": token, "approve": True})
    no_id = no.send("fp_resume_run", {"token": token, "approve": False})
    answers = [yes.answer(yes_id), no.answer(no_id)]
    won = [answer["result"]["status"] for answer in answers if "result" in answer]
    lost = [answer["error"]["data"]["code"] for answer in answers if "error" in answer]
    assert len(won) == 1
    assert lost == ["run.conflict"]
    assert effects(workspace) == (1 if won == ["succeeded"] else 0)


def test_the_token_is_nowhere_in_the_state_directory_or_the_log(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    token = result["gates"][0]["token"]
    agent.close()
    secret = token.rpartition(".")[2]
    kept = b"".join(path.read_bytes() for path in workspace.home.rglob("*") if path.is_file())
    assert secret.encode() not in kept
    assert secret not in agent.log


def test_a_branch_goes_on_while_another_waits(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: ask, needs: [], command: cli true, approval: required}\n"
        "  - {id: free, needs: [], command: cli echo free}\n"
        "  - {id: later, needs: [free], command: cli echo later}\n",
    )
    result = workspace.trusted().call("fp_run_workflow", {"workflow": "w"})
    assert result["status"] == "waiting"
    assert {step["step_id"]: step["status"] for step in result["steps"]} == {
        "ask": "waiting", "free": "succeeded", "later": "succeeded",
    }  # fmt: skip


def test_a_program_that_changed_since_the_approval_is_asked_about_again(
    workspace: Workspace,
) -> None:
    script = workspace.root / "tool"
    script.write_text("#!/bin/sh\necho one\n")
    script.chmod(0o755)
    workspace.write("w.yaml", "steps:\n  - {id: a, command: cli ./tool, approval: required}\n")
    agent = workspace.agent()
    first = agent.call("fp_run_workflow", {"workflow": "w"})
    script.write_text("#!/bin/sh\necho two\n")
    token = first["gates"][0]["token"]
    second = agent.call("fp_resume_run", {"token": token, "approve": True})
    assert second["status"] == "waiting"
    assert second["gates"][0]["gate_id"] != first["gates"][0]["gate_id"]
    ended = agent.call("fp_resume_run", {"token": second["gates"][0]["token"], "approve": True})
    assert ended["output"] == "two"


def test_a_used_file_that_changed_since_the_approval_is_asked_about_again(
    workspace: Workspace,
) -> None:
    script = workspace.root / "deploy.sh"
    script.write_text("echo one\n")
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: a, command: cli sh deploy.sh, uses: [deploy.sh], approval: required}\n",
    )
    agent = workspace.agent()
    first = agent.call("fp_run_workflow", {"workflow": "w"})
    assert [used["path"] for used in first["gates"][0]["action"]["uses"]] == ["deploy.sh"]
    script.write_text("echo two\n")
    token = first["gates"][0]["token"]
    second = agent.call("fp_resume_run", {"token": token, "approve": True})
    assert second["status"] == "waiting"
    before, after = (run["gates"][0]["action"]["uses"][0]["sha256"] for run in (first, second))
    assert before != after
    ended = agent.call("fp_resume_run", {"token": second["gates"][0]["token"], "approve": True})
    assert ended["output"] == "two"


_USING = "command: cli sh deploy.sh, uses: [deploy.sh]"
_LOOP = "for_each: '[1, 2]', max_parallel: 1"


@pytest.mark.parametrize(
    ("text", "asked_at"),
    [
        (f"steps:\n  - {{id: a, {_USING}}}\n", ["a"]),
        (
            f"steps:\n  - {{id: a, {_USING}, {_LOOP}}}\n",
            ["a[0]", "a[1]"],
        ),
        (f"steps:\n  - {{id: a, {_USING}, {_LOOP}, approval: required}}\n", ["a[0]", "a[1]"]),
        ("steps:\n  - {id: s, workflow: inner}\n", ["s/a"]),
        ("steps:\n  - {id: s, workflow: inner, approval: required}\n", ["s/a"]),
    ],
)
def test_a_used_file_that_changed_since_a_gate_for_more_than_one_step_is_asked_about_again(
    workspace: Workspace, text: str, asked_at: list[str]
) -> None:
    script = workspace.root / "deploy.sh"
    script.write_text("echo one\n")
    workspace.write("inner.yaml", f"steps:\n  - {{id: a, {_USING}}}\n")
    workspace.write("w.yaml", text)
    agent = workspace.agent()
    run = agent.call("fp_run_workflow", {"workflow": "w"})
    assert [used["path"] for used in run["gates"][0]["action"]["uses"]] == ["deploy.sh"]
    script.write_text("echo two >> did; echo two\n")
    asked = []
    while run["status"] == "waiting":
        gate = run["gates"][0]
        asked.append(gate["step_path"])
        run = agent.call("fp_resume_run", {"token": gate["token"], "approve": True})
    assert run["status"] == "succeeded"
    assert [path for path in asked if path in asked_at] == asked_at
    assert agent.call("fp_replay_run", {"run_id": run["run_id"]})["ok"]


def test_a_used_file_that_changed_before_finally_is_not_run(workspace: Workspace) -> None:
    script = workspace.root / "deploy.sh"
    script.write_text("echo one\n")
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: a, command: cli sh -c 'echo echo two > deploy.sh'}\n"
        f"finally:\n  - {{id: z, {_USING}}}\n",
    )
    agent = workspace.agent()
    waits = agent.call("fp_run_workflow", {"workflow": "w"})
    ended = agent.call("fp_resume_run", {"token": waits["gates"][0]["token"], "approve": True})
    (step,) = [step for step in ended["steps"] if step["step_id"] == "z"]
    assert (step["status"], step["error"]["code"]) == ("failed", "plan.changed")
    assert agent.call("fp_replay_run", {"run_id": ended["run_id"]})["ok"]


def test_a_workflow_edited_while_it_waits_runs_as_it_was_approved(workspace: Workspace) -> None:
    agent, result = waiting(workspace)
    workspace.write("w.yaml", "steps:\n  - {id: deploy, command: cli sh -c 'echo evil'}\n")
    token = result["gates"][0]["token"]
    ended = agent.call("fp_resume_run", {"token": token, "approve": True})
    assert ended["output"] == {"ok": True}
    assert ended["digest"] == result["digest"]
