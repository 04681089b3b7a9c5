"""The graph of a plan as text for Mermaid and Graphviz, whatever its names hold."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleetprompt_agent.language.planview import is_gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fleetprompt_agent.language.plan import Plan, PlanStep

MAX_LABEL = 60
"""Characters of a line in a node."""

_MERMAID_SAFE = re.compile(r"[^A-Za-z0-9 _.,:/()=+-]")


def mermaid(plan: Plan) -> str:
    """A flowchart. Every other sign in a name is written as a character code."""
    lines = ["flowchart TD"]
    for number, step in enumerate(plan.steps):
        lines.append(f"    {_mermaid_node('s', number, step)}")
    lines += [f"    {edge}" for edge in _edges(plan.steps, "s", _mermaid_edge)]
    if plan.finally_steps:
        lines.append("    subgraph finally")
        for number, step in enumerate(plan.finally_steps):
            lines.append(f"        {_mermaid_node('f', number, step)}")
        lines += [f"        {edge}" for edge in _edges(plan.finally_steps, "f", _mermaid_edge)]
        lines.append("    end")
    return "\n".join(lines) + "\n"


def dot(plan: Plan) -> str:
    """A directed graph for Graphviz."""
    lines = [
        "digraph workflow {",
        "    rankdir=TB;",
        '    node [shape=box, fontname="sans-serif"];',
    ]
    for number, step in enumerate(plan.steps):
        lines.append(f"    {_dot_node('s', number, step)}")
    lines += [f"    {edge}" for edge in _edges(plan.steps, "s", _dot_edge)]
    if plan.finally_steps:
        lines += ["    subgraph cluster_finally {", '        label="finally";']
        for number, step in enumerate(plan.finally_steps):
            lines.append(f"        {_dot_node('f', number, step)}")
        lines += [f"        {edge}" for edge in _edges(plan.finally_steps, "f", _dot_edge)]
        lines.append("    }")
    lines.append("}")
    return "\n".join(lines) + "\n"


def _edges(
    steps: tuple[PlanStep, ...], prefix: str, edge: Callable[[str, str, str], str]
) -> Iterator[str]:
    numbers = {step.id: number for number, step in enumerate(steps)}
    for number, step in enumerate(steps):
        for need in step.needs:
            if need.step_id in numbers:
                start, end = f"{prefix}{numbers[need.step_id]}", f"{prefix}{number}"
                yield edge(start, end, need.origin)


def _label(step: PlanStep) -> list[str]:
    lines = [step.id]
    if step.name:
        lines.append(step.name)
    what = step.tool_id or step.kind
    if step.workflow is not None:
        what = f"workflow {step.workflow}"
    elif step.judgement is not None:
        model = step.judgement.model
        what = f"asks the calling model ({model})" if model else "asks the calling model"
    lines.append(what)
    return [line if len(line) <= MAX_LABEL else line[: MAX_LABEL - 1] + "…" for line in lines]


def _mermaid_node(prefix: str, number: int, step: PlanStep) -> str:
    label = "<br/>".join(_mermaid_text(line) for line in _label(step))
    opening, closing = ("{{", "}}") if is_gate(step) else ("[", "]")
    return f'{prefix}{number}{opening}"{label}"{closing}'


def _mermaid_text(text: str) -> str:
    return _MERMAID_SAFE.sub(lambda match: f"#{ord(match.group())};", text)


def _mermaid_edge(start: str, end: str, origin: str) -> str:
    return f"{start} {'-.->' if origin == 'reference' else '-->'} {end}"


def _dot_node(prefix: str, number: int, step: PlanStep) -> str:
    label = "\\n".join(_dot_text(line) for line in _label(step))
    shape = ", shape=hexagon" if is_gate(step) else ""
    return f'{prefix}{number} [label="{label}"{shape}];'


def _dot_text(text: str) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    return printable.replace("\\", "\\\\").replace('"', '\\"')


def _dot_edge(start: str, end: str, origin: str) -> str:
    return f"{start} -> {end}{' [style=dotted]' if origin == 'reference' else ''};"
