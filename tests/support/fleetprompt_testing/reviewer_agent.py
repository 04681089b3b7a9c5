"""A router agent that is not FleetPrompt: `com.example.<name>`, with a few tools for tests.

Its argument is the name. Its tools: `echo` gives its input, `stream` says three things, `wait`
ends only when it is cancelled, `fail` fails, `exit` ends the process, `ask` calls the tool in its
input (`{tool, with}`) through the host.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.peer import Peer
from fleetprompt_protocol.stdio import StdioTransport, claim_stdio

if TYPE_CHECKING:
    from fleetprompt_protocol.call import CallContext

TOOLS = ("echo", "stream", "wait", "fail", "exit", "ask")


class Reviewer:
    """The agent."""

    def __init__(self, agent_id: str) -> None:
        self.agent_id = agent_id
        self.waiting: dict[str, asyncio.Event] = {}

    async def serve(self, transport: StdioTransport) -> None:
        """Until the host goes away."""
        inline = {"core.tool.cancel": self.cancel}
        peer = Peer(transport, {"core.tool.call": self.call}, inline=inline)
        serving = asyncio.create_task(peer.run())
        offer = {"supported_versions": ["1"]}
        hello = {"agent_id": self.agent_id, "agent_version": "1", "protocol": offer}
        token = os.environ["FLEETPROMPT_SESSION_TOKEN"]
        await peer.request("agent.hello", {**hello, "session_token": token})
        tools = [{"tool_id": f"{self.agent_id}/{name}", "name": name} for name in TOOLS]
        await peer.request("agent.tools.register", {"tools": tools})
        await serving

    async def call(self, context: CallContext, params: dict[str, Any]) -> dict[str, Any]:
        """One call of a tool."""
        call_id, given = params["call_id"], params["input"]
        answer: dict[str, Any] = {"call_id": call_id, "status": "succeeded"}
        match params["tool_id"].rpartition("/")[2]:
            case "echo":
                answer["output"] = {"given": given, "meta": params["meta"]}
            case "stream":
                for number in range(3):
                    chunk = {"channel": "stdout", "data": {"text": f"{number};"}}
                    chunk["call_id"] = call_id
                    context.notify("agent.tool.stream", chunk, numbered=True)
                answer["output"] = "said"
            case "wait":
                self.waiting[call_id] = asyncio.Event()
                chunk = {"channel": "stdout", "call_id": call_id, "data": {"text": "waiting"}}
                context.notify("agent.tool.stream", chunk, numbered=True)
                await self.waiting[call_id].wait()
                answer["status"] = "canceled"
            case "fail":
                answer["status"] = "failed"
                answer["error"] = {"code": "tool.failed", "message": "It did not work."}
            case "exit":
                os._exit(9)
            case "ask":
                down = {
                    "call_id": f"{call_id}.ask",
                    "parent_call_id": call_id,
                    "tool_id": given["tool"],
                    "input": given.get("with", {}),
                }
                answer["output"] = await context.peer.request("agent.tool.call", down)
        return answer

    def cancel(self, params: dict[str, Any]) -> dict[str, Any]:
        """The host gives a call up."""
        waiting = self.waiting.get(params["call_id"])
        if waiting is not None:
            waiting.set()
        return {"call_id": params["call_id"], "accepted": waiting is not None}


def main() -> None:
    """Serve on standard input and output."""
    transport = StdioTransport(*claim_stdio())
    asyncio.run(Reviewer(f"com.example.{sys.argv[1]}").serve(transport))


if __name__ == "__main__":
    main()
