"""How a plan reads: what a run would do, in order, and what an edit changes for a recorded run."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING, Any

from fleetprompt.cells import fold
from fleetprompt.escaping import shown
from fleetprompt.results import WorkflowPlan
from fleetprompt.table import Column, table_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fleetprompt.results import PlanStep
    from fleetprompt.style import Style

_INDENT = "     "
_MOST_CHARACTERS = 600
"""Of one value; the whole stands in `--json`."""


def plan_lines(plan: WorkflowPlan, width: int, style: Style) -> list[str]:
    """The plan as lines of at most `width` cells."""
    safe = WorkflowPlan.model_validate(shown(plan.to_json()))
    head = " ".join(part for part in (safe.name, safe.version) if part)
    lines = [style.paint(line, "bold") for line in fold(head or safe.workflow_id, width)]
    lines += [style.paint(line, "dim") for line in fold(_origin(safe), width)]
    lines += ["", *_steps(safe, width, style)]
    lines += _section(_output_lines(safe, width, style))
    lines += _section(_permission_lines(safe, width, style))
    lines += _section(_closure_lines(safe, width, style))
    for name, inner in safe.workflows.items():
        lines += ["", *(style.paint(line, "bold") for line in fold(f"Workflow {name}", width))]
        lines += _steps(inner, width, style)
    if safe.against is not None:
        lines += _section(against_lines(safe.against, width, style))
    return lines


def _origin(plan: WorkflowPlan) -> str:
    digest = f", digest {plan.digest[:12]}" if plan.digest else ""
    closure = f", closure {plan.closure.digest[:12]}" if plan.closure is not None else ""
    return f"{plan.workflow_id}, {plan.file_path}{digest}{closure}"


def _section(lines: list[str]) -> list[str]:
    return ["", *lines] if lines else []


# Steps


def _steps(plan: WorkflowPlan, width: int, style: Style) -> list[str]:
    level_of = {name: number for number, names in enumerate(plan.levels, 1) for name in names}
    lines: list[str] = []
    for step in plan.steps:
        lines += _step_lines(step, str(level_of.get(step.step_id, "")), width, style)
    if plan.finally_steps:
        lines.append(style.paint("finally", "dim"))
        for step in plan.finally_steps:
            lines += _step_lines(step, "", width, style)
    return lines


def _step_lines(step: PlanStep, level: str, width: int, style: Style) -> list[str]:
    first, *rest = fold(step.step_id, width - 4)
    marks = [mark for mark, holds in (("side effects", step.side_effects),) if holds]
    mark = style.paint(f"  {', '.join(marks)}", "yellow") if marks else ""
    if len(first) + 4 + len(", ".join(marks)) + 2 > width:
        mark = ""
    lines = [f"{style.paint(f'{level:>2}', 'dim')}  {style.paint(first, 'bold')}{mark}"]
    lines += [f"    {line}" for line in rest]
    for text, colour in _facts(step, style):
        folded = fold(text, width - len(_INDENT))
        lines += [_INDENT + style.paint(line, colour) if line else "" for line in folded]
    return lines


def _facts(step: PlanStep, style: Style) -> list[tuple[str, str]]:
    """What is said of a step, each with its colour."""
    facts: list[tuple[str, str]] = []
    if step.name:
        facts.append((step.name, "dim"))
    doing = action_text(step.action, step.tool_id, style)
    if doing:
        facts.append((doing, ""))
    if step.caution:
        facts.append((f"caution: {step.caution}", "yellow"))
    if step.gate is not None:
        facts.append((_gate_text(step.gate), "yellow"))
    if step.for_each is not None:
        items = _short(_value(step.for_each.get("items"), style))
        facts.append((f"for each {step.for_each.get('as', 'item')} in {items}", ""))
    if step.condition is not None:
        known = {True: ": will run", False: ": will not run", None: ""}[step.will_run]
        facts.append((f"if {step.condition}{known}", "dim" if step.will_run is False else ""))
    facts += [(text, "dim") for text in _limits(step)]
    return facts


def _gate_text(gate: dict[str, Any]) -> str:
    what = {
        "ask": "asks for data",
        "manual": "waits for a person",
        "judgement": "asks the calling model",
    }.get(str(gate.get("kind")), "asks first")
    if gate.get("model"):
        what += f" ({gate['model']})"
    prompt = gate.get("prompt")
    return f"{what}: {_short(str(prompt))}" if prompt else what


def _limits(step: PlanStep) -> list[str]:
    texts = []
    if step.timeout_s is not None:
        texts.append(f"at most {step.timeout_s:g} s for each attempt")
    if step.total_timeout_s is not None:
        texts.append(f"at most {step.total_timeout_s:g} s in all")
    if step.retry is not None:
        after = ", ".join(str(code) for code in step.retry.get("on") or ()) or "a known failure"
        texts.append(f"up to {step.retry.get('max_attempts')} attempts after {after}")
    if step.on_error not in (None, "fail"):
        texts.append(f"on error: {step.on_error}")
    if step.postcondition is not None:
        texts.append(f"then {step.postcondition} must hold")
    return texts


def action_text(action: Any, tool_id: str | None, style: Style) -> str:
    """What a step does, in one line where it is one program."""
    if not isinstance(action, dict):
        return "" if action is None else _short(_value(action, style))
    if isinstance(action.get("argv"), list):
        text = " ".join(_word(word, style) for word in action["argv"])
        extras = {name: action[name] for name in ("cwd", "env", "stdin") if action.get(name)}
        for name, value in extras.items():
            text += f"\n{name}: {_short(_value(value, style))}"
        return text
    what = f"workflow {action['workflow']}" if "workflow" in action else str(tool_id or "")
    given = action.get("with")
    return what if given in (None, {}) else f"{what} {_short(_value(given, style))}".strip()


def _word(word: Any, style: Style) -> str:
    text = _value(word, style)
    if re.fullmatch(r"[\w@%+=:,./⟨⟩<>\[\]()-]+", text) or (text[:1], text[-1:]) == ("⟨", "⟩"):
        return text
    return shlex.quote(text)


def _value(value: Any, style: Style) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if style.unicode else text.replace("⟨", "<").replace("⟩", ">")


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


# Outputs and permissions


def _output_lines(plan: WorkflowPlan, width: int, style: Style) -> list[str]:
    columns = (Column("GIVES", least=8), Column("FROM", least=12))
    rows = [(name, _short(_value(value, style))) for name, value in plan.outputs.items()]
    return table_lines(columns, rows, width, style) if rows else []


def _permission_lines(plan: WorkflowPlan, width: int, style: Style) -> list[str]:
    columns = (Column("PERMISSION", least=16), Column("HELD"), Column("WHY", least=12))
    rows = [
        (one.permission, "enforced" if one.enforced else "declared only", one.why)
        for one in plan.permissions
    ]
    return table_lines(columns, rows, width, style) if rows else []


def _closure_lines(plan: WorkflowPlan, width: int, style: Style) -> list[str]:
    """What the plan finds on this machine."""
    columns = (Column("FINDS", least=12), Column("AS", least=16))
    rows = []
    for part in plan.closure.parts if plan.closure is not None else ():
        is_digest = part.kind != "program" and len(part.value) == 64
        rows.append((part.name, f"sha256 {part.value[:12]}" if is_digest else part.value))
    return table_lines(columns, rows, width, style) if rows else []


# Against a run

_SIGNS = {"new": "+", "gone": "-", "changed": "~", "unknown": "?", "same": "="}
_COLOURS = {"new": "green", "gone": "red", "changed": "yellow", "unknown": "yellow"}
_BASES = {
    "assumed": "its recorded outcome is taken, although it was recorded for something else",
    "unknown": "its outcome is not known; taken as success",
}


def against_lines(against: dict[str, Any], width: int, style: Style) -> list[str]:
    """What an edit changes for a recorded run; expects texts that are escaped."""
    title = f"Against run {against.get('run_id')}: {_moved(against.get('status'))}"
    lines = [style.paint(line, "bold") for line in fold(title, width)]
    entries = _entries(against.get("steps"))
    for step in entries:
        if step.get("change") != "same":
            lines += _changed_step(step, width, style)
    for gate in _entries(against.get("gates")):
        if gate.get("change") != "same":
            lines += _changed_gate(gate, width, style)
    outputs = against.get("outputs")
    for name, output in outputs.items() if isinstance(outputs, dict) else ():
        if isinstance(output, dict) and output.get("change") != "same":
            lines += _entry(str(output.get("change")), f"output {name}", (), width, style)
            lines += _pair(output, width, style)
    same = (against.get("counts") or {}).get("same", 0)
    lines.append(style.paint(f"= {same} step{'' if same == 1 else 's'} the same", "dim"))
    return lines


def _entries(value: Any) -> Sequence[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _entry(change: str, what: str, details: Sequence[str], width: int, style: Style) -> list[str]:
    sign = style.paint(_SIGNS.get(change, "~"), _COLOURS.get(change, ""))
    first, *rest = fold(what, width - 2)
    lines = [f"{sign} {first}", *(f"  {line}" for line in rest)]
    for detail in details:
        lines += [_INDENT + line for line in fold(detail, width - len(_INDENT))]
    return lines


def _changed_step(step: dict[str, Any], width: int, style: Style) -> list[str]:
    change = str(step.get("change"))
    details = []
    fields = step.get("fields")
    if isinstance(fields, list) and fields:
        details.append(f"changed: {', '.join(str(name) for name in fields)}")
    status = step.get("status")
    if isinstance(status, dict) and status.get("before") != status.get("after"):
        details.append(_moved(status))
    basis = _BASES.get(str(step.get("basis")))
    if basis is not None:
        details.append(basis)
    if isinstance(step.get("rests_on"), list):
        details.append(f"rests on {', '.join(str(path) for path in step['rests_on'])}")
    lines = _entry(change, str(step.get("step_path")), details, width, style)
    action = step.get("action")
    if isinstance(action, dict):
        shown_pair = {key: action_text(value, None, style) for key, value in action.items()}
        lines += _pair(shown_pair, width, style)
    return lines


def _changed_gate(gate: dict[str, Any], width: int, style: Style) -> list[str]:
    place = f" of {gate['step_path']}" if gate.get("step_path") else ""
    details = [str(gate["prompt"])] if isinstance(gate.get("prompt"), str) else []
    names = [
        name
        for name in ("prompt", "preview", "items", "response_schema", "action")
        if isinstance(gate.get(name), dict) and {"before", "after"} <= gate[name].keys()
    ]
    if names:
        details.append(f"changed: {', '.join(names)}")
    lines = _entry(
        str(gate.get("change")), f"gate {gate.get('kind')}{place}", details, width, style
    )
    for name in names:
        lines += _pair(gate[name], width, style)
    return lines


def _pair(pair: dict[str, Any], width: int, style: Style) -> list[str]:
    lines = []
    for name, word in (("before", "was"), ("after", "now")):
        if pair.get(name) is not None:
            text = f"{word} {_short(_value(pair[name], style))}"
            lines += [_INDENT + line for line in fold(text, width - len(_INDENT))]
    return lines


def _moved(status: Any) -> str:
    if not isinstance(status, dict):
        return ""
    before, after = status.get("before"), status.get("after")
    words = [str(word) for word in (before, after) if word is not None]
    return words[0] if len(set(words)) == 1 else " → ".join(words)
