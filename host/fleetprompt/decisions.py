"""Asks the person at the terminal about a gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetprompt.cells import fold
from fleetprompt.escaping import escape_line, shown
from fleetprompt.form import field_lines, form_of
from fleetprompt.gate_view import gate_lines
from fleetprompt.input_values import read_value
from fleetprompt.results import Gate
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from fleetprompt.form import Field, Form
    from fleetprompt.terminal import ControllingTerminal
    from fleetprompt_protocol.errors import FleetPromptError

_YES = frozenset({"y", "yes"})
_NO = frozenset({"", "n", "no"})
_LATER = frozenset({"l", "later"})
_SKIP = frozenset({"s", "skip"})

_MAX_NOTE = 2000
"""Characters of a reason that the agent keeps."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person decided about one gate."""

    answer: dict[str, Any] = field(default_factory=dict)
    """What goes to `fp_resume_run` beside the token."""
    is_denial: bool = False
    reason: str | None = None
    """Kept with the decision."""
    can_be_mended: bool = False
    """Whether a value was typed for it here, and can be asked for again when it does not fit."""


async def ask_decision(gate: Gate, terminal: ControllingTerminal) -> Decision | None:
    """Show the gate and read its decision; None when it is left for later."""
    # The fields of a form are shown where each is asked for.
    form = form_of(gate.response_schema) if gate.kind in ("ask", "judgement") else None
    if form is not None:
        # So are the choices that earlier steps gave.
        preview = gate.preview
        given = list(preview.values()) if isinstance(preview, dict) else [preview]
        if all(some in [list(asked.choices) for asked in form.fields] for some in given):
            preview = None
        update = {"response_schema": None, "preview": preview}
        show_gate(gate.model_copy(update=update), terminal)
    else:
        show_gate(gate, terminal)
    return await _ask(gate, terminal)


async def ask_again(
    gate: Gate, terminal: ControllingTerminal, error: FleetPromptError
) -> Decision | None:
    """Say why the answer does not fit and read another; None when the gate is left for later."""
    terminal.write_lines(["", *fold(shown(error.message), terminal.width)])
    return await _ask(gate, terminal)


async def _ask(gate: Gate, terminal: ControllingTerminal) -> Decision | None:
    match gate.kind:
        case "approval" | "effects":
            return await _ask_approval(terminal)
        case "unknown_outcome":
            return await _ask_outcome(terminal)
        case "ask" | "judgement":
            return await _ask_response(gate, terminal)
        case "manual":
            return await _ask_done(terminal)
        case _:
            text = f"A gate of kind {gate.kind} cannot be answered here; it is left open."
    terminal.write_lines(fold(escape_line(text), terminal.width))
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
                value = await _ask_json("Its result as JSON (empty for null): ", terminal)
                if value is not None:
                    return Decision({"succeed_with": value[0]}, can_be_mended=True)
            case _:
                terminal.write_lines(["Please answer retry, succeed, fail or later."])


async def _ask_done(terminal: ControllingTerminal) -> Decision | None:
    while True:
        answer = await terminal.ask("Done? [y/skip/later] ")
        if answer is None or answer.lower() in _LATER:
            return None
        if answer.lower() in _YES:
            return Decision({"complete": True}, reason=await _ask_note(terminal))
        if answer.lower() in _SKIP:
            return Decision({"skip": True}, reason=await _ask_note(terminal))
        terminal.write_lines(["Please answer y, skip or later."])


async def _ask_note(terminal: ControllingTerminal) -> str | None:
    while True:
        note = await terminal.ask("A note to keep with it (empty for none): ")
        if note is None or len(note) <= _MAX_NOTE:
            return note or None
        terminal.write_lines([f"A note has at most {_MAX_NOTE} characters."])


async def _ask_response(gate: Gate, terminal: ControllingTerminal) -> Decision | None:
    terminal.write_lines(["(Ctrl-D leaves it for later.)"])
    form = form_of(gate.response_schema)
    if form is None:
        value = await _ask_json("The answer as JSON, on one line: ", terminal, empty="")
    else:
        value = await _ask_form(form, terminal)
    return None if value is None else Decision({"response": value[0]}, can_be_mended=True)


async def _ask_form(form: Form, terminal: ControllingTerminal) -> tuple[Any] | None:
    """The form's answer, in a tuple since null is one; None when it is left for later."""
    values: dict[str, Any] = {}
    for asked in form.fields:
        value = await _ask_field(asked, terminal)
        if value is None:
            return None
        if value:
            values[asked.name] = value[0]
    return (values if form.is_object else next(iter(values.values())),)


async def _ask_field(asked: Field, terminal: ControllingTerminal) -> tuple[Any] | tuple[()] | None:
    """The value in a tuple; an empty one when it is left out, None when it is for later."""
    terminal.write_lines(field_lines(asked, terminal.width))
    while True:
        text = await terminal.ask("> ")
        if text is None:
            return None
        if not text:
            if asked.default is not None or not asked.is_required:
                return asked.default or ()
            terminal.write_lines(["A value is needed."])
            continue
        try:
            return (asked.value_of(text),)
        except RequestError as error:
            terminal.write_lines(fold(shown(error.message), terminal.width))


async def _ask_json(
    question: str, terminal: ControllingTerminal, *, empty: str = "null"
) -> tuple[Any] | None:
    """The JSON value that a person types, in a tuple since null is a value; None for none."""
    while True:
        text = await terminal.ask(question)
        if text is None:
            return None
        try:
            return (read_value(text or empty, "the answer"),)
        except RequestError as error:
            terminal.write_lines(fold(shown(error.message), terminal.width))
