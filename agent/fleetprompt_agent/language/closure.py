"""The closure of a plan: everything whose change would change what runs, as one digest.

A grant binds to it (security.md, Digests). The plan's own digest covers what the files of the
workflow say; the closure adds what they name: programs, files under `uses:`, and the entries of
servers and processes in the configuration.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from fleetprompt_agent.language.plan import canonical_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetprompt_agent.language.plan import Json, Plan, PlanStep

ABSENT = "absent"
"""The value of a part that is named and not there."""


class Surroundings(Protocol):
    """What a plan finds around it; each answer is of one look."""

    def program(self, name: str) -> tuple[str, str | None] | None:
        """The path of a program, and the sha256 (hex) of its content when that may change.

        None when there is no such program.
        """
        ...

    def file(self, path: str) -> str | None:
        """The sha256 (hex) of a file beneath the root; None when it cannot be read."""
        ...

    def entry(self, tool_id: str) -> Json:
        """The configuration and the tool schema behind `mcp:…`, `node:…`; null without any."""
        ...


@dataclass(frozen=True, slots=True, order=True)
class Part:
    """One thing that belongs to the closure."""

    kind: str
    """`plan`, `program`, `content`, `file` or `entry`."""
    name: str
    value: str
    """A digest or a path; `absent` for what is not there."""


@dataclass(frozen=True, slots=True)
class Closure:
    """Everything that belongs to what would run."""

    digest: str
    """The sha256 (hex) of the parts."""
    parts: tuple[Part, ...]
    """In a stable order."""

    def changes_from(self, other: Closure) -> list[str]:
        """What is different from another closure, a line each."""
        before = {(part.kind, part.name): part.value for part in other.parts}
        after = {(part.kind, part.name): part.value for part in self.parts}
        lines: list[str] = []
        for key in sorted(before.keys() | after.keys()):
            what = " ".join(word for word in key if word)
            if key not in before:
                lines.append(f"{what}: new")
            elif key not in after:
                lines.append(f"{what}: gone")
            elif before[key] != after[key]:
                lines.append(f"{what}: changed")
        return lines


def close_plan(plan: Plan, around: Surroundings) -> Closure:
    """The closure of a plan in its surroundings; it does not depend on any order."""
    parts = tuple(sorted({Part("plan", "", plan.digest), *_parts(plan, around)}))
    text = canonical_json([[part.kind, part.name, part.value] for part in parts])
    return Closure(hashlib.sha256(text.encode()).hexdigest(), parts)


def _parts(plan: Plan, around: Surroundings) -> Iterator[Part]:
    for step in (*plan.steps, *plan.finally_steps):
        yield from _of_step(step, around)
    for workflow in plan.workflows.values():
        yield from _parts(workflow, around)


def _of_step(step: PlanStep, around: Surroundings) -> Iterator[Part]:
    for path in step.uses:
        yield Part("file", path, around.file(path) or ABSENT)
    if step.kind != "action" or step.namespace in ("flow", "http"):
        return
    if step.namespace != "cli":
        entry = around.entry(step.tool_id)
        digest = hashlib.sha256(canonical_json(entry).encode()).hexdigest()
        yield Part("entry", step.tool_id, ABSENT if entry is None else digest)
        return
    name = step.tool_id.partition(":")[2]
    found = around.program(name)
    yield Part("program", name, ABSENT if found is None else found[0])
    if found is not None and found[1] is not None:
        yield Part("content", found[0], found[1])
