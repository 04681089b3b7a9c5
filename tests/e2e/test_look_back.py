"""Looking back: what steps wrote, whether a journal follows from itself, forgetting runs."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace

EVERYTHING = """\
type: graph
inputs: {who: {type: string, default: me}}
outputs: {said: $say.text, far: $sub.json}
steps:
  - {id: say, command: "cli printf 'hello %s' ${{ inputs.who }}"}
  - {id: shape, tool: flow:set, with: {a: $say.text}}
  - id: flaky
    command: "cli sh -c 'test -e tried || { touch tried; echo no >&2; exit 4; }; echo yes'"
    retry: {max_attempts: 3, initial: 10ms}
    needs: [say]
  - {id: each, for_each: "[1, 2, 3]", command: "cli echo ${{ item }}", approval: {prompt: All?}}
  - {id: act, command: cli cat, stdin: $say.text, approval: {preview: $say.text}, cwd: deep}
  - {id: sub, workflow: inner, with: {n: 4}, needs: [shape]}
  - {id: who, ask: {prompt: Who?, schema: {type: integer}}, needs: [shape]}
  - {id: call, manual: Call the bank, needs: [shape]}
  - {id: skipped, tool: flow:noop, if: steps.shape.json.a == 'x'}
  - {id: after, tool: flow:noop, needs: [skipped]}
  - {id: bad, command: cli false, on_error: continue, needs: [shape]}
  - {id: odd, tool: flow:fail, with: {message: no}, on_error: continue, needs: [shape]}
  - id: checked
    command: cli echo 5
    needs: [shape]
    output: json
    postcondition: result.json == 6
    on_error: continue
finally:
  - {id: end, tool: flow:noop}
"""

INNER = """\
inputs: {n: {type: integer}}
outputs: {v: $a.json.n}
steps:
  - {id: a, tool: flow:set, with: {n: $inputs.n}}
  - {id: g, approval: required}
"""

ANSWERS: dict[str, dict[str, Any]] = {"ask": {"response": 3}, "manual": {"complete": True}}


def settle(agent: AgentProcess, result: dict[str, Any]) -> dict[str, Any]:
    """The run after a yes to everything that it asks."""
    while result["status"] == "waiting":
        gate = result["gates"][0]
        answer = ANSWERS.get(gate["kind"], {"approve": True})
        result = agent.call("fp_resume_run", {"token": gate["token"], **answer})
    return result


@pytest.fixture
def finished(workspace: Workspace) -> AgentProcess:
    """An agent with a run that used most of what a workflow can hold."""
    (workspace.root / "deep").mkdir()
    workspace.write("inner.yaml", INNER)
    workspace.write("w.yaml", EVERYTHING)
    agent = workspace.agent()
    result = settle(agent, agent.call("fp_run_workflow", {"workflow": "w"}))
    assert result["status"] == "succeeded", result
    return agent


def change(workspace: Workspace, sql: str, *values: object) -> None:
    """Tamper with the journal, as nobody should."""
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db, db:
        db.execute(sql, values)


def event_data(workspace: Workspace, type_: str, path: str | None) -> tuple[str, int]:
    """The data of the first such event, and its number."""
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db:
        found = db.execute(
            "SELECT data, seq FROM events WHERE type = ? AND step_path IS ? LIMIT 1", (type_, path)
        ).fetchone()
    data, seq = found
    return data, seq


def replay(agent: AgentProcess) -> dict[str, Any]:
    answer: dict[str, Any] = agent.call("fp_replay_run")
    return answer


# Output


def test_what_each_attempt_wrote_is_kept(finished: AgentProcess) -> None:
    last = finished.call("fp_get_output", {"step_path": "flaky"})
    assert (last["attempt"], last["attempts"]) == (2, [1, 2])
    assert last["channels"]["stdout"]["text"] == "yes\n"
    first = finished.call("fp_get_output", {"step_path": "flaky", "attempt": 1})
    assert first["channels"]["stderr"]["text"] == "no\n"
    item = finished.call("fp_get_output", {"step_path": "each[1]", "channel": "stdout"})
    assert {name: piece["text"] for name, piece in item["channels"].items()} == {"stdout": "2\n"}
    value = finished.call("fp_get_output", {"step_path": "shape"})
    assert json.loads(value["channels"]["json"]["text"]) == {"a": "hello me"}
    assert finished.call("fp_get_output", {"step_path": "a"})["step_path"] == "sub/a"
    assert finished.call("fp_get_output", {"step_path": "skipped"})["channels"] == {}


def test_output_that_is_not_there_is_named(finished: AgentProcess) -> None:
    for given, code in (
        ({"step_path": "nope"}, "run.step_not_found"),
        ({"step_path": "each[7]"}, "run.step_not_found"),
        ({"step_path": "flaky", "attempt": 3}, "tool.invalid_input"),
        ({"step_path": "flaky", "run_id": "nope"}, "run.not_found"),
        ({"step_path": "flaky", "channel": "stdlog"}, "tool.invalid_input"),
    ):
        assert finished.error("fp_get_output", given)["code"] == code, given


def test_long_output_comes_in_pieces_and_a_cut_is_told(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml", "steps: [{id: a, command: cli seq 1 20000, max_output_bytes: 50000}]\n"
    )
    agent = workspace.trusted()
    agent.call("fp_run_workflow", {"workflow": "w"})
    given = {"step_path": "a", "channel": "stdout", "limit": 7_000}
    text = ""
    piece: dict[str, Any] = {"next_offset": 0}
    while (offset := piece.get("next_offset")) is not None:
        piece = agent.call("fp_get_output", {**given, "offset": offset})["channels"]["stdout"]
        text += piece["text"]
    assert text == "".join(f"{n}\n" for n in range(1, 20001))[:50000]
    assert (piece["truncated"], piece["bytes"], len(piece["sha256"])) == (True, 108894, 64)
    shown = workspace.command("logs", "a")
    assert (shown.stdout, "stdout was cut" in shown.stderr) == (text, True)
    whole = json.loads(workspace.command("logs", "a", "--json").stdout)
    assert whole["channels"]["stdout"]["text"] == text


def test_the_command_puts_each_channel_where_it_belongs(
    finished: AgentProcess, workspace: Workspace
) -> None:
    run_id = finished.call("fp_get_run")["run_id"]
    shown = workspace.command("logs", run_id[:30], "flaky", "--attempt", "1")
    assert (shown.returncode, shown.stdout, shown.stderr.splitlines()[0]) == (0, "", "no")
    one = workspace.command("logs", "flaky", "--attempt", "1", "--channel", "stderr")
    assert (one.stdout, one.stderr) == ("no\n", "")
    assert json.loads(workspace.command("logs", "shape").stdout) == {"a": "hello me"}
    nothing = workspace.command("logs", "skipped")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "skipped" in nothing.stderr
    assert workspace.command("logs", "nope").returncode == 4
    assert workspace.command("logs", "a", "b", "c").returncode == 2


# Replay


def test_a_run_with_everything_in_it_follows_from_itself(
    finished: AgentProcess, workspace: Workspace
) -> None:
    answer = replay(finished)
    assert (answer["ok"], answer["status"]) == (True, "succeeded")
    assert answer["decided"] + answer["outside"] == answer["events"]
    assert answer["decided"] > 20
    again = replay(workspace.agent())
    assert again["state_sha256"] == answer["state_sha256"]
    assert workspace.command("replay").returncode == 0


def test_runs_that_wait_fail_are_denied_and_canceled_follow_too(workspace: Workspace) -> None:
    workspace.write("gate.yaml", "steps: [{id: a, command: cli true, approval: required}]\n")
    workspace.write(
        "fail.yaml",
        "steps:\n"
        "  - {id: a, command: cli sh -c 'exit 3', timeout: 30s}\n"
        "  - {id: b, tool: flow:noop}\n"
        "finally:\n"
        "  - {id: c, command: cli true}\n",
    )
    workspace.write("slow.yaml", "steps: [{id: nap, command: cli sleep 600, timeout: 50ms}]\n")
    workspace.write(
        "late.yaml", "limits: {timeout: 1s}\nsteps: [{id: nap, command: cli sleep 600}]\n"
    )
    workspace.write(
        "bad.yaml",
        "steps:\n  - {id: a, tool: flow:set, with: {n: 1}}\n"
        "  - {id: b, tool: flow:set, with: {n: '${{ steps.a.json.n.x }}'}}\n"
        "  - {id: c, tool: flow:noop, if: size(steps.a.json.n) > 0}\n",
    )
    agent = workspace.trusted()
    waiting = agent.call("fp_run_workflow", {"workflow": "gate"})
    assert replay(agent)["status"] == "waiting"
    token = waiting["gates"][0]["token"]
    agent.call("fp_resume_run", {"token": token, "approve": False})
    assert (replay(agent)["ok"], replay(agent)["status"]) == (True, "canceled")
    for name in ("fail", "slow", "late", "bad"):
        agent.call("fp_run_workflow", {"workflow": name})
        answer = replay(agent)
        assert answer["ok"], (name, answer)
    run = agent.send("fp_run_workflow", {"workflow": "slow", "meta": {"stream": True}})
    agent.answer(run)
    workspace.write("slow.yaml", "steps: [{id: nap, command: cli sleep 600}]\n")
    run = agent.send("fp_run_workflow", {"workflow": "slow", "meta": {"stream": True}})
    started = agent.wait_for_state("nap", "started")
    agent.call("fp_cancel_execution", {"run_id": started["run_id"]})
    agent.call("fp_resume_run", {"run_id": started["run_id"]})  # follows it to its end
    assert (replay(agent)["ok"], replay(agent)["status"]) == (True, "canceled")


def test_a_run_that_was_killed_and_resumed_follows_too(workspace: Workspace) -> None:
    workspace.write(
        "w.yaml",
        "steps:\n"
        "  - {id: a, command: cli true}\n"
        "  - {id: nap, command: cli sh -c 'test -e go || sleep 600', idempotent: true}\n"
        "  - {id: pay, command: cli sh -c 'test -e paid || sleep 600'}\n",
    )
    agent = workspace.trusted()
    agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    agent.wait_for_state("nap", "started")
    agent.kill()
    (workspace.root / "go").touch()
    agent = workspace.trusted()
    agent.send("fp_resume_run", {"run_id": "", "meta": {"stream": True}})
    agent.wait_for_state("pay", "started")
    agent.kill()
    (workspace.root / "paid").touch()
    agent = workspace.trusted()
    asked = agent.call("fp_resume_run", {"run_id": ""})
    assert asked["gates"][0]["kind"] == "unknown_outcome"
    ended = agent.call("fp_resume_run", {"token": asked["gates"][0]["token"], "retry": True})
    assert ended["status"] == "succeeded"
    answer = replay(agent)
    assert answer["ok"], answer


TAMPERED = {
    "an argument": ("step.started", "say", '"hello %s"', '"good bye %s"'),
    "a digest": ("step.started", "say", '"action_digest":"', '"action_digest":"0'),
    "a key": ("step.started", "say", "/say", "/says"),
    "a computed value": ("step.succeeded", "shape", "hello me", "hello you"),
    "an input of what follows": ("step.succeeded", "say", '"text":"hello me"', '"text":"hi"'),
    "why a step was skipped": ("step.skipped", "skipped", "condition", "denied"),
    "a pause": ("step.retry_scheduled", "flaky", '"due_ms":', '"due_ms":9'),
    "a judgement": ("step.failed", "flaky", '"retryable":true', '"retryable":false'),
    "a prompt": ("gate.opened", "each", "All?", "None?"),
    "what was shown": ("gate.opened", "act", '"argv":["cat"]', '"argv":["ls"]'),
    "a preview": ("gate.opened", "act", '"preview":"hello me"', '"preview":"nothing"'),
    "an output": ("run.succeeded", None, "hello me", "hello you"),
}


def test_a_journal_that_was_changed_does_not_follow(
    finished: AgentProcess, workspace: Workspace
) -> None:
    """Each change is undone before the next; the first event that it makes wrong is named."""
    assert replay(finished)["ok"] is True
    for what, (type_, path, old, new) in TAMPERED.items():
        data, seq = event_data(workspace, type_, path)
        assert old in data, (what, data)
        update = "UPDATE events SET data = ? WHERE seq = ?"
        change(workspace, update, data.replace(old, new), seq)
        answer = replay(finished)
        assert answer["ok"] is False, what
        assert answer["difference"]["seq"] >= seq, (what, answer)
        change(workspace, update, data, seq)
    assert replay(finished)["ok"] is True


def test_the_command_shows_the_first_difference(
    finished: AgentProcess, workspace: Workspace
) -> None:
    assert replay(finished)["ok"] is True
    change(
        workspace,
        "UPDATE events SET data = replace(data, 'hello me', 'hello you')"
        " WHERE type = 'step.succeeded' AND step_path = 'shape'",
    )
    shown = workspace.command("replay", env={"COLUMNS": "60"})
    assert shown.returncode == 1
    assert "of step shape" in shown.stdout
    assert "the step gives something else" in " ".join(shown.stdout.split())


# Pruning


def test_only_runs_that_have_ended_are_forgotten(workspace: Workspace) -> None:
    workspace.write("done.yaml", "steps: [{id: a, tool: flow:noop}]\n")
    workspace.write("gate.yaml", "steps: [{id: a, approval: required}]\n")
    workspace.write("slow.yaml", "steps: [{id: nap, command: cli sleep 600}]\n")
    first = workspace.trusted()
    first.send("fp_run_workflow", {"workflow": "slow", "meta": {"stream": True}})
    first.wait_for_state("nap", "started")
    first.kill()
    agent = workspace.trusted()
    for name in ("done", "gate", "done"):
        agent.call("fp_run_workflow", {"workflow": name})
    agent.send("fp_run_workflow", {"workflow": "slow", "meta": {"stream": True}})
    agent.wait_for_state("nap", "started")
    looked = agent.call("fp_prune_runs", {"older_than_s": 0, "dry_run": True})
    assert (looked["pruned"], looked["kept"]) == (2, 3)
    assert len(agent.call("fp_list_runs")["runs"]) == 5
    pruned = agent.call("fp_prune_runs", {"older_than_s": 0, "max_bytes": 0})
    assert (pruned["pruned"], pruned["kept"]) == (2, 3)
    assert {run["workflow_id"] for run in pruned["runs"]} == {"done"}
    left = {run["status"] for run in agent.call("fp_list_runs")["runs"]}
    assert left == {"waiting", "interrupted", "running"}


def test_two_who_forget_the_same_runs_at_once_are_both_answered(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps: [{id: a, tool: flow:noop}]\n")
    agent = workspace.agent()
    for _ in range(8):
        agent.call("fp_run_workflow", {"workflow": "w"})
    asked = [agent.send("fp_prune_runs", {"older_than_s": 0}) for _ in range(3)]
    answers: dict[int, Any] = {}
    while len(answers) < len(asked):
        message = agent.read()
        answers[message["id"]] = message["result"]
    assert sum(answer["pruned"] for answer in answers.values()) == 8
    assert all(answer["unreadable"] == [] for answer in answers.values())


def test_young_runs_stay_unless_there_is_too_much(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps: [{id: a, tool: flow:noop}]\n")
    agent = workspace.agent()
    runs = [agent.call("fp_run_workflow", {"workflow": "w"})["run_id"] for _ in range(4)]
    assert agent.call("fp_prune_runs")["pruned"] == 0
    size = agent.call("fp_prune_runs", {"dry_run": True})["kept_bytes"]
    pruned = agent.call("fp_prune_runs", {"max_bytes": size * 5 // 8})
    assert [run["run_id"] for run in pruned["runs"]] == runs[:2], "the oldest go first"
    assert pruned["kept_bytes"] <= size * 5 // 8


def test_a_forgotten_runs_key_still_refuses_to_do_it_twice(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps: [{id: a, command: cli sh -c 'echo x >> done'}]\n")
    agent = workspace.trusted()
    again = {"workflow": "w", "idempotency_key": "k", "meta": {"correlation_id": "line"}}
    run_id = agent.call("fp_run_workflow", again)["run_id"]
    assert agent.call("fp_run_workflow", again)["run_id"] == run_id
    assert agent.call("fp_prune_runs", {"older_than_s": 0})["pruned"] == 1
    refused = agent.error("fp_run_workflow", again)
    assert (refused["code"], refused["details"]) == ("run.pruned", {"run_id": run_id})
    assert (workspace.root / "done").read_text() == "x\n"
    agent.call("fp_run_workflow", {**again, "idempotency_key": "other"})
    assert (workspace.root / "done").read_text() == "x\nx\n"
    change(workspace, "UPDATE run_keys SET created_ms = 1")
    agent.call("fp_prune_runs")
    assert agent.call("fp_run_workflow", again)["status"] == "succeeded"


def test_a_damaged_run_is_left_alone_and_named(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps: [{id: a, tool: flow:noop}]\n")
    agent = workspace.agent()
    broken, whole = (agent.call("fp_run_workflow", {"workflow": "w"})["run_id"] for _ in range(2))
    change(workspace, "UPDATE events SET data = '{' WHERE run_id = ?", broken)
    pruned = agent.call("fp_prune_runs", {"older_than_s": 0})
    assert [run["run_id"] for run in pruned["runs"]] == [whole]
    assert pruned["unreadable"] == [broken]


def test_the_command_prunes_by_age_and_size(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps: [{id: a, tool: flow:noop}]\n")
    workspace.agent().call("fp_run_workflow", {"workflow": "w"})
    assert "0 runs forgotten" in workspace.command("runs", "prune", "--older-than", "30d").stderr
    dry = workspace.command("runs", "prune", "--max-bytes", "0", "--dry-run")
    assert "1 run would be forgotten" in dry.stderr
    assert "1 run forgotten" in workspace.command("runs", "prune", "--max-bytes", "1KB").stderr
    for wrong in (["--older-than", "soon"], ["--max-bytes", "1XB"]):
        assert workspace.command("runs", "prune", *wrong).returncode == 2
    assert workspace.command("runs", "--dry-run").returncode == 2
