"""How a gate reads to the person who decides it.

First what the system says will happen, then the author's words, then the preview, which earlier
outputs made and which is marked as such. Nothing of the action is ever cut.
"""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

from fleetprompt.cells import fold
from fleetprompt.form import schema_lines

if TYPE_CHECKING:
    from fleetprompt.results import Gate
    from fleetprompt.style import Style

_PREVIEW_LINES = 40
"""More does not help a decision; the whole preview stands in `show --json`."""

_TITLES = {
    "effects": "This run wants to change things",
    "approval": "Approval wanted",
    "unknown_outcome": "Nobody can tell whether this step took effect",
    "ask": "Data wanted",
    "manual": "A step for a person",
    "judgement": "A model's judgement wanted",
}


_ACTION_HEADS = {"judgement": "Who is asked", "unknown_outcome": "What was under way"}
_ITEM_HEADS = {"effects": "Steps with side effects", "unknown_outcome": "What is known"}
_UNTRUSTED = "made by earlier steps, not to be trusted"
_QUESTION_HEAD = "The question (may hold what earlier steps made, not to be trusted)"
_PREVIEW_HEADS = {"ask": "To choose from"}


def gate_lines(gate: Gate, width: int, style: Style) -> list[str]:
    """The gate as lines of at most `width` cells; expects a gate whose texts are escaped."""
    title = _TITLES.get(gate.kind, f"Decision wanted ({gate.kind})")
    place = f": {gate.step_path}" if gate.step_path else ""
    lines = [style.paint(line, "bold") for line in fold(title + place, width)]
    if gate.action is not None and gate.action != {"tool": gate.kind}:
        head = _ACTION_HEADS.get(gate.kind, "What will happen")
        lines += [f"  {head}:", *_fact_lines(gate.action, "    ", width)]
    if gate.items:
        lines.append(f"  {_ITEM_HEADS.get(gate.kind, 'Items')}:")
        for item in gate.items:
            lines += _item_lines(item, width)
    if gate.prompt and gate.kind == "judgement":
        lines += _preview_lines(gate.prompt, _QUESTION_HEAD, width, style)
    elif gate.prompt:
        lines += ["  The author asks:", *_indented(gate.prompt, "    ", width)]
    if gate.preview is not None:
        head = _PREVIEW_HEADS.get(gate.kind, "Preview")
        lines += _preview_lines(gate.preview, f"{head} ({_UNTRUSTED})", width, style)
    if gate.response_schema is not None:
        wanted = schema_lines(gate.response_schema, width - 4)
        lines += ["  The answer:", *(f"    {line}" for line in wanted)]
    if gate.expires_at:
        from fleetprompt.durations import instant_text

        lines.append(style.paint(f"  Open until {instant_text(gate.expires_at)}", "dim"))
    return lines


def _item_lines(item: Any, width: int) -> list[str]:
    """One entry of a list: its name when it has one, then its other facts beneath."""
    if not isinstance(item, dict):
        return _bulleted(_text(item), width)
    name = next((item[key] for key in _NAMES if isinstance(item.get(key), str)), None)
    if name is None:
        first, *rest = _fact_lines(item, "", width - 6) or ["(nothing)"]
        return [f"    - {first}", *(f"      {line}" for line in rest)]
    facts = {key: value for key, value in item.items() if not (key in _NAMES and value == name)}
    return [*_bulleted(name, width), *_fact_lines(facts, "      ", width)]


_NAMES = ("step_path", "step_id")


def _fact_lines(facts: Any, indent: str, width: int) -> list[str]:
    """The facts, one under the other; what is absent, false or empty is left out."""
    if not isinstance(facts, dict):
        return _indented(_text(facts), indent, width)
    lines: list[str] = []
    for key, value in facts.items():
        name = key.replace("_", " ")
        is_empty = value is None or value is False or value in ("", [], {})
        if is_empty or key in _UNSHOWN:
            continue
        if value is True:
            lines += _indented(name, indent, width)
        elif isinstance(value, dict) and len(indent) < width // 3:
            lines += _indented(f"{name}:", indent, width)
            lines += _fact_lines(value, indent + "  ", width)
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            lines += _indented(f"{name}:", indent, width)
            lines += [line for item in value for line in _item_lines(item, width)]
        else:
            lines += _indented(f"{name}: {_text(value)}", indent, width)
    return lines


_UNSHOWN = frozenset({"tainted"})
"""Which arguments were made from data: checked by the agent, and no help to a reader."""


def _preview_lines(preview: Any, head: str, width: int, style: Style) -> list[str]:
    if isinstance(preview, list) and all(isinstance(item, str) for item in preview):
        text = "\n".join(f"- {item}" for item in preview)
    else:
        is_text = isinstance(preview, str)
        text = preview if is_text else json.dumps(preview, indent=2, ensure_ascii=False)
    lines = fold(text.rstrip("\n"), width - 6)
    cut = len(lines) - _PREVIEW_LINES
    if cut > 0:
        lines = [*lines[:_PREVIEW_LINES], f"({cut} more lines)"]
    told = fold(f"{head}:", width - 2)
    return [f"  {line}" for line in told] + [f"    {style.bar} {line}" for line in lines]


def _bulleted(text: str, width: int) -> list[str]:
    first, *rest = fold(text, width - 6)
    return [f"    - {first}", *(f"      {line}" for line in rest)]


def _indented(text: str, indent: str, width: int) -> list[str]:
    return [indent + line for line in fold(text, width - len(indent))]


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(word, str) for word in value):
        return shlex.join(value)
    return json.dumps(value, ensure_ascii=False)
