"""Tools of others: MCP servers, other agents, configured processes, the browser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.actions.action import Action
from fleetprompt_indexer.vocabulary import closest

if TYPE_CHECKING:
    from fleetprompt_agent.language.actions.action import Given

_NAME = r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_MCP_TOOL = re.compile(rf"({_NAME})[./]([A-Za-z0-9_./-]{{1,128}})")
_NODE_ACTION = re.compile(rf"({_NAME})[./ ]([A-Za-z0-9_.-]{{1,128}})")

WEB_ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "navigate": (("url",), ()),
    "click": (("selector",), ()),
    "fill": (("selector", "value"), ()),
    "snapshot": ((), ("selector",)),
    "screenshot": ((), ("selector", "full_page")),
    "text": ((), ("selector",)),
}
"""For each action of the browser what it needs, in the order of the words, and what it takes."""


def read_mcp(given: Given) -> Action | None:
    """`mcp github.create_issue title=x`, or `tool: mcp:github/create_issue`."""
    named = _target(given, "a server and its tool", "mcp github.create_issue title=x")
    match = _MCP_TOOL.fullmatch(named) if named is not None else None
    if match is None:
        if named is not None:
            message = "a tool of an MCP server is named `server.tool`"
            given.fault("command.target", message)
        return None
    server, tool = match.groups()
    return Action("mcp", f"mcp:{server}/{tool}", given.arguments, side_effects=True)


def read_node(given: Given) -> Action | None:
    """`node camera snap quality:=80`, or `tool: node:camera/snap`."""
    named = given.target
    if named is None:
        plain = [word.literal for word in given.words if word.name is None]
        if len(plain) != 2 or None in plain:
            message, hint = "`node` takes a capability and an action", "node camera snap k=v"
            given.fault("command.arguments", message, hint=f"write `{hint}`")
            return None
        named = f"{plain[0]}/{plain[1]}"
    match = _NODE_ACTION.fullmatch(named)
    if match is None:
        given.fault("command.target", "an action of a process is named `capability/action`")
        return None
    tool_id = f"node:{match[1]}/{match[2]}"
    return Action("node", tool_id, given.arguments, side_effects=True)


def read_agent(given: Given) -> Action | None:
    """`com.example.reviewer/review depth:=2`, or the same as `tool:`."""
    for word in given.words:
        if word.name is None:
            given.fault("command.arguments", "a tool takes `name=value`", word=word)
    return Action("agent", given.target or "", given.arguments, side_effects=True)


def read_web(given: Given) -> Action | None:
    """`web navigate https://…`, or `tool: web:navigate`."""
    arguments: dict[str, Any] = dict(given.arguments)
    action = given.target
    positional: list[Any] = []
    if action is None:
        plain = [word for word in given.words if word.name is None]
        if not plain or plain[0].literal is None:
            hint = f"one of {', '.join(WEB_ACTIONS)}"
            given.fault("command.empty", "`web` needs an action", hint=hint)
            return None
        action = plain[0].literal
        positional = [word.value for word in plain[1:]]
    if action not in WEB_ACTIONS:
        close = closest(action, WEB_ACTIONS)
        hint = f"did you mean `{close}`?" if close else f"one of {', '.join(WEB_ACTIONS)}"
        given.fault("tool.not_found", f"`web` has no `{action}`", hint=hint)
        return None
    needed, optional = WEB_ACTIONS[action]
    arguments |= dict(zip(needed, positional, strict=False))
    missing = [name for name in needed if name not in arguments]
    unknown = [name for name in arguments if name not in (*needed, *optional)]
    if missing or unknown or len(positional) > len(needed):
        takes = ", ".join((*needed, *(f"{name}?" for name in optional)))
        message = f"`web {action}` takes {takes or 'nothing'}"
        given.fault("command.arguments", message, name=unknown[0] if unknown else None)
        return None
    return Action("web", f"web:{action}", arguments, side_effects=True)


def _target(given: Given, what: str, example: str) -> str | None:
    """The one word that is no assignment."""
    if given.target is not None:
        return given.target
    plain = [word for word in given.words if word.name is None]
    if len(plain) == 1 and plain[0].literal is not None:
        return plain[0].literal
    if plain and plain[0].literal is None:
        message = "the tool is computed; targets are literals, so that they can be permitted"
        given.fault("command.target", message, word=plain[0])
    else:
        given.fault("command.arguments", f"it takes {what}", hint=f"write `{example}`")
    return None
