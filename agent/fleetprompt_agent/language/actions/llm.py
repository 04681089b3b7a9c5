"""`llm`: a question to the calling agent's model, answered in JSON."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.actions.action import Action
from fleetprompt_agent.language.expressions import ExpressionError
from fleetprompt_agent.language.schemas import schema_fault
from fleetprompt_agent.language.templates import OPENING, parse_text
from fleetprompt_indexer.vocabulary import closest

if TYPE_CHECKING:
    from fleetprompt_agent.language.actions.action import Given

ANY_OBJECT = {"type": "object"}
"""The schema of an answer that declares none: the value that models give most reliably."""
DEFAULT_MODEL = "default"
"""Stands for whichever model the calling agent takes."""

_TAKES = ("prompt", "schema", "model", "system")
_PLANNED = ("tools", "max_tool_calls", "budget")
_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}")


def read(given: Given) -> Action | None:
    """`llm prompt="Is this spam? ${{ inputs.mail }}"`, or `tool: llm` with its `with`.

    The action's arguments are `{prompt, schema, model?, system?}`, of which the prompt alone is a
    template.
    """
    arguments = dict(given.arguments)
    if given.target:
        arguments.setdefault("model", given.target)
    is_sound = _names_are_known(given)
    for check in (_check_prompt, _check_schema, _check_model, _check_system):
        is_sound = check(given, arguments) and is_sound
    if not is_sound:
        return None
    arguments.setdefault("schema", ANY_OBJECT)
    model = arguments.get("model", DEFAULT_MODEL)
    return Action("llm", f"llm:{model}", arguments, side_effects=False)


def _names_are_known(given: Given) -> bool:
    for word in given.words:
        if word.name is None:
            hint = 'write `llm prompt="…"`'
            given.fault("command.arguments", "`llm` takes `name=value`", hint=hint, word=word)
            return False
    is_known = True
    for name in given.arguments:
        if name in _TAKES:
            continue
        is_known = False
        if name in _PLANNED:
            message = f"`{name}` of `llm` is not supported yet"
            given.fault("tool.not_supported", message, name=name)
            continue
        close = closest(name, _TAKES)
        hint = f"did you mean `{close}`?" if close else f"it takes {', '.join(_TAKES)}"
        given.fault("command.arguments", f"`llm` has no `{name}`", hint=hint, name=name)
    return is_known


def _check_prompt(given: Given, arguments: dict[str, Any]) -> bool:
    prompt = arguments.get("prompt")
    if prompt is None:
        hint = "write what is asked: `with: {prompt: …}`"
        given.fault("command.arguments", "`llm` needs a `prompt`", hint=hint)
    elif not isinstance(prompt, str) or not prompt.strip():
        given.fault("command.arguments", "`prompt` is text, and not empty", name="prompt")
    else:
        return True
    return False


def _check_schema(given: Given, arguments: dict[str, Any]) -> bool:
    schema = arguments.get("schema", ANY_OBJECT)
    if _has_expression(schema):
        message = "the schema is taken as it is written; expressions stand in `prompt` only"
        given.fault("value.constant", message, name="schema")
        return False
    fault = schema_fault(schema)
    if fault is not None:
        given.fault("value.schema", f"this is no JSON Schema: {fault}", name="schema")
    return fault is None


def _has_expression(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_expression(part) for pair in value.items() for part in pair)
    if isinstance(value, list):
        return any(_has_expression(item) for item in value)
    return isinstance(value, str) and OPENING in value


def _check_model(given: Given, arguments: dict[str, Any]) -> bool:
    model = arguments.get("model", DEFAULT_MODEL)
    if not isinstance(model, str) or _MODEL.fullmatch(model) is None:
        message = "a model is named by a literal, such as `claude-sonnet`"
        if isinstance(model, str) and "$" in model:
            message = "the model is computed; targets are literals, so that they can be permitted"
        name = "model" if "model" in given.arguments else None
        given.fault("command.target", message, name=name)
    elif given.target and model != given.target:
        message = f"`tool` names the model `{given.target}` already"
        given.fault("command.arguments", message, name="model")
    else:
        return True
    return False


def _check_system(given: Given, arguments: dict[str, Any]) -> bool:
    system = arguments.get("system")
    if "system" not in arguments:
        return True
    if not isinstance(system, str) or not system.strip():
        given.fault("command.arguments", "`system` is text, and not empty", name="system")
        return False
    try:
        is_constant = not parse_text(system).embedded
    except ExpressionError:
        is_constant = False
    if not is_constant:
        message = "`system` is constant text; data stands in `prompt`"
        given.fault("value.constant", message, name="system")
    return is_constant
