"""The stream below MCP: who speaks, what is no message, cancels, and clients that go or hang."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.dialects.opening import read_opening
from fleetprompt_protocol.memory import memory_pair

if TYPE_CHECKING:
    from fleetprompt_testing.mcp_project import McpProject
    from fleetprompt_testing.workspace import AgentProcess

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "raw", "version": "1"},
}
STATELESS_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}

OPENINGS: list[tuple[Any, str]] = [
    ({"id": 1, "method": "initialize", "params": INITIALIZE}, "mcp"),
    ({"id": "probe", "method": "server/discover", "params": {"_meta": STATELESS_META}}, "mcp"),
    ({"id": 1, "method": "server/discover"}, "mcp"),
    ({"id": 1, "method": "ping"}, "mcp"),
    ({"id": 1, "method": "tools/list"}, "mcp"),
    ({"id": 1, "method": "prompts/get", "params": {}}, "mcp"),
    ({"id": 1, "method": "resources/templates/list"}, "mcp"),
    ({"id": 1, "method": "completion/complete"}, "mcp"),
    ({"id": 1, "method": "logging/setLevel"}, "mcp"),
    ({"id": 1, "method": "subscriptions/listen"}, "mcp"),
    ({"id": 1, "method": "tasks/get"}, "mcp"),
    ({"id": 1, "method": "anything", "params": {"_meta": STATELESS_META}}, "mcp"),
    ({"id": 1, "method": "initialize", "params": {"rootUri": "file:///x"}}, "other"),
    ({"id": 1, "method": "initialize", "params": {"protocolVersion": 3}}, "other"),
    ({"id": 1, "method": "initialize"}, "other"),
    ({"id": 1, "method": "fp_list_workflows"}, "other"),
    ({"id": 1, "method": "core.ping"}, "other"),
    ({"id": 1, "method": "toolbox/list"}, "other"),
    ({"id": 1, "method": "fp_list_workflows", "params": {"_meta": {"x": 1}}}, "other"),
    ([{"id": 1, "method": "ping"}], "other"),
    ("text", "other"),
]
FIRST = [
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
    {"jsonrpc": "2.0", "method": "core.goodbye"},
    {"jsonrpc": "2.0", "id": 3, "result": {}},
]
"""What may come before a request and decides nothing."""


@settings(max_examples=120)
@given(
    opening=st.sampled_from(OPENINGS),
    before=st.lists(st.sampled_from(FIRST), max_size=3),
    is_headed=st.booleans(),
    cuts=st.lists(st.integers(0, 400), max_size=6),
)
def test_the_first_request_decides_in_any_framing_and_chunking(
    opening: tuple[Any, str], before: list[Any], is_headed: bool, cuts: list[int]
) -> None:
    message, dialect = opening
    texts = [json.dumps(item).encode() for item in [*before, message]]
    if is_headed:
        data = b"".join(b"Content-Length: %d\r\n\r\n%s" % (len(text), text) for text in texts)
    else:
        data = b"".join(text + b"\n" for text in texts)
    places = sorted({cut for cut in cuts if 0 < cut < len(data)})

    async def run() -> None:
        ours, theirs = memory_pair()
        reading = asyncio.create_task(read_opening(ours, "auto"))
        for start, end in zip([0, *places], [*places, len(data)], strict=True):
            theirs.write_now(data[start:end])
            await asyncio.sleep(0)
        found = await reading
        assert found.dialect == dialect
        rest = b"" if found.received == data else await ours.read()
        assert found.received + rest == data
        ours.close()

    asyncio.run(run())


def test_a_stream_that_ends_or_is_no_json_is_not_mcp() -> None:
    async def run(data: bytes) -> tuple[str, bytes]:
        ours, theirs = memory_pair()
        theirs.write_now(data)
        theirs.end_writing()
        return await read_opening(ours, "auto")

    for data in (b"", b"\n\n", b"hello\n", b'{"method": "ping"', b"\xff\xfe\n"):
        assert asyncio.run(run(data)) == ("other", data)


@pytest.fixture
def mcp(project: McpProject) -> AgentProcess:
    """An agent to which raw bytes are sent, initialized."""
    agent = project.agent("--allow-side-effects")
    agent.answer(agent.send("initialize", INITIALIZE))
    agent.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    return agent


def test_plain_and_router_hosts_never_load_the_sdk(project: McpProject) -> None:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-X", "importtime", *project.argv[1:]],
        input=b'{"jsonrpc":"2.0","id":1,"method":"fp_list_workflows"}\n',
        env=project.environ,
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["result"]["workflows"] == []
    loaded = {line.rpartition(b"|")[2].strip() for line in done.stderr.splitlines()}
    assert b"fleetprompt_agent.dialects.opening" in loaded
    assert not {name for name in loaded if name.split(b".")[0] in (b"mcp", b"mcp_types")}


def test_the_flag_wins_over_the_first_request(project: McpProject) -> None:
    plain = project.agent("--protocol", "plain")
    assert plain.answer(plain.send("ping"))["error"]["code"] == -32601
    mcp = project.agent("--protocol", "mcp")
    assert mcp.answer(mcp.send("fp_list_workflows", {}))["error"]["code"] in (-32601, -32602)
    assert mcp.answer(mcp.send("ping"))["result"] == {}


def test_headers_are_answered_with_headers(project: McpProject) -> None:
    agent = project.agent()
    text = json.dumps(
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    ).encode()
    agent.write(b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
    assert agent.process.stdout is not None
    head = agent.process.stdout.readline()
    assert head.startswith(b"Content-Length: ")
    assert agent.process.stdout.readline() == b"\r\n"
    body = json.loads(agent.process.stdout.read(int(head.split()[1])))
    assert body["result"]["protocolVersion"] == "2025-11-25"


def test_bad_messages_are_refused_and_the_next_one_is_served(mcp: AgentProcess) -> None:
    refusals: list[tuple[bytes, int, Any]] = [
        (b"{nonsense\n", -32700, None),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","params":{"x":NaN}}\n', -32700, 7),
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]\n', -32600, None),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}\n', -32600, None),
        (b'{"jsonrpc":"2.0","id":{},"method":"ping"}\n', -32600, None),
        (b'{"jsonrpc":"1.0","id":8,"method":"ping"}\n', -32600, 8),
        (b'{"jsonrpc":"2.0","id":9,"method":3}\n', -32600, 9),
        (b'{"jsonrpc":"2.0","id":10,"method":"ping","params":3}\n', -32600, 10),
        (b'{"jsonrpc":"2.0","id":11,"method":"no/such"}\n', -32601, 11),
        (b'{"jsonrpc":"2.0","id":12,"method":"tools/call","params":{}}\n', -32602, 12),
        (b'{"jsonrpc":"2.0","id":13,"method":"tools/call","params":{"name":3}}\n', -32602, 13),
        (b'{"jsonrpc":"2.0","id":14,"method":"tools/call","params":{"arguments":3}}\n', -32602, 14),
        (b'{"jsonrpc":"2.0","id":15,"method":"tools/list","params":{"cursor":"x"}}\n', -32602, 15),
        (b'{"jsonrpc":"2.0","id":16,"method":"prompts/get","params":{"name":"x"}}\n', -32602, 16),
        (b'{"jsonrpc":"2.0","id":17,"method":"resources/read","params":{"uri":"x"}}\n', -32002, 17),
        (b'{"jsonrpc":"2.0","id":18,"method":"ping","params":{"a":"' + b"x" * (5 << 20) + b'"}}\n',
         -32600, 18),
    ]  # fmt: skip
    for data, number, request_id in refusals:
        mcp.write(data)
        answer = mcp.read()
        assert (answer["error"]["code"], answer["id"]) == (number, request_id), data[:80]
        for word in ("Traceback", "pydantic", "ValidationError"):
            assert word not in json.dumps(answer)
    for harmless in (
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}\n',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}\n',
        b'{"jsonrpc":"2.0","method":"notifications/cancelled"}\n',
        b'{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}\n',
        b'{"jsonrpc":"2.0","id":55,"result":{}}\n',
        b'{"jsonrpc":"2.0","method":"no/such"}\n',
    ):
        mcp.write(harmless)
    assert mcp.answer(mcp.send("ping"))["result"] == {}


def test_parameters_of_another_shape_are_named(mcp: AgentProcess) -> None:
    for params, said in (
        ({"name": "fp_list_workflows", "arguments": "{}"}, "arguments: must be an object"),
        ({"arguments": {}}, "name: is required"),
        (None, "name: is required"),
    ):
        error = mcp.answer(mcp.send("tools/call", params))["error"]
        assert said in error["message"]
        assert (error["code"], error["data"]["code"]) == (-32602, "protocol.invalid_params")


BLOCKED = "steps:\n  - {{id: block, command: cli cat {gate}}}\n  - {{id: after, tool: flow:noop}}\n"


def blocked_call(project: McpProject, agent: AgentProcess, **params: Any) -> int:
    """Start a run that reads from a pipe nobody writes to; returns once it does."""
    gate = project.root / "gate"
    if not gate.exists():
        os.mkfifo(gate)
    project.write("blocked.yaml", BLOCKED.format(gate=gate))
    request_id = agent.send(
        "tools/call",
        {
            "name": "fp_run_workflow",
            "arguments": {"workflow": "blocked", "wait_ms": 600_000},
            "_meta": {"progressToken": f"p{agent.next_id}"},
            **params,
        },
    )
    agent.read_until(lambda m: m.get("method") == "notifications/progress")
    return request_id


def latest(agent: AgentProcess) -> dict[str, Any]:
    """The latest run."""
    answer = agent.answer(agent.send("tools/call", {"name": "fp_get_run", "arguments": {}}))
    run: dict[str, Any] = answer["result"]["structuredContent"]
    return run


def test_cancelling_a_call_that_runs_cancels_the_run(
    project: McpProject, mcp: AgentProcess
) -> None:
    request_id = blocked_call(project, mcp)
    cancel = {"method": "notifications/cancelled", "params": {"requestId": request_id}}
    mcp.write(json.dumps({"jsonrpc": "2.0", **cancel}).encode() + b"\n")
    while (run := latest(mcp))["status"] == "running":
        pass
    assert run["status"] == "canceled"
    assert [step["status"] for step in run["steps"]] == ["canceled", "canceled"]
    # The cancelled request is never answered; its id is free again.
    mcp.write(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}\n' % request_id)
    assert mcp.answer(request_id)["result"] == {}


@pytest.mark.parametrize(
    ("step", "capability", "method"),
    [
        ("command: cli true, approval: required", "elicitation", "elicitation/create"),
        ("command: llm prompt=Spam?", "sampling", "sampling/createMessage"),
    ],
)
def test_cancelling_a_call_that_waits_for_an_answer_detaches_it(
    project: McpProject, step: str, capability: str, method: str
) -> None:
    project.write("ask.yaml", f"steps:\n  - {{id: a, {step}}}\n")
    agent = project.agent()
    agent.answer(agent.send("initialize", {**INITIALIZE, "capabilities": {capability: {}}}))
    call = agent.send("tools/call", {"name": "fp_run_workflow", "arguments": {"workflow": "ask"}})
    question = agent.read_until(lambda m: m.get("method") == method)
    agent.write(
        b'{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%d}}\n' % call
    )
    told = agent.read_until(lambda m: m.get("method") == "notifications/cancelled")
    assert told["params"]["requestId"] == question["id"]
    assert latest(agent)["status"] == "waiting"


def test_cancelling_a_call_whose_model_is_asked_while_steps_run_cancels_the_run(
    project: McpProject,
) -> None:
    os.mkfifo(project.root / "gate")
    block = BLOCKED.format(gate=project.root / "gate")
    project.write("w.yaml", f"{block}  - {{id: ask, tool: llm, needs: [], with: {{prompt: x}}}}\n")
    agent = project.agent("--allow-side-effects")
    agent.answer(agent.send("initialize", {**INITIALIZE, "capabilities": {"sampling": {}}}))
    agent.write(b'{"jsonrpc":"2.0","method":"notifications/initialized"}\n')
    given = {"name": "fp_run_workflow", "arguments": {"workflow": "w"}}
    call = agent.send("tools/call", given)
    agent.read_until(lambda message: message.get("method") == "sampling/createMessage")
    cancel = {"method": "notifications/cancelled", "params": {"requestId": call}}
    agent.write(json.dumps({"jsonrpc": "2.0", **cancel}).encode() + b"\n")
    status = "running"
    while status == "running":
        shown = agent.answer(agent.send("tools/call", {"name": "fp_get_run", "arguments": {}}))
        status = shown["result"]["structuredContent"]["status"]
    assert status == "canceled"


def test_an_id_in_flight_is_refused_a_second_time(project: McpProject, mcp: AgentProcess) -> None:
    request_id = blocked_call(project, mcp)
    for again in (b"%d" % request_id, b'"%d"' % request_id):
        mcp.write(b'{"jsonrpc":"2.0","id":%s,"method":"ping"}\n' % again)
        answer = mcp.read_until(lambda m: "error" in m)
        assert answer["error"]["data"]["code"] == "protocol.duplicate_id"


def test_a_client_that_vanishes_leaves_an_interrupted_run(
    project: McpProject, mcp: AgentProcess
) -> None:
    blocked_call(project, mcp)
    assert mcp.close() == 0
    other = project.agent("--allow-side-effects")
    other.answer(other.send("initialize", INITIALIZE))
    run = latest(other)
    assert run["status"] in ("interrupted", "waiting")  # a `cat` may have taken effect: it is asked
    assert "next" in run


def test_a_client_that_never_reads_holds_nothing_up_for_ever(project: McpProject) -> None:
    import select
    import signal

    agent = project.agent()
    agent.send("initialize", INITIALIZE)
    for _ in range(300):
        agent.send("tools/list")
    assert agent.process.stdout is not None
    assert select.select([agent.process.stdout], [], [], 60)[0]
    agent.process.send_signal(signal.SIGTERM)
    assert agent.process.wait(30) == 128 + signal.SIGTERM


def test_more_requests_than_may_be_in_flight_are_all_answered(mcp: AgentProcess) -> None:
    import threading

    ids = set(range(1000, 1600))

    def send() -> None:
        for request_id in ids:
            mcp.write(b'{"jsonrpc":"2.0","id":%d,"method":"tools/list"}\n' % request_id)

    sender = threading.Thread(target=send)
    sender.start()
    answered = [mcp.read()["id"] for _ in ids]
    sender.join()
    assert sorted(answered) == sorted(ids)
