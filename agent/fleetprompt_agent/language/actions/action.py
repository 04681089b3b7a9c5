"""What a step does, and what its namespace must know to read it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from fleetprompt_agent.language.command import Word
    from fleetprompt_agent.language.diagnostics import Location, Report

Fragment: TypeAlias = tuple[str, int, int]
"""A part of a scalar: its text, and the offsets of the part."""


@dataclass(slots=True)
class Action:
    """What a step does, without its circumstances."""

    namespace: str
    tool_id: str
    arguments: Any
    """A template; see `PlanStep.arguments`."""
    side_effects: bool
    words: list[Word] = field(default_factory=list)
    """Of a `command`; empty for a `tool`."""


@dataclass(slots=True)
class Given:
    """What stands in a step for one namespace to read, whichever way it was written."""

    location: Location
    """The step's."""
    report: Report
    target: str | None = None
    """What follows `tool: namespace:`; None for a command."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """`with`, or the assignments of a command."""
    text: str = ""
    """The command."""
    words: list[Word] = field(default_factory=list)
    """The command's words, without the namespace."""

    @property
    def is_command(self) -> bool:
        """Whether it was written as `command:`."""
        return self.target is None

    @property
    def place(self) -> Location:
        """Where the action stands."""
        return (*self.location, "command" if self.is_command else "tool")

    def argument_place(self, *name: str | int) -> Location:
        """Where an argument stands."""
        return self.place if self.is_command else (*self.location, "with", *name)

    def fault(
        self,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        word: Word | None = None,
        name: str | None = None,
    ) -> None:
        """Report something about the action, one word of it, or one argument."""
        location = self.place
        fragment = (self.text, word.start, word.end) if word is not None else None
        if name is not None:
            location = self.argument_place(name)
            found = next((known for known in self.words if known.name == name), None)
            if found is not None:
                fragment = (self.text, found.start, found.end)
        self.report.add(
            code,
            message,
            location,
            hint=hint,
            fragment=fragment,
            on_key=name is not None and not self.is_command,
        )


ReadNamespace: TypeAlias = Callable[[Given], "Action | None"]
"""Reads the steps of one namespace; None when they have faults, which are then reported."""
