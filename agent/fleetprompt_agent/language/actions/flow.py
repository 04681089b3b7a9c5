"""`flow`: the built-in steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fleetprompt_agent.language.actions.action import Action
from fleetprompt_indexer.vocabulary import closest

if TYPE_CHECKING:
    from fleetprompt_agent.language.actions.action import Given

FLOW_TOOLS = ("noop", "set", "assert", "fail")
"""What can be performed."""

_TAKES: dict[str, tuple[str, ...]] = {
    "noop": (),
    "assert": ("that", "message"),
    "fail": ("message",),
}
"""The arguments of each; `set` takes any."""


def read(given: Given) -> Action | None:
    """`flow set a=1`, or `tool: flow:set` with its `with`."""
    tool = given.target
    if tool is None:
        first = given.words[0] if given.words else None
        if first is None or first.name is not None or first.literal is None:
            hint = f"one of {', '.join(FLOW_TOOLS)}"
            given.fault("command.empty", "`flow` needs the name of a built-in step", hint=hint)
            return None
        tool = first.literal
    if not _is_known(tool, given):
        return None
    for word in given.words[1:]:
        if word.name is None:
            message = f"`flow {tool}` takes `name=value`"
            given.fault("command.arguments", message, word=word)
    _check_arguments(tool, given)
    return Action("flow", f"flow:{tool}", given.arguments or None, side_effects=False)


def _is_known(tool: str, given: Given) -> bool:
    if tool in FLOW_TOOLS:
        return True
    word = given.words[0] if given.words else None
    if tool == "wait":
        hint = "until then, a program can wait: `cli sleep 5`"
        message = "`flow wait` is not supported yet"
        given.fault("tool.not_supported", message, hint=hint, word=word)
        return False
    close = closest(tool, FLOW_TOOLS)
    hint = f"did you mean `{close}`?" if close else f"there are {', '.join(FLOW_TOOLS)}"
    given.fault("tool.not_found", f"`flow` has no `{tool}`", hint=hint, word=word)
    return False


def _check_arguments(tool: str, given: Given) -> None:
    allowed = _TAKES.get(tool)
    if allowed is None:
        return
    for name in given.arguments:
        if name not in allowed:
            takes = " and ".join(f"`{known}`" for known in allowed) or "nothing"
            message = f"`flow {tool}` takes {takes}, not `{name}`"
            given.fault("command.arguments", message, name=name)
    if tool == "assert" and "that" not in given.arguments:
        message = "`flow assert` needs `that`: an expression, or a list of them"
        given.fault("command.arguments", message)
