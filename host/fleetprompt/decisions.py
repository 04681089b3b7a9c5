"""Asks the person at the terminal about a gate."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetprompt.escaping import shown
from fleetprompt.gate_view import gate_lines
from fleetprompt.results import Gate

if TYPE_CHECKING:
    from fleetprompt.terminal import ControllingTerminal

_YES = frozenset({"y", "yes"})
_NO = frozenset({"", "n", "no"})
_LATER = frozenset({"l", "later"})


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about one gate."""

    answer: dict[str, Any] = field(default_factory=dict)
    """What goes to `fp_resume_run` beside the token."""
    is_denial: bool = False
    reason: str | None = None
    """Kept with the decision."""


async def ask_decision(gate: Gate, terminal: ControllingTerminal) -> Decision | None:
    """Show the gate and read its decision; None when it is left for later."""
    show_gate(gate, terminal)
    if gate.kind in ("approval", "effects"):
        return await _ask_approval(terminal)
    if gate.kind == "unknown_outcome":
        return await _ask_outcome(terminal)
    terminal.write_lines([f"A gate of kind {gate.kind} cannot be answered here; it is left open."])
    return None


def show_gate(gate: Gate, terminal: ControllingTerminal) -> None:
    """Show what a gate is about."""
    safe = Gate.model_validate(shown(gate.to_json()))
    terminal.write_lines(["", *gate_lines(safe, terminal.width, terminal.style), ""])


async def confirm(question: str, terminal: ControllingTerminal) -> bool:
    """Whether the person answers the question with yes."""
    answer = await terminal.ask(f"{question} [y/N] ")
    return answer is not None and answer.lower() in _YES


async def _ask_approval(terminal: ControllingTerminal) -> Decision | None:
    while True:
        answer = await terminal.ask("Approve? [y/N/later] ")
        if answer is None or answer.lower() in _LATER:
            return None
        if answer.lower() in _YES:
            return Decision({"approve": True})
        if answer.lower() in _NO:
            return Decision({"approve": False}, is_denial=True)
        terminal.write_lines(["Please answer y, n or later."])


async def _ask_outcome(terminal: ControllingTerminal) -> Decision | None:
    while True:
        answer = await terminal.ask(
            "Run it again, take it as succeeded, or as failed? [retry/succeed/fail/LATER] "
        )
        match (answer or "later").lower():
            case "l" | "later":
                return None
            case "r" | "retry":
                return Decision({"retry": True})
            case "f" | "fail":
                return Decision({"fail": True})
            case "s" | "succeed":
                value = await _ask_value(terminal)
                if value is not None:
                    return Decision({"succeed_with": value[0]})
            case _:
                terminal.write_lines(["Please answer retry, succeed, fail or later."])


async def _ask_value(terminal: ControllingTerminal) -> tuple[Any] | None:
    """The JSON value that a person types, in a tuple since null is a value; None for none."""
    while True:
        text = await terminal.ask("Its result as JSON (empty for null): ")
        if text is None:
            return None
        try:
            return (json.loads(text or "null"),)
        except ValueError as error:
            terminal.write_lines([f"That is not JSON: {error}."])
