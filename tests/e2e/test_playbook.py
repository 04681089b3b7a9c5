"""The playbook contract: run and resume in one tool, one envelope, nothing by accident."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from fleetprompt_testing.workspace import AgentProcess, Workspace

SEED = """\
name: inbox-triage
args:
  tag:
    default: "family"
steps:
  - id: collect
    command: cli ./inbox list --json
    output: json
  - id: categorize
    command: cli ./inbox categorize --json
    output: json
    stdin: $collect.stdout
  - id: approve
    command: cli ./inbox apply --approve
    stdin: $categorize.stdout
    approval: required
  - id: execute
    command: cli ./inbox apply --execute
    stdin: $categorize.stdout
    condition: $approve.approved
"""
"""The seed's own example, but for where the program lies."""

INBOX = """\
#!/bin/sh
case "$*" in
"list --json") echo '[{"id": 1}, {"id": 2}]' ;;
"categorize --json") cat ;;
"apply --approve") cat > /dev/null; echo approved ;;
"apply --execute") cat >> applied; echo done ;;
esac
"""

GATED = """\
name: gated
steps:
  - {id: make, tool: flow:set, with: {files: [a, b]}}
  - id: act
    command: cli sh -c 'echo x >> done'
    approval: {prompt: Apply changes?, preview: $make.json}
"""

ENVELOPE = {"ok", "status", "output", "requiresApproval", "error", "runId", "meta"}


def playbook(agent: AgentProcess, **given: Any) -> dict[str, Any]:
    """The envelope of a call, checked for its shape."""
    envelope: dict[str, Any] = agent.call("fp_playbook", given)
    assert set(envelope) <= ENVELOPE
    assert {"ok", "status", "output", "runId"} <= set(envelope)
    assert isinstance(envelope["output"], list)
    assert envelope["ok"] is (envelope["status"] != "error")
    assert ("error" in envelope) is (envelope["status"] == "error")
    assert ("requiresApproval" in envelope) is (envelope["status"] == "needs_approval")
    if "error" in envelope:
        assert set(envelope["error"]) <= {"code", "message", "resumeToken"}
    if "requiresApproval" in envelope:
        assert set(envelope["requiresApproval"]) == {"prompt", "items", "preview", "resumeToken"}
    return envelope


def run(agent: AgentProcess, pipeline: str, **given: Any) -> dict[str, Any]:
    return playbook(agent, action="run", pipeline=pipeline, **given)


def resume(agent: AgentProcess, envelope: dict[str, Any], approve: bool) -> dict[str, Any]:
    """The envelope after an answer to the question of another one."""
    question = envelope.get("requiresApproval") or envelope["error"]
    return playbook(agent, action="resume", token=question["resumeToken"], approve=approve)


def refused(agent: AgentProcess, pipeline: str, **given: Any) -> str:
    """The code of an envelope that says that no run was made."""
    envelope = run(agent, pipeline, **given)
    assert envelope["runId"] is None
    code: str = envelope["error"]["code"]
    return code


def effects(workspace: Workspace) -> int:
    done = workspace.root / "done"
    return len(done.read_text().splitlines()) if done.exists() else 0


def with_inbox(workspace: Workspace) -> None:
    program = workspace.root / "inbox"
    program.write_text(INBOX)
    program.chmod(0o755)


def test_the_seeds_playbook_runs_pauses_and_resumes(workspace: Workspace) -> None:
    with_inbox(workspace)
    workspace.write("inbox-triage.yaml", SEED)
    agent = workspace.trusted()
    path = workspace.root / ".fleetprompt/workflows/inbox-triage.yaml"
    paused = run(
        agent, str(path), argsJson='{"tag": "work"}', timeoutMs=30000, maxOutputBytes=512000
    )
    assert (paused["status"], paused["output"]) == ("needs_approval", [])
    question = paused["requiresApproval"]
    assert question["items"][0]["argv"] == ["./inbox", "apply", "--approve"]
    assert not (workspace.root / "applied").exists()
    ended = resume(agent, paused, approve=True)
    assert (ended["status"], ended["output"]) == ("ok", ["done"])
    assert ended["runId"] == paused["runId"]
    assert json.loads((workspace.root / "applied").read_text()) == [{"id": 1}, {"id": 2}]


def test_a_denial_is_cancelled_and_nothing_more_happens(workspace: Workspace) -> None:
    workspace.write("gated.yaml", GATED)
    agent = workspace.trusted()
    paused = run(agent, "gated")
    assert paused["requiresApproval"]["prompt"] == "Apply changes?"
    assert paused["requiresApproval"]["preview"] == {"files": ["a", "b"]}
    denied = resume(agent, paused, approve=False)
    assert (denied["ok"], denied["status"], denied["output"]) == (True, "cancelled", [])
    again = resume(agent, paused, approve=False)
    assert again["status"] == "cancelled", "the same answer again changes nothing"
    opposite = resume(agent, paused, approve=True)
    assert opposite["error"]["code"] == "run.conflict"
    assert effects(workspace) == 0


def test_an_approval_counts_once(workspace: Workspace) -> None:
    workspace.write("gated.yaml", GATED)
    agent = workspace.trusted()
    paused = run(agent, "gated")
    for _ in range(2):
        assert resume(agent, paused, approve=True)["status"] == "ok"
    assert effects(workspace) == 1
    assert resume(agent, paused, approve=False)["error"]["code"] == "run.conflict"


def test_two_resumes_at_once_have_one_effect(workspace: Workspace) -> None:
    workspace.write("gated.yaml", GATED)
    agent = workspace.trusted()
    paused = run(agent, "gated")
    agent.close()
    others = [workspace.agent() for _ in range(3)]
    with ThreadPoolExecutor() as pool:
        ended = list(pool.map(lambda other: resume(other, paused, approve=True), others))
    assert {envelope["status"] for envelope in ended} == {"ok"}
    assert effects(workspace) == 1


def test_two_gates_have_two_tokens(workspace: Workspace) -> None:
    workspace.write(
        "twice.yaml",
        "steps:\n  - {id: one, approval: required}\n  - {id: two, approval: required}\n"
        "  - {id: end, tool: flow:set, with: {n: 7}}\n",
    )
    agent = workspace.agent()
    first = run(agent, "twice")
    second = resume(agent, first, approve=True)
    tokens = [envelope["requiresApproval"]["resumeToken"] for envelope in (first, second)]
    assert tokens[0] != tokens[1]
    dead = playbook(agent, action="resume", token=tokens[0], approve=False)
    assert dead["error"]["code"] == "run.conflict"
    assert resume(agent, second, approve=True)["output"] == [{"n": 7}]


def test_garbage_forged_and_foreign_tokens_are_refused(workspace: Workspace) -> None:
    workspace.write("gated.yaml", GATED)
    agent = workspace.trusted()
    paused = run(agent, "gated")
    token = paused["requiresApproval"]["resumeToken"]
    forged = "eyJraW5kIjoid29ya2Zsb3ctZmlsZSIsInJlc3VtZUF0SW5kZXgiOjJ9"
    for wrong in ("x", forged, token[:-1], token + "A", token[::-1], "fpg_nobody.g1.abc", "\x00"):
        envelope = playbook(agent, action="resume", token=wrong, approve=True)
        assert (envelope["error"]["code"], envelope["runId"]) == ("gate.token_invalid", None)
    assert effects(workspace) == 0
    assert agent.call("fp_get_run", {"run_id": paused["runId"]})["status"] == "waiting"


MISSHAPEN: tuple[dict[str, Any], ...] = (
    {},
    {"action": "stop"},
    {"action": "run"},
    {"action": "run", "pipeline": ""},
    {"action": "run", "pipeline": 7},
    {"action": "run", "pipeline": "gated", "token": "x"},
    {"action": "run", "pipeline": "gated", "args": {}},
    {"action": "run", "pipeline": "gated", "argsJson": {"a": 1}},
    {"action": "run", "pipeline": "gated", "args_json": "{}"},
    {"action": "run", "pipeline": "gated", "timeoutMs": 0},
    {"action": "run", "pipeline": "gated", "timeoutMs": 1.5},
    {"action": "run", "pipeline": "gated", "timeoutMs": "10"},
    {"action": "run", "pipeline": "gated", "timeoutMs": 2**31},
    {"action": "run", "pipeline": "gated", "cwd": ""},
    {"action": "resume", "approve": True},
    {"action": "resume", "token": "x"},
    {"action": "resume", "token": "x", "approve": "yes"},
    {"action": "resume", "token": "x", "approve": True, "pipeline": "gated"},
)


def test_an_input_of_another_shape_is_an_error_of_the_call(workspace: Workspace) -> None:
    workspace.write("gated.yaml", GATED)
    agent = workspace.agent()
    for given in MISSHAPEN:
        assert agent.error("fp_playbook", given)["code"] == "tool.invalid_input", given
    assert agent.call("fp_list_runs")["runs"] == []


def test_arguments_must_be_one_json_object_that_fits(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "inputs: {n: {type: integer, required: true}}\n"
        "steps: [{id: a, tool: flow:set, with: {n: $inputs.n}}]\n",
    )
    agent = workspace.agent()
    for wrong in (
        "{",
        "[1, 2]",
        "null",
        "7",
        '"x"',
        '{"n": NaN}',
        '{"n": "1"}',
        '{"m": 1}',
        "{}",
        "",
    ):
        assert refused(agent, "w", argsJson=wrong) == "inputs.invalid", wrong
    assert refused(agent, "w") == "inputs.invalid"
    assert run(agent, "w", argsJson='{"n": 3}')["output"] == [{"n": 3}]
    assert len(agent.call("fp_list_runs")["runs"]) == 1


def test_an_argument_is_data_and_never_a_command(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "inputs: {who: {type: string}}\n"
        "steps: [{id: a, command: 'cli printf %s ${{ inputs.who }}'}]\n",
    )
    hostile = "x; echo INJECTED $(id) `id`"
    ended = run(workspace.trusted(), "w", argsJson=json.dumps({"who": hostile}))
    assert ended["output"] == [hostile]


def test_the_directory_stays_in_the_workspace(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps: [{id: a, command: cli pwd}]\n")
    (workspace.root / "sub").mkdir()
    (workspace.root / "out").symlink_to("/")
    agent = workspace.trusted()
    for wrong in (
        "/tmp",
        "..",
        "sub/../..",
        "a\\..\\b",
        " ",
        "out",
        "out/tmp",
        "nowhere",
        "a\x00b",
    ):
        assert refused(agent, "w", cwd=wrong) == "cli.cwd", wrong
    assert run(agent, "w", cwd="sub")["output"] == [str(workspace.root / "sub")]


def test_inline_text_runs_in_yaml_and_json(workspace: Workspace) -> None:
    agent = workspace.agent()
    for text in (
        "steps:\n  - {id: a, tool: flow:set, with: {n: 1}}\n",
        "steps: [{id: a, tool: flow:set, with: {n: 1}}]",
        "# mine\nname: Mine\nsteps: [{id: a, tool: flow:set, with: {n: 1}}]",
        '{"steps": [{"id": "a", "tool": "flow:set", "with": {"n": 1}}]}',
        '\n  {"id": "mine", "steps": [{"id": "a", "tool": "flow:set", "with": {"n": 1}}]}',
    ):
        assert run(agent, text)["output"] == [{"n": 1}], text


def test_declared_outputs_are_the_output(workspace: Workspace) -> None:
    text = "outputs: {n: $a.json.n}\nsteps: [{id: a, tool: flow:set, with: {n: 1, m: 2}}]"
    assert run(workspace.agent(), text)["output"] == [{"n": 1}]


def test_inline_text_is_granted_nothing_even_by_the_spawner(workspace: Workspace) -> None:
    agent = workspace.trusted()
    text = "steps:\n  - {id: act, command: cli sh -c 'echo x >> done'}\n"
    workspace.write("same.yaml", text)
    assert run(agent, "same")["status"] == "ok"
    assert effects(workspace) == 1
    paused = run(agent, text)
    assert paused["status"] == "needs_approval"
    assert [item["step_path"] for item in paused["requiresApproval"]["items"]] == ["act"]
    assert effects(workspace) == 1
    assert resume(agent, paused, approve=True)["status"] == "ok"
    assert effects(workspace) == 2


def test_an_author_of_inline_text_cannot_declare_effects_away(workspace: Workspace) -> None:
    text = (
        "steps:\n  - {id: act, command: cli sh -c 'echo x >> done', side_effects: false,"
        " idempotent: true}\n"
    )
    assert run(workspace.trusted(), text)["status"] == "needs_approval"
    assert effects(workspace) == 0


BROKEN = (
    "steps: []\n\n",
    "- a\n- b\n",
    "steps: [{id: a}]",
    "steps:\n  - {id: a, command: cli true}\n  - {id: a, command: cli true}\n",
    "steps: [{id: a, command: echo hi}]",
    "steps: [{id: a, command: cli true, retries: 3}]",
    "steps: [{id: a, command: cli true\n",
    "steps: [{id: a, tool: flow:noop}]\nsteps: []\n",
    '{"steps": ',
)


def test_invalid_text_makes_no_run_and_says_where(workspace: Workspace) -> None:
    agent = workspace.agent()
    for text in BROKEN:
        envelope = run(agent, text)
        assert envelope["runId"] is None
        assert envelope["error"]["code"] == "workflow.invalid", text
        assert envelope["error"]["message"].startswith("inline.yaml"), text
    assert agent.call("fp_list_runs")["runs"] == []


def test_text_longer_than_a_workflow_file_is_refused(workspace: Workspace) -> None:
    text = "steps: [{id: a, tool: flow:noop}]\n# " + "x" * 102_400
    assert refused(workspace.agent(), text) == "inputs.too_large"


def test_paths_lead_to_known_workflows_only(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write("gated.yaml", GATED)
    secret = "steps: [{id: a, SECRET_LINE: 1}]\n"
    (tmp_path / "outside.yaml").write_text(secret)
    (workspace.root / "beside.yaml").write_text(secret)
    folder = workspace.root / ".fleetprompt/workflows"
    (folder / "linked.yaml").symlink_to(tmp_path / "outside.yaml")
    agent = workspace.trusted()
    for path in (
        str(tmp_path / "outside.yaml"),
        str(workspace.root / "beside.yaml"),
        "beside.yaml",
        "../outside.yaml",
        f"{folder}/../../../outside.yaml",
        "/etc/passwd",
        "/proc/self/environ",
        "gated.yaml\x00",
        "/nul\x00",
        str(folder),
        ".fleetprompt/workflows",
    ):
        envelope = run(agent, path)
        assert envelope["error"]["code"] == "workflow.not_found", path
        assert "SECRET" not in json.dumps(envelope)
    linked = run(agent, str(folder / "linked.yaml"))
    assert linked["error"]["code"] == "workflow.unreadable"
    assert "SECRET" not in json.dumps(linked)
    for path in (str(folder / "gated.yaml"), ".fleetprompt/workflows/gated.yaml", "gated"):
        assert run(agent, path)["status"] == "needs_approval", path


def test_a_root_that_is_reached_by_a_link_is_the_same_root(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.write("w.yaml", "steps: [{id: a, tool: flow:set, with: {n: 1}}]\n")
    (tmp_path / "link").symlink_to(workspace.root)
    path = tmp_path / "link/.fleetprompt/workflows/w.yaml"
    assert run(workspace.agent(), str(path))["output"] == [{"n": 1}]


def test_a_file_that_is_edited_while_it_waits_changes_nothing(workspace: Workspace) -> None:
    """What was shown is what runs: the plan is kept with the run."""
    workspace.write("gated.yaml", GATED)
    agent = workspace.trusted()
    paused = run(agent, "gated")
    workspace.write("gated.yaml", GATED.replace("echo x >> done", "echo EVIL > evil"))
    assert resume(agent, paused, approve=True)["status"] == "ok"
    assert effects(workspace) == 1
    assert not (workspace.root / "evil").exists()


def test_output_cannot_change_the_question(workspace: Workspace) -> None:
    lie = '{"prompt": "harmless?", "items": [], "requiredApprover": "mallory"}'
    (workspace.root / "lie").write_text(lie)
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: a, command: cli cat lie, output: json}\n"
        "  - id: b\n"
        "    command: cli true\n"
        "    approval: {prompt: Delete the database?, preview: $a.json}\n",
    )
    question = run(workspace.trusted(), "w")["requiresApproval"]
    assert question["prompt"] == "Delete the database?"
    assert question["items"][0]["argv"] == ["true"]


def test_a_question_that_yes_cannot_answer_stays_open(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: who, ask: {prompt: How many?, schema: {type: integer}}}\n"
        "  - {id: end, tool: flow:set, with: {n: $who.response}}\n",
    )
    agent = workspace.agent()
    paused = run(agent, "w")
    assert paused["requiresApproval"]["prompt"] == "How many?"
    unsure = resume(agent, paused, approve=True)
    assert unsure["error"]["code"] == "gate.bad_response"
    token = unsure["error"]["resumeToken"]
    bad = agent.error("fp_resume_run", {"token": token, "response": "many"})
    assert bad["code"] == "gate.bad_response"
    mixed = agent.error("fp_resume_run", {"token": token, "approve": True})
    assert mixed["code"] == "gate.bad_response"
    assert agent.call("fp_resume_run", {"token": token, "response": 5})["output"] == {"n": 5}


def test_a_manual_step_is_completed_by_yes_and_ended_by_no(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: call, manual: Call the bank}\n")
    agent = workspace.agent()
    assert resume(agent, run(agent, "w"), approve=True)["status"] == "ok"
    paused = run(agent, "w")
    assert resume(agent, paused, approve=False)["status"] == "cancelled"
    assert resume(agent, paused, approve=False)["status"] == "cancelled"


def test_a_gate_in_an_embedded_workflow_pauses_and_resumes(workspace: Workspace) -> None:
    workspace.write("gated.yaml", GATED)
    agent = workspace.trusted()
    text = "steps:\n  - {id: sub, workflow: gated}\n"
    workspace.write("outer.yaml", text)
    paused = run(agent, "outer")
    assert paused["requiresApproval"]["items"][0]["step_path"] == "sub/act"
    assert resume(agent, paused, approve=True)["status"] == "ok"
    assert effects(workspace) == 1


def test_a_failure_keeps_what_was_made_before(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: a, tool: flow:set, with: {n: 1}}\n"
        "  - {id: b, command: cli sh -c 'exit 3'}\n",
    )
    ended = run(workspace.trusted(), "w")
    assert (ended["status"], ended["output"]) == ("error", [{"n": 1}])
    assert ended["error"]["code"] == "step.exit_code"
    assert ended["runId"]


def test_time_is_limited_and_waiting_does_not_count(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: ok, approval: required}\n  - {id: nap, command: cli sleep 600}\n",
    )
    agent = workspace.trusted()
    paused = run(agent, "w", timeoutMs=200)
    ended = resume(agent, paused, approve=True)
    assert ended["error"]["code"] == "run.timeout"


def test_output_is_capped_and_a_cut_one_is_not_consumed(workspace: Workspace) -> None:
    workspace.write("w.yaml", f"steps: [{{id: a, command: cli printf {'x' * 64}}}]\n")
    padded = "[1]" + " " * 64
    workspace.write(
        "j.yaml", f"steps: [{{id: a, command: 'cli printf \"{padded}\"', output: json}}]\n"
    )
    agent = workspace.trusted()
    for cap, kept in ((16, 16), (0, 64), (-5, 64), (2**40, 64), (None, 64)):
        given = {} if cap is None else {"maxOutputBytes": cap}
        assert run(agent, "w", **given)["output"] == ["x" * kept], cap
        ended = run(agent, "j", **given)
        assert (ended.get("error") or {}).get("code") == (
            "output.truncated" if kept == 16 else None
        )


def test_a_question_can_be_answered_after_its_agent_died(workspace: Workspace) -> None:
    workspace.write("gated.yaml", GATED)
    first = workspace.trusted()
    paused = run(first, "gated")
    first.kill()
    assert resume(workspace.agent(), paused, approve=True)["status"] == "ok"
    assert effects(workspace) == 1


def test_a_question_whose_token_died_with_its_agent_gets_a_new_one(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "type: graph\n"
        "steps:\n"
        "  - {id: one, approval: required}\n"
        "  - {id: two, approval: required}\n",
    )
    first = workspace.agent()
    paused = run(first, "w")
    first.kill()
    other = workspace.agent()
    second = resume(other, paused, approve=True)
    assert second["status"] == "needs_approval"
    assert resume(other, second, approve=True)["status"] == "ok"
