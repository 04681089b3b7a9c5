"""How a workflow reads: what it takes, gives, does, and is permitted to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fleetprompt.cells import fold
from fleetprompt.escaping import shown
from fleetprompt.results import Description
from fleetprompt.table import Cell, Column, table_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt.results import PlannedStep
    from fleetprompt.style import Style


def workflow_lines(described: Description, width: int, style: Style) -> list[str]:
    """The workflow as lines of at most `width` cells."""
    described = Description.model_validate(shown(described.to_json()))
    head = " ".join(part for part in (described.name, described.version) if part)
    lines = [style.paint(line, "bold") for line in fold(head or described.workflow_id, width)]
    if described.description:
        lines += fold(described.description, width)
    lines.append(style.paint(f"{described.workflow_id}, {described.file_path}", "dim"))
    lines += _section(_input_lines(described.inputs or {}, width, style))
    if described.outputs:
        lines += _section(fold(f"Gives: {', '.join(described.outputs)}", width))
    lines += _section(_step_lines(described.steps, width, style))
    return lines + _section(_permission_lines(described, width, style))


def _section(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


def _input_lines(schema: dict[str, Any], width: int, style: Style) -> list[str]:
    properties = schema.get("properties")
    required = schema.get("required") or ()
    columns = (
        Column("INPUT", least=8),
        Column("TYPE", least=6),
        Column("DEFAULT", least=8),
        Column("ABOUT", least=12),
    )
    rows = [
        (
            name,
            _type_text(declared),
            "(required)" if name in required else _default_text(declared),
            str(declared.get("description") or ""),
        )
        for name, declared in (properties or {}).items()
        if isinstance(declared, dict)
    ]
    return table_lines(columns, rows, width, style) if rows else []


def _type_text(declared: dict[str, Any]) -> str:
    choices = declared.get("enum")
    if isinstance(choices, list):
        return "|".join(_value_text(choice) for choice in choices)
    kind = declared.get("type", "any")
    return "|".join(kind) if isinstance(kind, list) else str(kind)


def _default_text(declared: dict[str, Any]) -> str:
    return _value_text(declared["default"]) if "default" in declared else ""


def _value_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _step_lines(steps: Sequence[PlannedStep], width: int, style: Style) -> list[str]:
    columns = (
        Column("STEP", least=8),
        Column("DOES", least=8),
        Column("AFTER", least=6),
        Column("NOTE", least=12),
    )
    rows = [
        (step.step_id, step.tool_id or step.kind, ", ".join(step.needs), _step_note(step))
        for step in steps
    ]
    return table_lines(columns, rows, width, style) if rows else []


def _step_note(step: PlannedStep) -> Cell:
    notes = ["asks first"] if step.approval else []
    if step.side_effects:
        notes.append("side effects")
    if step.condition:
        notes.append(f"if {step.condition}")
    return Cell(", ".join(notes), "yellow" if step.side_effects or step.approval else "")


def _permission_lines(described: Description, width: int, style: Style) -> list[str]:
    columns = (Column("PERMISSION", least=16), Column("HELD"), Column("WHY", least=12))
    rows = [
        (item.permission, "enforced" if item.enforced else "declared only", item.why)
        for item in described.permissions
    ]
    return table_lines(columns, rows, width, style) if rows else []
