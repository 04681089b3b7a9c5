"""Every field that the language accepts is enforced, seen through a real agent."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import Workspace


def run(workspace: Workspace, text: str, *, trusted: bool = True, **given: Any) -> dict[str, Any]:
    """The result of a run of this workflow."""
    workspace.write("w.yaml", text)
    agent = workspace.trusted() if trusted else workspace.agent()
    result: dict[str, Any] = agent.call("fp_run_workflow", {"workflow": "w", **given})
    return result


def steps(result: dict[str, Any]) -> dict[str, str]:
    return {step["step_path"]: step["status"] for step in result["steps"]}


def lines(workspace: Workspace, name: str = "log") -> list[str]:
    path = workspace.root / name
    return path.read_text().split() if path.exists() else []


def test_exit_codes_that_are_allowed_are_success(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli sh -c 'exit 3', ok_exit_codes: [0, 3]}\n"
        "outputs:\n  code: $a.exit_code\n",
    )
    assert result["outputs"] == {"code": 3}


def test_a_known_failure_is_tried_again_until_it_succeeds(workspace: Workspace) -> None:
    log = workspace.root / "log"
    result = run(
        workspace,
        "steps:\n  - id: a\n"
        f"    command: cli sh -c 'echo x >> {log}; test $(wc -l < {log}) -ge 3'\n"
        "    retry: {max_attempts: 5, initial: 10ms, jitter: 0}\n",
    )
    assert (result["status"], result["steps"][0]["attempt"]) == ("succeeded", 3)
    assert lines(workspace) == ["x", "x", "x"]


def test_retry_on_names_the_codes_that_are_tried_again(workspace: Workspace) -> None:
    log = workspace.root / "log"
    result = run(
        workspace,
        f"steps:\n  - id: a\n    command: cli sh -c 'echo x >> {log}; exit 1'\n"
        "    idempotent: true\n"
        "    retry: {max_attempts: 3, initial: 10ms, on: [step.signaled]}\n",
    )
    assert result["error"]["code"] == "step.exit_code"
    assert lines(workspace) == ["x"]


def test_all_attempts_share_the_total_timeout(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - id: a\n    command: cli sh -c 'sleep 0.2; exit 1'\n"
        "    idempotent: true\n"
        "    total_timeout: 1s\n    retry: {max_attempts: 100, initial: 10ms, max: 10ms}\n",
    )
    assert result["status"] == "failed"
    assert result["steps"][0]["attempt"] < 20


def test_a_step_that_takes_too_long_is_stopped(workspace: Workspace) -> None:
    result = run(
        workspace, "steps:\n  - {id: a, command: cli sleep 1000, timeout: 50ms, idempotent: true}\n"
    )
    assert result["error"]["code"] == "step.timeout"


def test_a_side_effect_that_takes_too_long_becomes_a_question(workspace: Workspace) -> None:
    result = run(workspace, "steps:\n  - {id: a, command: cli sleep 1000, timeout: 50ms}\n")
    assert result["status"] == "waiting"
    assert result["gates"][0]["kind"] == "unknown_outcome"
    assert steps(result) == {"a": "unknown"}


def test_on_error_continue_lets_the_run_go_on(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli false, on_error: continue}\n"
        "  - {id: b, tool: flow:set, with: {saw: $a.status}}\n",
    )
    assert (result["status"], result["output"]) == ("succeeded", {"saw": "failed"})


def test_on_error_skip_rest_ends_well(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli false, on_error: skip_rest}\n"
        "  - {id: b, tool: flow:noop}\n",
    )
    assert (result["status"], steps(result)) == ("succeeded", {"a": "failed", "b": "skipped"})


def test_a_postcondition_that_does_not_hold_fails_the_step(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli echo no, postcondition: result.text == 'yes'}\n",
    )
    assert result["error"]["code"] == "step.postcondition"


def test_output_past_its_cap_is_cut_flagged_and_not_consumed(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli printf 0123456789, max_output_bytes: 4}\n"
        "  - {id: b, tool: flow:set, with: {got: $a.stdout}}\n",
    )
    assert result["error"]["code"] == "output.truncated"
    assert result["error"]["step_path"] == "b"


def test_the_callers_cap_holds_too(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - {id: a, command: \"cli printf '[1, 2, 3]'\", output: json}\n",
        max_output_bytes=4,
    )
    assert result["error"]["code"] == "output.truncated"


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("json", "output.not_json"),
        ("{type: json, schema: {type: object}}", "output.schema"),
    ],
)
def test_output_that_is_not_as_declared_fails_the_step(
    workspace: Workspace, output: str, code: str
) -> None:
    text = "no" if output == "json" else "[]"
    result = run(
        workspace, f"steps:\n  - {{id: a, command: \"cli printf '{text}'\", output: {output}}}\n"
    )
    assert result["error"]["code"] == code


def test_for_each_runs_items_at_once_and_keeps_their_order(workspace: Workspace) -> None:
    result = run(
        workspace,
        "inputs:\n  names: {type: array, default: [a, b, c]}\n"
        "steps:\n  - id: each\n    for_each: inputs.names\n    as: name\n    max_parallel: 2\n"
        "    command: cli printf '%s-%s' ${{ name }} ${{ index }}\n"
        "outputs:\n  all: $each.json\n",
    )
    assert result["outputs"] == {"all": ["a-0", "b-1", "c-2"]}
    assert steps(result) == dict.fromkeys(("each", "each[0]", "each[1]", "each[2]"), "succeeded")


def test_for_each_with_on_error_continue_puts_null(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - id: each\n    for_each: '[0, 1, 0]'\n    on_error: continue\n"
        "    command: cli sh -c 'exit $0' ${{ item }}\n    output: none\n"
        "  - {id: said, tool: flow:set, with: {states: $each.items}}\n",
    )
    assert [item["status"] for item in result["output"]["states"]] == [
        "succeeded", "failed", "succeeded",
    ]  # fmt: skip


def test_finally_runs_after_a_failure_and_sees_it(workspace: Workspace) -> None:
    log = workspace.root / "log"
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli false}\n"
        "finally:\n  - id: tidy\n"
        f"    command: cli sh -c 'echo $0 >> {log}' ${{{{ run.status }}}}\n",
    )
    assert result["status"] == "failed"
    assert lines(workspace) == ["failed"]


def test_finally_runs_after_a_cancel(workspace: Workspace) -> None:
    log = workspace.root / "log"
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: a, command: cli sleep 1000}\n"
        f"finally:\n  - {{id: tidy, command: cli sh -c 'echo tidy >> {log}'}}\n",
    )
    agent = workspace.trusted()
    call = agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    agent.wait_for_state("a", "started")
    agent.write(b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":%d}}\n' % call)
    assert agent.answer(call)["result"]["status"] == "canceled"
    assert lines(workspace) == ["tidy"]


def test_a_call_that_is_cancelled_before_there_is_a_run_says_so(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = workspace.agent()
    agent.write(
        b'{"jsonrpc":"2.0","id":7,"method":"fp_run_workflow","params":{"workflow":"w"}}\n'
        b'{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":7}}\n'
    )
    assert agent.answer(7)["error"]["code"] == -32800
    assert agent.call("fp_list_runs")["runs"] == []


def test_defaults_hold_for_steps_that_say_nothing_else(workspace: Workspace) -> None:
    (workspace.root / "sub").mkdir()
    result = run(
        workspace,
        "defaults: {timeout: 50ms, cwd: sub}\n"
        "steps:\n  - {id: where, command: cli pwd, timeout: 30s}\n"
        "  - {id: slow, command: cli sleep 1000, idempotent: true}\n"
        "outputs:\n  where: $where.text\n",
    )
    assert result["error"]["code"] == "step.timeout"
    assert steps(result)["where"] == "succeeded"


def test_the_runs_own_timeout_stops_it(workspace: Workspace) -> None:
    result = run(
        workspace,
        "limits: {timeout: 300ms}\n"
        "steps:\n  - {id: a, command: cli sleep 1000, idempotent: true}\n",
    )
    assert (result["status"], result["error"]["code"]) == ("failed", "run.timeout")


def test_the_callers_timeout_stops_it_too(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli sleep 1000, idempotent: true}\n",
        timeout_ms=300,
    )
    assert (result["status"], result["error"]["code"]) == ("failed", "run.timeout")


def test_max_parallel_bounds_what_runs_at_once(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "limits: {max_parallel: 2}\nsteps:\n"
        + "".join(f"  - {{id: s{n}, needs: [], command: cli true}}\n" for n in range(6)),
    )
    agent = workspace.trusted()
    agent.call("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    running = most = 0
    for chunk in agent.chunks:
        if chunk["channel"] == "status" and chunk["data"]["step_path"]:
            running += 1 if chunk["data"]["state"] == "started" else -1
            most = max(most, running)
    assert most == 2


def test_a_sub_workflow_gives_its_outputs_and_its_gates_pause_the_parent(
    workspace: Workspace,
) -> None:
    workspace.write(
        "part.yaml",
        "inputs:\n  n: {type: integer, required: true}\n"
        "outputs:\n  twice: ${{ inputs.n * 2 }}\n"
        "steps:\n  - {id: sure, approval: {prompt: Sure?}}\n",
    )
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: part, workflow: part, with: {n: 21}}\n"
        "outputs:\n  answer: $part.json.twice\n",
    )
    agent = workspace.agent()
    result = agent.call("fp_run_workflow", {"workflow": "w"})
    assert result["gates"][0]["step_path"] == "part/sure"
    ended = agent.call("fp_resume_run", {"token": result["gates"][0]["token"], "approve": True})
    assert ended["outputs"] == {"answer": 42}


def test_an_answer_that_does_not_fit_leaves_the_question_open(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: who, ask: {prompt: Who?, schema: {type: object, required: [name],"
        " properties: {name: {type: string}}}}}\n"
        "  - {id: said, tool: flow:set, with: {name: $who.response.name}}\n",
    )
    agent = workspace.agent()
    (gate,) = agent.call("fp_run_workflow", {"workflow": "w"})["gates"]
    assert (gate["kind"], gate["prompt"]) == ("ask", "Who?")
    bad = agent.error("fp_resume_run", {"token": gate["token"], "response": {"name": 1}})
    assert bad["code"] == "gate.bad_response"
    ended = agent.call("fp_resume_run", {"token": gate["token"], "response": {"name": "Ann"}})
    assert ended["output"] == {"name": "Ann"}


@pytest.mark.parametrize(("how", "status"), [("complete", "succeeded"), ("skip", "skipped")])
def test_a_manual_step_is_completed_or_skipped_by_a_person(
    workspace: Workspace, how: str, status: str
) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: call, manual: Call the bank}\n")
    agent = workspace.agent()
    (gate,) = agent.call("fp_run_workflow", {"workflow": "w"})["gates"]
    ended = agent.call("fp_resume_run", {"token": gate["token"], how: True, "reason": "done"})
    assert steps(ended) == {"call": status}
    again = agent.call("fp_resume_run", {"token": gate["token"], how: True})
    assert again["status"] == "succeeded"


def test_a_claim_of_no_effect_counts_only_under_the_spawners_word(workspace: Workspace) -> None:
    text = "steps:\n  - {id: a, command: cli sleep 1000, side_effects: false, timeout: 50ms}\n"
    asked = run(workspace, text, trusted=False)
    assert asked["gates"][0]["kind"] == "effects"
    assert run(workspace, text)["error"]["code"] == "step.timeout"


def test_env_reaches_the_program_and_guarded_names_do_not(workspace: Workspace) -> None:
    result = run(
        workspace,
        "env: {COLOUR: red}\nsteps:\n"
        "  - {id: a, env: {SHAPE: '${{ 1 + 1 }}'}, command: cli sh -c 'echo $COLOUR $SHAPE'}\n",
    )
    assert result["output"] == "red 2"
    workspace.write("w.yaml", "steps:\n  - {id: a, env: {LD_PRELOAD: x}, command: cli true}\n")
    agent = workspace.trusted()
    refused = agent.answer(agent.send("fp_run_workflow", {"workflow": "w"}))
    assert "LD_PRELOAD" in str(refused)


def test_an_argument_made_from_data_cannot_become_an_option(workspace: Workspace) -> None:
    text = (
        "inputs:\n  who: {type: string}\n"
        "steps:\n  - {id: a, command: 'cli echo ${{ inputs.who }}'}\n"
    )
    assert run(workspace, text, inputs={"who": "-n"})["error"]["code"] == "cli.option_injection"
    assert run(workspace, text, inputs={"who": "n"})["output"] == "n"


@pytest.mark.parametrize("field", ["inputs", "metadata"])
def test_what_looks_like_a_secret_is_refused_and_kept_nowhere(
    workspace: Workspace, field: str
) -> None:
    workspace.write("w.yaml", "inputs: {note: {}}\nsteps: [{id: a, tool: flow:noop}]\n")
    agent = workspace.agent()
    token = "ghp_" + "a1B2c3D4e5F6g7H8i9" * 2
    for value in (f"use {token} please", {"deep": [{"er": token}]}, {token: 1}):
        given = {"workflow": "w", field: {"note": value}}
        error = agent.error("fp_run_workflow", given)
        assert error["code"] == "inputs.secret_value"
        assert token not in json.dumps(error)
    assert agent.call("fp_run_workflow", {"workflow": "w", field: {"note": "ghp"}})["ok"] is True
    assert agent.close() == 0
    kept = [path.read_bytes() for path in workspace.home.rglob("*") if path.is_file()]
    assert not any(token.encode() in data for data in [*kept, agent.log.encode()])


def test_the_same_idempotency_key_gives_the_same_run(workspace: Workspace) -> None:
    log = workspace.root / "log"
    workspace.write(
        "w.yaml",
        f"inputs:\n  n: {{type: integer, default: 1}}\n"
        f"steps:\n  - {{id: a, command: cli sh -c 'echo x >> {log}'}}\n",
    )
    agent = workspace.trusted()
    params = {"workflow": "w", "idempotency_key": "k"}
    first, second = agent.call("fp_run_workflow", params), agent.call("fp_run_workflow", params)
    assert first["run_id"] == second["run_id"]
    assert lines(workspace) == ["x"]
    other = agent.error("fp_run_workflow", {**params, "inputs": {"n": 2}})
    assert other["code"] == "run.conflict"


def test_artifacts_are_kept_by_their_content_and_referred_to(workspace: Workspace) -> None:
    result = run(
        workspace,
        "steps:\n  - id: a\n    artifacts: [out/*]\n"
        "    command: cli sh -c 'mkdir -p out; echo one > out/1; echo two > out/2'\n",
    )
    assert [item["name"] for item in result["steps"][0]["artifacts"]] == ["out/1", "out/2"]
    for artifact, content in zip(result["steps"][0]["artifacts"], ("one", "two"), strict=True):
        digest = artifact["sha256"]
        kept = workspace.home / "artifacts" / digest[:2] / digest
        assert kept.read_text() == f"{content}\n"
        assert artifact["size"] == 4


def test_long_output_is_kept_apart_and_used_as_if_it_were_not(workspace: Workspace) -> None:
    (workspace.root / "long.json").write_text(json.dumps(list(range(20_000))))
    result = run(
        workspace,
        "steps:\n  - {id: a, command: cli cat long.json, output: json}\n"
        "  - {id: b, tool: 'flow:set', with: {n: '${{ size(steps.a.json) }}'}}\n",
    )
    assert result["output"] == {"n": 20_000}
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db:
        (largest,) = db.execute("SELECT max(length(data)) FROM events").fetchone()
    assert largest < 65_536
    other = workspace.trusted()
    given = {"run_id": result["run_id"], "step_path": "a", "channel": "stdout", "limit": 10}
    assert other.call("fp_get_output", given)["channels"]["stdout"]["text"] == "[0, 1, 2, "


def test_an_artifact_that_was_not_made_or_is_a_link_fails_the_step(workspace: Workspace) -> None:
    missing = run(workspace, "steps:\n  - {id: a, command: cli true, artifacts: [report.html]}\n")
    assert missing["error"]["code"] == "output.artifact"
    linked = run(
        workspace, "steps:\n  - {id: a, command: cli ln -s /etc/passwd l, artifacts: [l]}\n"
    )
    assert linked["error"]["code"] == "output.artifact"


def test_a_denied_tool_is_refused_before_anything_runs(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "tools: {deny: ['cli:rm'], enforce: true}\nsteps:\n  - {id: a, command: cli true}\n"
        "  - {id: b, command: cli rm x}\n",
    )
    refused = workspace.trusted().error("fp_run_workflow", {"workflow": "w"})
    assert refused["code"] == "workflow.invalid"
    assert "cli:rm" in refused["message"]


def test_a_step_that_was_never_reached_is_skipped_for_outputs_and_finally(
    workspace: Workspace,
) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: a, tool: flow:fail, with: {message: no}, on_error: skip_rest}\n"
        "  - {id: b, tool: flow:noop}\n"
        "finally:\n"
        "  - {id: z, tool: flow:set, with: {was: '${{ steps.b.status }}'}}\n"
        "outputs: {b: '${{ steps.b.status }}', z: $z.json.was}\n",
    )
    agent = workspace.agent()
    ended = agent.call("fp_run_workflow", {"workflow": "w"})
    assert ended["outputs"] == {"b": "skipped", "z": "skipped"}
    assert agent.call("fp_replay_run", {"run_id": ended["run_id"]})["ok"]


def test_an_answer_is_one_of_the_choices_that_an_earlier_step_gave(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: pods, tool: flow:set, with: {all: [p1, p2, p3]}}\n"
        "  - id: one\n"
        "    ask:\n"
        "      prompt: Which?\n"
        "      schema:\n"
        "        type: object\n"
        "        required: [pod]\n"
        "        properties: {pod: {type: string}, why: {type: string}}\n"
        "      choices_from: {pod: $pods.json.all}\n"
        "  - id: some\n"
        "    ask: {prompt: Which?, schema: {type: array}, choices_from: $pods.json.all}\n"
        "outputs: {one: $one.response.pod, some: $some.response}\n",
    )
    agent = workspace.agent()
    waits = agent.call("fp_run_workflow", {"workflow": "w"})
    gate = waits["gates"][0]
    assert gate["response_schema"]["properties"]["pod"]["enum"] == ["p1", "p2", "p3"]
    answer = {"token": gate["token"], "response": {"pod": "p9"}}
    assert agent.error("fp_resume_run", answer)["code"] == "gate.bad_response"
    waits = agent.call("fp_resume_run", {**answer, "response": {"pod": "p2", "why": "it hangs"}})
    answer = {"token": waits["gates"][0]["token"], "response": ["p1", "p9"]}
    assert agent.error("fp_resume_run", answer)["code"] == "gate.bad_response"
    ended = agent.call("fp_resume_run", {**answer, "response": ["p3", "p1"]})
    assert ended["outputs"] == {"one": "p2", "some": ["p3", "p1"]}
    assert agent.call("fp_replay_run", {"run_id": ended["run_id"]})["ok"]


def test_an_empty_list_of_choices_fails_the_step(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: pods, tool: flow:set, with: {all: []}}\n"
        "  - {id: one, ask: {prompt: Which?, choices_from: $pods.json.all}}\n",
    )
    ended = workspace.agent().call("fp_run_workflow", {"workflow": "w"})
    assert ended["error"]["code"] == "step.expression"
    assert "an empty list" in ended["error"]["message"]


def test_a_loop_and_an_embedded_workflow_take_as_long_as_what_they_hold(
    workspace: Workspace,
) -> None:
    workspace.write("inner.yaml", "steps: [{id: a, command: cli sh -c 'sleep 0.05'}]\n")
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: loop, for_each: '[1, 2]', max_parallel: 1, command: cli sh -c 'sleep 0.05'}\n"
        "  - {id: sub, workflow: inner}\n",
    )
    agent = workspace.agent("--allow-side-effects")
    ended = agent.call("fp_run_workflow", {"workflow": "w"})
    took = {step["step_path"]: step["duration_ms"] for step in ended["steps"]}
    assert took["loop"] >= 99
    assert took["sub"] >= 49
    assert agent.call("fp_replay_run", {"run_id": ended["run_id"]})["ok"]
