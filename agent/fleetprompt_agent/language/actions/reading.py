"""From a step to its action: the namespace first, then what the namespace makes of the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleetprompt_agent.language.actions import calls, cli, flow, http, llm
from fleetprompt_agent.language.actions.action import Given
from fleetprompt_agent.language.command import CommandError, first_word, split_command
from fleetprompt_agent.language.expressions import ExpressionError
from fleetprompt_indexer.vocabulary import AGENT_TOOLS, NAMESPACES, closest, namespace_names

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from fleetprompt_agent.language.actions.action import Action, Fragment, ReadNamespace
    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.models import Step

_READERS: Mapping[str, ReadNamespace] = {
    "cli": cli.read,
    "flow": flow.read,
    "http": http.read,
    "mcp": calls.read_mcp,
    "node": calls.read_node,
    "web": calls.read_web,
    "llm": llm.read,
    "agent": calls.read_agent,
}
AGENT_TOOL = r"[a-z0-9][a-z0-9-]*(?:\.[a-z0-9-]+)+/[A-Za-z0-9_.-]+"
"""A pattern: `com.example.reviewer/review`; a path such as `scripts/build` is none."""
_AGENT_TOOL = re.compile(AGENT_TOOL)


def read_action(
    step: Step, location: Location, report: Report, also_supported: Collection[str] = ()
) -> Action | None:
    """The action of a step that has `command` or `tool`; None when it has faults.

    Args:
        step: The step.
        location: Where it stands.
        report: Gets every finding.
        also_supported: Namespaces, as `http:`, to take although nothing performs them yet.
    """
    if step.command is not None:
        return _from_command(step.command, location, report, also_supported)
    if step.tool is not None:
        return _from_tool(step, location, report, also_supported)
    return None


def _from_command(
    text: str, location: Location, report: Report, also_supported: Collection[str]
) -> Action | None:
    where = (*location, "command")
    name, start, end = first_word(text)
    if not name:
        message, hint = "the command is empty", f"it begins with a namespace: {_namespaces()}"
        report.add("command.empty", message, where, hint=hint)
        return None
    namespace = _namespace(name, where, (text, start, end), report, also_supported)
    if namespace is None:
        return None
    try:
        words = split_command(text, end, assignments=namespace != "cli")
    except CommandError as error:
        fragment = (text, error.start, error.end)
        report.add(error.code, error.message, where, hint=error.hint, fragment=fragment)
        return None
    except ExpressionError as error:
        fragment = (text, error.start, error.end)
        report.add(f"expression.{error.kind}", error.message, where, fragment=fragment)
        return None
    given = Given(location, report, text=text, words=words)
    if namespace == "agent":
        given.target = None
    for word in words:
        if word.name is None:
            continue
        if word.name in given.arguments:
            given.fault("command.arguments", f"`{word.name}` is given twice", word=word)
        given.arguments[word.name] = word.value
    action = _READERS[namespace](given)
    if action is not None:
        action.words = words
        if namespace == "agent":
            action.tool_id = name
    return action


def _from_tool(
    step: Step, location: Location, report: Report, also_supported: Collection[str]
) -> Action | None:
    tool = step.tool or ""
    where = (*location, "tool")
    if "${{" in tool:
        message = "the tool is computed; targets are literals, so that they can be permitted"
        report.add("command.target", message, where)
        return None
    name, colon, rest = tool.partition(":")
    fragment = (tool, 0, len(name))
    namespace = _namespace(name, where, fragment, report, also_supported)
    if namespace is None:
        return None
    if namespace == "agent":
        rest = tool
    elif not rest and namespace != "llm":
        sign = "" if colon else ":"
        report.add("command.empty", f"`{tool}{sign}` is followed by a name", where)
        return None
    given = Given(location, report, target=rest, arguments=dict(step.with_ or {}))
    return _READERS[namespace](given)


def _namespace(
    name: str, where: Location, fragment: Fragment, report: Report, also_supported: Collection[str]
) -> str | None:
    namespace = name.lower()
    known = NAMESPACES.get(namespace)
    if known is None and _AGENT_TOOL.fullmatch(name):
        known, namespace = AGENT_TOOLS, "agent"
    if known is not None and (known.supported or f"{namespace}:" in also_supported):
        return namespace
    if known is not None:
        message = f"`{name}` is not supported yet; there are {_namespaces()}"
        instead = "until then, run a program that does it: `cli PROGRAM ARGUMENT …`"
        report.add("tool.not_supported", message, where, hint=instead, fragment=fragment)
        return None
    close = closest(namespace, NAMESPACES)
    hint = f"did you mean `{close}`?" if close else None
    if close is not None and not NAMESPACES[close].supported:
        hint = f"did you mean `{close}`? It is not supported yet"
    if hint is None and where[-1] == "command" and "${{" not in name:
        text = fragment[0].strip()
        hint = f"to run a program, write `cli {text if len(text) <= 40 else name + ' …'}`"
    if hint is None and where[-1] == "tool" and ":" not in fragment[0]:
        hint = f"to run a program, write `cli:{name}`"
    message = f"`{name}` is no namespace; there are {_namespaces()}"
    report.add("command.namespace", message, where, hint=hint, fragment=fragment)
    return None


def _namespaces() -> str:
    return ", ".join(f"`{name}`" for name in namespace_names())
