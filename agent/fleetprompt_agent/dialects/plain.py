"""Plain JSON-RPC: the method is the tool's name, the params are its input plus `meta`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.tools.registry import TOOLS, Call, call_tool
from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.log import bound
from fleetprompt_protocol.meta import meta_from, meta_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.tools.registry import Tool
    from fleetprompt_protocol.call import CallContext
    from fleetprompt_protocol.dispatch import Handler


def plain_methods(agent: Agent, check_ready: Callable[[], None]) -> dict[str, Handler]:
    """A handler for every tool.

    Args:
        agent: What the tools act on.
        check_ready: Raises while the session does not serve yet.
    """

    def handler_of(tool: Tool) -> Handler:
        async def handler(context: CallContext, /, params: dict[str, Any]) -> dict[str, Any]:
            check_ready()
            return await _call(agent, tool, context, params)

        return handler

    return {tool.name: handler_of(tool) for tool in TOOLS.values()}


async def _call(
    agent: Agent, tool: Tool, context: CallContext, params: dict[str, Any]
) -> dict[str, Any]:
    given = dict(params)
    meta = meta_from(given.pop("meta", None))
    call = Call(
        agent,
        meta.correlation,
        actor_type=meta.actor.type if meta.actor is not None else "agent",
        actor_id=meta.actor.id if meta.actor is not None else None,
    )
    if tool.cancellation:
        call.on_cancel = context.on_cancel
    if meta.stream:
        if not tool.streaming:
            raise RequestError(
                "tool.invalid_input", f"{tool.name} has nothing to stream; leave out meta.stream."
            )
        from fleetprompt_agent.dialects.stream import CallStream

        stream = CallStream(context, str(context.request_id), meta.correlation)
        call.listener = stream
    with bound(meta.correlation):
        result = await call_tool(tool, call, given)
    if meta.stream:
        stream.finish(result)
    result.setdefault("meta", meta_json(meta.correlation))
    return result
