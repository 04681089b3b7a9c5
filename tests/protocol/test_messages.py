"""Messages: lenient to what is new, strict about what is known, and one table of methods."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.messages import (
    METHODS,
    Hello,
    Message,
    RegisterTools,
    StatusData,
    StreamChunk,
    ToolCall,
    ToolResult,
    Welcome,
)

HELLO = {
    "agent_id": "com.fleetprompt.core",
    "agent_version": "1.0",
    "protocol": {"supported_versions": ["1"]},
}


def test_unknown_fields_are_ignored_at_every_level() -> None:
    hello = Hello.parse({**HELLO, "new": 1, "protocol": {"supported_versions": ["1"], "new": 2}})
    assert hello.protocol.capabilities == []
    assert "new" not in hello.to_json()


def test_a_token_is_not_shown() -> None:
    hello = Hello.parse({**HELLO, "session_token": "hunter2hunter2"})
    assert "hunter2" not in repr(hello)
    assert "hunter2" not in str(hello)
    assert hello.session_token == "hunter2hunter2"


@pytest.mark.parametrize(
    ("model", "params", "path"),
    [
        (Hello, {}, "agent_id"),
        (Hello, {**HELLO, "protocol": {"supported_versions": []}}, "protocol.supported_versions"),
        (ToolCall, {"call_id": "a b", "tool_id": "t"}, "call_id"),
        (ToolCall, {"call_id": "a\n", "tool_id": "t"}, "call_id"),
        (ToolCall, {"call_id": "a", "tool_id": "t", "input": []}, "input"),
        (ToolCall, {"call_id": "a", "tool_id": "t", "timeout_ms": "5"}, "timeout_ms"),
        (ToolCall, {"call_id": "a", "tool_id": "t", "timeout_ms": True}, "timeout_ms"),
        (ToolCall, {"call_id": "a", "tool_id": "t", "meta": {"request_id": ""}}, "meta.request_id"),
        (ToolCall, [], ""),
        (ToolResult, {"call_id": "a", "status": "done"}, "status"),
        (StreamChunk, {"call_id": "a", "seq": 0, "channel": "log", "data": {}}, "seq"),
        (StatusData, {"text": "", "run_id": "r", "state": "odd"}, "state"),
        (RegisterTools, {"tools": [{"tool_id": "t"}]}, "tools[0].name"),
    ],
)
def test_a_wrong_field_is_named(model: type[Message], params: Any, path: str) -> None:
    with pytest.raises(RequestError) as caught:
        model.parse(params)
    assert caught.value.code == "protocol.invalid_params"
    assert caught.value.details is not None
    assert path in [problem["path"] for problem in caught.value.details["problems"]]
    assert model.__name__ not in caught.value.message


def test_what_is_sent_can_be_parsed() -> None:
    welcome = Welcome.parse(
        {
            "accepted_version": "1",
            "session_id": "s",
            "server": {"core_version": "1", "instance_id": "i"},
        }
    )
    assert welcome.heartbeat_interval_ms == 15_000
    assert Welcome.parse(welcome.to_json()) == welcome


def test_every_method_has_models_that_make_a_schema() -> None:
    assert len({method.name for method in METHODS}) == len(METHODS)
    for method in METHODS:
        schema = method.params.model_json_schema()
        assert schema["type"] == "object"
        assert (method.result is None) == (method.kind == "notification")
        assert method.name.startswith(("core.", "agent."))


def test_the_peer_and_meta_do_without_pydantic() -> None:
    code = (
        "import sys, fleetprompt_protocol.peer, fleetprompt_protocol.meta\n"
        "import fleetprompt_protocol.stdio, fleetprompt_protocol.log\n"
        "heavy = {'pydantic', 'structlog', 'jsonrpcserver', 'uuid_utils'} & set(sys.modules)\n"
        "sys.exit(' '.join(heavy) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30)
    assert done.stderr == b""
    assert done.returncode == 0
