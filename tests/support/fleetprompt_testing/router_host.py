"""A raw router host: what it says to an agent, and how it waits for what the agent asks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess, Workspace

AGENT = "com.fleetprompt.core"
TOKEN = "s3cret-token-value"
WELCOME = {
    "accepted_version": "1",
    "session_id": "session-1",
    "heartbeat_interval_ms": 100,
    "max_frame_bytes": 4 * 1024 * 1024,
    "server": {"core_version": "test", "instance_id": "host-1"},
}


def send(agent: AgentProcess, **message: Any) -> None:
    """Any message."""
    agent.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def request_of(agent: AgentProcess, method: str) -> dict[str, Any]:
    """The agent's next request of this method."""
    return agent.read_until(lambda message: message.get("method") == method and "id" in message)


def notification(agent: AgentProcess, method: str) -> dict[str, Any]:
    """The params of the agent's next notification of this method."""
    found = agent.read_until(lambda message: message.get("method") == method)
    params: dict[str, Any] = found["params"]
    return params


def answer(agent: AgentProcess, request: dict[str, Any], result: Any) -> None:
    """Answer a request of the agent."""
    send(agent, id=request["id"], result=result)


def refuse(agent: AgentProcess, request: dict[str, Any], number: int, code: str) -> None:
    """Refuse a request of the agent."""
    error = {"code": number, "message": "no", "data": {"code": code, "message": "no"}}
    send(agent, id=request["id"], error=error)


def welcomed(workspace: Workspace, *flags: str, capabilities: tuple[str, ...] = ()) -> AgentProcess:
    """An agent whose hello was welcomed."""
    agent = workspace.agent(*flags, env={"FLEETPROMPT_SESSION_TOKEN": TOKEN})
    hello = request_of(agent, "agent.hello")
    assert hello["params"]["session_token"] == TOKEN
    assert hello["params"]["agent_id"] == AGENT
    answer(agent, hello, {**WELCOME, "capabilities": list(capabilities)})
    return agent


def offered(agent: AgentProcess, what: str) -> list[Any]:
    """The tools that the agent's next request registers, or the ids that it unregisters."""
    request = request_of(agent, f"agent.tools.{what}")
    answer(agent, request, {"registered": [], "rejected": []})
    given: list[Any] = request["params"]["tools" if what == "register" else "tool_ids"]
    return given


def greeted(workspace: Workspace, *flags: str, capabilities: tuple[str, ...] = ()) -> AgentProcess:
    """An agent whose hello was welcomed and whose tools are registered."""
    agent = welcomed(workspace, *flags, capabilities=capabilities)
    offered(agent, "register")
    return agent


def tool_call(tool: str, given: Any = None, **fields: Any) -> dict[str, Any]:
    """The params of `core.tool.call` for a tool of the agent."""
    return {"call_id": "call-1", "tool_id": f"{AGENT}/{tool}", "input": given or {}, **fields}
