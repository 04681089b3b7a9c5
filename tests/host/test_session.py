"""The handshake and the calls, with an agent that follows a script."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

from fleetprompt.agent_process import AgentProcess
from fleetprompt_protocol.errors import FleetPromptError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt.client import Client
    from fleetprompt.results import StepStatus
    from fleetprompt_protocol.messages import DirectiveRequest

Scripted: TypeAlias = "Callable[..., Client]"
Heard: TypeAlias = "Callable[[], list[dict[str, Any]]]"

RUN = {"run_id": "r1", "status": "succeeded", "ok": True, "steps": []}


def result_of(output: dict[str, Any], status: str = "succeeded") -> dict[str, Any]:
    return {"result": {"status": status, "output": output}}


async def get_run(client: Client) -> Any:
    async with client:
        return await client.get("r1")


def test_the_agent_is_welcomed_with_a_session_of_its_own(scripted: Scripted, heard: Heard) -> None:
    client = scripted(answers={"fp_get_run": result_of(RUN)})
    assert asyncio.run(get_run(client)).run_id == "r1"
    welcome, registered, call, goodbye = heard()
    assert welcome["result"]["accepted_version"] == "1"
    assert welcome["result"]["heartbeat_interval_ms"] > 0
    assert welcome["result"]["max_frame_bytes"] == 4 * 1024 * 1024
    assert set(welcome["result"]["server"]) == {"core_version", "instance_id"}
    assert registered["result"]["registered"] == ["com.fleetprompt.core/fp_get_run"]
    assert call["method"] == "core.tool.call"
    assert goodbye["method"] == "core.goodbye"


def test_a_call_carries_the_three_ids_and_who_asks(
    scripted: Scripted,
    heard: Heard,
) -> None:
    actor = {"type": "human", "id": "ada"}
    client = scripted(answers={"fp_get_run": result_of(RUN)}, options={"actor": actor})
    asyncio.run(get_run(client))
    params = heard()[2]["params"]
    assert params["tool_id"] == "com.fleetprompt.core/fp_get_run"
    assert params["input"] == {"run_id": "r1"}
    assert params["context"]["project_root"] == str(client.root)
    assert params["meta"]["causation_id"] == params["call_id"]
    assert params["meta"]["request_id"] != params["meta"]["correlation_id"]
    assert params["meta"]["actor"] == params["caller"] == actor


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ({"token": "wrong"}, "protocol.unauthorized"),
        ({"token": ""}, "protocol.invalid_params"),
        ({"versions": ["0", "99"]}, "protocol.unsupported_version"),
        ({"versions": "1"}, "protocol.invalid_params"),
        ({"end_at": "start"}, "protocol.closed"),
        ({"end_at": "welcome"}, "protocol.closed"),
    ],
)
def test_a_handshake_that_fails_is_an_error_and_leaves_no_process(
    scripted: Scripted, script: dict[str, Any], code: str
) -> None:
    client = scripted(**script)
    with pytest.raises(FleetPromptError) as caught:
        asyncio.run(get_run(client))
    assert caught.value.code == code
    assert client.agent_exit_code is not None


def test_a_token_opens_one_session_only(scripted: Scripted, heard: Heard) -> None:
    with pytest.raises(ProtocolError) as caught:
        asyncio.run(get_run(scripted(hellos=2)))
    assert caught.value.code == "protocol.unauthorized"
    first, second = heard()[:2]
    assert "result" in first
    assert second["error"]["data"]["code"] == "protocol.unauthorized"


def test_an_agent_that_ends_at_once_is_reported_with_its_exit_code(
    scripted: Scripted,
) -> None:
    with pytest.raises(ProtocolError) as caught:
        asyncio.run(get_run(scripted(end_at="start")))
    assert caught.value.details == {"exit_code": 7}


def test_a_command_that_cannot_be_started_is_an_error(root: Any) -> None:
    from fleetprompt.client import Client

    with pytest.raises(FleetPromptError) as caught:
        asyncio.run(get_run(Client(root, command=["/nonexistent/agent"])))
    assert caught.value.code == "agent.not_started"


def test_chunks_of_the_call_are_given_in_order_before_its_result(
    scripted: Scripted,
) -> None:
    chunks = [
        {"seq": 1, "channel": "status", "data": {"step_path": "a", "state": "started"}},
        {"seq": 2, "channel": "stdout", "data": {"text": "not a status"}},
        {"seq": 2, "channel": "status", "data": {"step_path": "twice", "state": "started"}},
        {"seq": 3, "channel": "status", "data": {"step_path": "a", "state": "completed"}},
        {"seq": 4, "call_id": "other", "channel": "status", "data": {"state": "started"}},
    ]
    client = scripted(answers={"fp_run_workflow": {"chunks": chunks, **result_of(RUN)}})

    async def run() -> list[StepStatus]:
        seen: list[StepStatus] = []
        async with client:
            await client.run("deploy", on_status=seen.append)
        return seen

    seen = asyncio.run(run())
    assert [(status.step_path, status.state) for status in seen] == [
        ("a", "started"),
        ("a", "completed"),
    ]


def test_what_a_listener_raises_reaches_the_caller_and_not_the_session(
    scripted: Scripted,
) -> None:
    chunk = {"seq": 1, "channel": "status", "data": {"step_path": "a", "state": "started"}}
    answers = {
        "fp_run_workflow": {"chunks": [chunk], **result_of(RUN)},
        "fp_get_run": result_of(RUN),
    }

    def raise_it(_: StepStatus) -> None:
        raise KeyError("mine")

    async def run() -> Any:
        async with scripted(answers=answers) as client:
            with pytest.raises(KeyError):
                await client.run("deploy", on_status=raise_it)
            return await client.get("r1")

    assert asyncio.run(run()).run_id == "r1"


def test_a_failed_run_is_a_result(scripted: Scripted) -> None:
    failed = {**RUN, "status": "failed", "ok": False}
    answer = {
        "result": {
            "status": "failed",
            "output": failed,
            "error": {"code": "step.failed", "message": "no"},
        }
    }
    assert asyncio.run(get_run(scripted(answers={"fp_get_run": answer}))).status == "failed"


def test_a_failed_call_without_a_run_is_an_exception(scripted: Scripted) -> None:
    error = {"code": "run.not_found", "message": "There is no run r1."}
    answer = {"result": {"status": "failed", "error": error}}
    with pytest.raises(FleetPromptError) as caught:
        asyncio.run(get_run(scripted(answers={"fp_get_run": answer})))
    assert (caught.value.code, caught.value.message) == ("run.not_found", "There is no run r1.")


@pytest.mark.parametrize(
    "answer",
    [
        {"result": {"status": "odd"}},
        {"result": {"status": "succeeded", "output": {"run_id": 7}}},
        {"result": {"status": "succeeded", "output": [1]}},
        {"error": {"code": -1, "message": "odd"}},
    ],
)
def test_an_answer_that_is_not_as_the_protocol_says_is_an_error(
    scripted: Scripted, answer: dict[str, Any]
) -> None:
    with pytest.raises(ProtocolError) as caught:
        asyncio.run(get_run(scripted(answers={"fp_get_run": answer})))
    assert caught.value.code == "protocol.peer_error"


def test_an_agent_that_ends_during_a_call_is_reported(scripted: Scripted) -> None:
    with pytest.raises(ProtocolError) as caught:
        asyncio.run(get_run(scripted(answers={"fp_get_run": {"exit": 9}})))
    assert caught.value.code == "protocol.closed"
    assert caught.value.details == {"exit_code": 9}


def test_agents_are_offered_no_tools_and_granted_nothing_by_default(
    scripted: Scripted, heard: Heard
) -> None:
    directive = {"action": "run", "reason": "x", "side_effects": [], "plan_digest": "d"}
    asks = [
        {"method": "agent.tools.query", "params": {}},
        {"method": "agent.tool.call", "params": {"call_id": "c", "tool_id": "other/tool"}},
        {"method": "agent.directive.request", "params": directive},
        {"method": "agent.unheard_of", "params": {}},
    ]
    asyncio.run(get_run(scripted(asks=asks, answers={"fp_get_run": result_of(RUN)})))
    query, call, answer, unknown = heard()[1:5]
    assert query["result"] == {"tools": []}
    assert call["error"]["data"]["code"] == "tool.not_found"
    assert answer["result"]["granted"] is False
    assert unknown["error"]["data"]["code"] == "protocol.method_not_found"


def test_a_decider_is_asked_about_directives(scripted: Scripted, heard: Heard) -> None:
    asked: list[DirectiveRequest] = []

    async def decide(request: DirectiveRequest) -> bool:
        asked.append(request)
        return request.plan_digest == "good"

    asks = [
        {
            "method": "agent.directive.request",
            "params": {"action": "a", "reason": "r", "side_effects": [], "plan_digest": digest},
        }
        for digest in ("good", "bad")
    ]
    options = {"decide_directive": decide}
    asyncio.run(get_run(scripted(options, asks=asks, answers={"fp_get_run": result_of(RUN)})))
    granted, denied = heard()[1:3]
    assert granted["result"]["granted"] is True
    assert granted["result"]["directive_id"]
    assert denied["result"]["granted"] is False
    assert len(asked) == 2


def test_nothing_but_a_hello_is_answered_before_the_welcome(
    scripted: Scripted, heard: Heard
) -> None:
    directive = {"action": "run", "reason": "x", "side_effects": [], "plan_digest": "d"}
    early = [
        {"method": "agent.tools.query", "params": {}},
        {"method": "agent.tools.register", "params": {"tools": []}},
        {"method": "agent.directive.request", "params": directive},
    ]
    asyncio.run(get_run(scripted(early=early, answers={"fp_get_run": result_of(RUN)})))
    codes = [message["error"]["data"]["code"] for message in heard()[:3]]
    assert codes == ["protocol.not_ready"] * 3


def test_an_agent_that_does_not_end_is_killed() -> None:
    async def spawn_and_end() -> int:
        process = AgentProcess(["sleep", "1000"], environ=os.environ)
        process.transport.close()
        return await process.end(timeout_s=0.2)

    assert asyncio.run(spawn_and_end()) == -9
