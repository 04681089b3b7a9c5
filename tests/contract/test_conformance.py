"""The contract suite, run against our agent, our host, and programs that do not conform."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fleetprompt.conformance import Role, SampleCall, run_conformance
from fleetprompt.conformance.hostile import HOSTILE
from fleetprompt.conformance.transcript import fits, transcripts

HOST = [sys.executable, "-P", str(Path(__file__).with_name("host_on_stdio.py"))]


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of an agent whose project has a workflow `greet`."""
    workflows = tmp_path / "project/.fleetprompt/workflows"
    workflows.mkdir(parents=True)
    (workflows / "greet.yaml").write_text(
        "steps:\n  - {id: say, command: cli echo hello}\n  - {id: end, tool: flow:noop}\n"
    )
    monkeypatch.setenv("FLEETPROMPT_HOME", str(tmp_path / "home"))
    root = str(tmp_path / "project")
    command = [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", root]
    return [*command, "--allow-side-effects"]


def test_our_agent_conforms(agent: list[str]) -> None:
    call = SampleCall("com.fleetprompt.core/fp_run_workflow", {"workflow": "greet"})
    report = run_conformance(agent, call=call)
    assert report.failed == ()
    assert {finding.check for finding in report.findings} >= {
        "transcript/goodbye", "hostile", "call/stream", "call/cancel", "end/sigterm",
    }  # fmt: skip


def test_our_host_conforms() -> None:
    report = run_conformance(HOST, role="host")
    assert report.failed == ()
    assert len(report.findings) > 15


BAD = """
import json, os, sys
def send(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
send({"id": 1, "method": "agent.hello", "params": {"agent_id": "bad", "agent_version": "1",
      "session_token": os.environ.get("FLEETPROMPT_SESSION_TOKEN"),
      "protocol": {"supported_versions": ["1"]}}})
sys.stdin.readline()
send({"id": 2, "method": "agent.tools.register", "params": {"tools": []}})
sys.stdin.readline()
for line in sys.stdin:
    %s
"""


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("print('hello')", "no JSON"),
        ("sys.exit(1)", "it ended"),
        ("send({'id': 0, 'result': 1, 'error': {}})", "either a result or"),
        ("send({'id': 0, 'error': {'code': 'x', 'message': 'y'}})", "`code`"),
        (
            "send({'id': 0, 'error': {'code': 1, 'message': 'Traceback (most recent call'}})",
            "its inside",
        ),
        (
            "send({'method': 'agent.heartbeat', 'params': {'status': 'fine'}})",
            "not as defined",
        ),
    ],
)
def test_a_program_that_does_otherwise_is_found_out(
    fault: str, problem: str, tmp_path: Path
) -> None:
    script = tmp_path / "bad.py"
    script.write_text(BAD % fault)
    command = [sys.executable, str(script)]
    (finding,) = run_conformance(command, only="transcript/ping").findings
    assert problem in (finding.problem or "")


def test_the_command_prints_a_report_and_says_by_its_exit_code_what_came_out() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fleetprompt", "conformance", "--json", "--role", "host",
         "--only", "transcript/",
         "--", *HOST],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert json.loads(done.stdout)["conforms"] is True


def test_the_command_says_what_it_cannot_do() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-m", "fleetprompt", "conformance", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    assert "agent.not_started" in run("--", "/nonexistent/agent").stderr
    assert "arguments.invalid" in run("--call", "nonsense", "--", "true").stderr
    assert run("--role", "host").returncode == 2


@pytest.mark.parametrize("role", ["agent", "host"])
def test_every_transcript_says_what_it_is_about(role: Role) -> None:
    found = transcripts(role)
    assert len(found) > 10
    for transcript in found:
        assert transcript.about.strip()


def test_the_hostile_lines_have_names_of_their_own_and_are_one_line_each() -> None:
    assert len({hostile.name for hostile in HOSTILE}) == len(HOSTILE) > 50
    assert all(b"\n" not in hostile.line for hostile in HOSTILE)


@pytest.mark.parametrize(
    ("pattern", "value", "does"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": "$any"}, {}, False),
        ({"a": "$text"}, {"a": ""}, False),
        ({"a": "$number"}, {"a": 1.5}, True),
        ([1, "$list"], [1, []], True),
        ([1], [1, 2], False),
        ("$one of:a|b", "b", True),
        ("$one of:a|b", "c", False),
    ],
)
def test_a_pattern_fits_what_it_says(pattern: object, value: object, does: bool) -> None:
    assert fits(pattern, value) is does
