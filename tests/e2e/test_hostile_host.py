"""A host that is hostile or broken: every request is answered or the agent ends; nothing is lost.

`FUZZ_REQUESTS=20000 FUZZ_SEED=7 make fuzz-wire` looks longer, and elsewhere.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.odd import OddInputs, as_line, damaged
from fleetprompt_testing.survivors import survivors

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_testing.workspace import AgentProcess, Workspace

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "400"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))

LEAKS = ("Traceback", "object at 0x", "<class", "Error(", "Exception", "PosixPath", "NoneType")
"""What only Python would say."""

AGENT = "com.fleetprompt.core"
STATELESS_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {"elicitation": {}, "sampling": {}},
}
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "odd", "version": "1"},
}


def write_workflows(workspace: Workspace) -> None:
    workspace.write(
        "ask.yaml",
        "inputs: {who: {type: string, default: x}}\n"
        "steps:\n"
        "  - {id: a, command: 'cli echo ${{ inputs.who }}'}\n"
        "  - {id: g, approval: required}\n",
    )
    workspace.write(
        "slow.yaml",
        f"env: {{MARK: 'mark-of-{workspace.root}'}}\n"
        "steps: [{id: nap, command: cli sleep 1, idempotent: true}]\n",
    )
    workspace.write("judge.yaml", "steps: [{id: q, tool: llm, with: {prompt: hm}}]\n")
    workspace.write("broken.yaml", "steps: [{id: a, commnad: cli true}]\n")


def keep(agent: AgentProcess) -> None:
    """Start a run that nothing which is sent can end, since its id and token are never used."""
    given = {"workflow": "ask", "meta": {"correlation_id": KEPT}}
    assert agent.call("fp_run_workflow", given)["status"] == "waiting"


KEPT = "zz-kept"
NAMES = ("ask", "slow", "judge")
KNOWN = (*NAMES, "broken", ".fleetprompt/workflows/ask.yaml", "a", "g", "q")


class Flood:
    """Requests that are written while answers are read, each of which is looked at.

    Args:
        agent: Who is asked; nobody else may read from it meanwhile.
        chance: Where the damage comes from.
    """

    def __init__(self, agent: AgentProcess, chance: random.Random) -> None:
        self.agent = agent
        self.answers: Counter[str] = Counter()
        self._chance = chance
        self._lines: list[bytes] = []
        self._asked: dict[str, dict[str, Any]] = {}
        self._asking = 0
        self._is_whole = False
        """Whether the last line is one request, as it should be."""

    def ask(self, method: str, params: Any, *, may_join: bool = False) -> None:
        """Add a request; one in eight is damaged on its way.

        Args:
            method: The method.
            params: Its parameters.
            may_join: Whether it may make a batch with the line before.
        """
        self._asking += 1
        request_id = f"request-{self._asking}"
        message = {"jsonrpc": "2.0", "id": request_id, "method": method, "params": params}
        if self._chance.random() < 0.12:
            lost = as_line({**message, "id": "damaged"})
            self._lines.append(damaged(self._chance, lost[:-1]) + b"\n")
        else:
            self._asked[request_id] = message
            line = as_line(message)
            if may_join and self._is_whole and self._chance.random() < 0.1:
                before = self._lines.pop().strip()
                line = b"[%s,%s]\n" % (before, line.strip())
                self._is_whole = False
            else:
                self._is_whole = True
            self._lines.append(line)
            return
        self._is_whole = False

    def answered(self, writer: threading.Thread | None = None) -> None:
        """Send everything; each request that arrived whole is answered exactly once.

        Args:
            writer: Who sends already.
        """
        if writer is None:
            writer = threading.Thread(target=self.write)
            writer.start()
        while any(self.answers[request_id] == 0 for request_id in self._asked):
            said: Any = self.agent.read()
            for message in said if isinstance(said, list) else [said]:
                self._look_at(message)
        writer.join()

    def _look_at(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, ensure_ascii=False)
        request_id = message.get("id")
        asked = self._asked.get(request_id) if isinstance(request_id, str) else None
        assert not any(word in text for word in LEAKS), (asked, text)
        if "method" in message:
            return
        code = message.get("error", {}).get("code")
        assert code not in (0, -32603), (asked, text, self.agent.log[-3000:])
        assert "protocol.internal" not in text, (asked, text)
        if asked is not None:
            self.answers[str(request_id)] += 1
            assert self.answers[str(request_id)] == 1, (asked, text)

    def write(self) -> None:
        """Send everything, whether or not anything is read."""
        for line in self._lines:
            self.agent.write(line)


def resident_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def in_plain(name: str, given: Any, _number: int) -> tuple[str, Any]:
    return name, given


def in_router(name: str, given: Any, number: int) -> tuple[str, Any]:
    return "core.tool.call", {
        "call_id": f"call-{number}",
        "tool_id": f"{AGENT}/{name}",
        "input": given,
    }


@pytest.mark.parametrize("dialect", [in_plain, in_router])
def test_every_field_of_every_tool_may_be_wrong(
    workspace: Workspace, dialect: Callable[[str, Any, int], tuple[str, Any]]
) -> None:
    write_workflows(workspace)
    chance = random.Random(SEED)
    agent = workspace.trusted()
    keep(agent)
    known: list[Any] = list(KNOWN)
    for name in NAMES:
        run = agent.call("fp_run_workflow", {"workflow": name, "wait_ms": 0})
        known += [run["run_id"], *(gate["token"] for gate in run["gates"])]
    odd = OddInputs(chance, known)
    flood = Flood(agent, chance)
    for number in range(REQUESTS):
        name, given = odd.call()
        if isinstance(given, dict) and name in ("fp_run_workflow", "fp_resume_run"):
            given.setdefault("wait_ms", chance.choice([0, 1, 20]))
        method, params = dialect(name, given, number)
        if method != name and chance.random() < 0.2:
            field = chance.choice(["timeout_ms", "context", "caller", "meta", "idempotency_key"])
            params[field] = odd.value()
        flood.ask(method, params, may_join=True)
    flood.answered()
    assert_unharmed(workspace, agent)


@pytest.mark.parametrize("era", ["handshake", "stateless"])
def test_every_field_of_every_tool_may_be_wrong_in_mcp(workspace: Workspace, era: str) -> None:
    write_workflows(workspace)
    chance = random.Random(SEED)
    first = workspace.trusted()
    keep(first)
    assert first.close() == 0
    agent = workspace.agent("--allow-side-effects", "--tools", "all", "--protocol", "mcp")
    shared: dict[str, Any] = {}
    if era == "stateless":
        shared = {"_meta": STATELESS_META}
    else:
        agent.answer(agent.send("initialize", INITIALIZE))
        agent.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    listed = agent.answer(agent.send("tools/list", shared))["result"]["tools"]
    odd = OddInputs(chance, KNOWN, {tool["name"]: tool["inputSchema"] for tool in listed})
    flood = Flood(agent, chance)
    for _ in range(REQUESTS):
        name, given = odd.call()
        if isinstance(given, dict) and name in ("fp_run_workflow", "fp_resume_run"):
            given.setdefault("wait_ms", chance.choice([0, 1, 20]))
        params = {"name": name, "arguments": given, **shared}
        if chance.random() < 0.2:
            params[chance.choice(["requestState", "inputResponses", "task", "name"])] = odd.value()
        method, params = chance.choice(
            [
                *[("tools/call", params)] * 8,
                ("prompts/get", {"name": odd.known(), "arguments": odd.value(), **shared}),
                ("resources/read", {"uri": f"run://{odd.value()}"[:9000], **shared}),
                ("prompts/list", {"cursor": odd.value(), **shared}),
                ("completion/complete", {"ref": odd.value(), "argument": odd.value(), **shared}),
            ]
        )
        flood.ask(method, params)
    flood.answered()
    assert_unharmed(workspace, agent)


def test_any_bytes_are_answered_or_end_the_agent(workspace: Workspace) -> None:
    """Lines, headers, neither and half of them: the agent ends when its input does, in order."""
    chance = random.Random(SEED)
    request = as_line({"jsonrpc": "2.0", "id": 1, "method": "fp_list_workflows"})
    streams = [
        chance.randbytes(5000),
        chance.randbytes(3) * 20_000,
        b"\x00" * 100_000,
        b"\xef\xbb\xbf" + request + chance.randbytes(300),
        b"Content-Length: 12\r\n\r\n" + chance.randbytes(5000),
        b"Content-Length: 99999999999\r\n\r\n{}",
        b"C" * 20_000,
        request * 3 + request[:20],
        b"[" * 50_000 + request,
        b"".join(damaged(chance, request[:-1]) + b"\n" for _ in range(300)),
    ]
    for stream in streams:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fleetprompt", "agent", "--root", str(workspace.root)],
            input=stream,
            capture_output=True,
            env={**os.environ, "FLEETPROMPT_HOME": str(workspace.home)},
            timeout=60,
        )
        assert done.returncode in (0, 1), (stream[:60], done.stderr[-2000:])
        assert b"Traceback" not in done.stderr, (stream[:60], done.stderr[-2000:])
        assert not any(word.encode() in done.stdout for word in LEAKS), stream[:60]


def test_thousands_of_requests_are_answered_though_nothing_is_read_at_first(
    workspace: Workspace,
) -> None:
    write_workflows(workspace)
    agent = workspace.trusted()
    agent.call("fp_list_workflows")
    before = resident_mb(agent.process.pid)
    flood = Flood(agent, random.Random(SEED))
    for number in range(4000):
        method = "fp_validate_workflow" if number % 50 == 0 else "fp_list_runs"
        flood.ask(method, {"workflow": "ask"})
    writer = threading.Thread(target=flood.write)
    writer.start()
    writer.join(3)  # by now every pipe is full, or everything was sent
    assert resident_mb(agent.process.pid) - before < 150
    flood.answered(writer)
    assert agent.close() == 0


def assert_unharmed(workspace: Workspace, agent: AgentProcess) -> None:
    """The agent ends in order; every run can be read, and what happened to it follows."""
    assert agent.close() == 0
    assert "Traceback" not in agent.log
    assert survivors(f"mark-of-{workspace.root}") == []
    after = workspace.agent()
    runs = after.call("fp_list_runs", {"limit": 200})["runs"]
    assert KEPT in [run["run_id"] for run in runs if run["status"] == "waiting"]
    for run in runs:
        assert run["status"] in ("waiting", "succeeded", "failed", "canceled", "interrupted"), run
        assert after.call("fp_replay_run", {"run_id": run["run_id"]})["ok"], run
