"""What is wrong with a workflow file: findings with a stable code, a place and a way out."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from fleetprompt_indexer.document import ListNode, MapNode, Node, ScalarNode, Span
from fleetprompt_indexer.problem import PROBLEMS
from fleetprompt_indexer.vocabulary import STEP_FIELDS, WORKFLOW_FIELDS

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["error", "warning"]

Location = tuple[str | int, ...]
"""Where in the document, by canonical names: `("steps", 2, "env", "TOKEN")`."""

DIAGNOSTICS: dict[str, str] = {
    "field.unknown": "A key that the language does not have.",
    "field.missing": "A field that must be there is not.",
    "field.not_supported": "A field that is planned, and refused until it is enforced.",
    "field.not_applicable": "A field that has no effect on this kind of step.",
    "field.twice": "A field and its alias stand side by side.",
    "value.type": "A value of the wrong type.",
    "value.choice": "A value that is not among those that are allowed.",
    "value.range": "A value that is too small, too large, too short or too long.",
    "value.duration": "A text that is no duration.",
    "value.name": "A name with characters that names cannot have.",
    "value.path": "A path that is absolute or leaves the workspace.",
    "value.constant": "An expression where only constant text may stand.",
    "value.secret": "A text that looks like a secret; secrets are given by handles.",
    "value.handle": "A secret that is not given by its handle.",
    "value.schema": "A JSON Schema that is none.",
    "value.default": "A default that its own schema refuses.",
    "step.no_action": "A step that does nothing.",
    "step.two_actions": "A step with more than one action.",
    "step.duplicate_id": "Two steps with one id.",
    "step.reserved_id": "A step whose id is a name of the language.",
    "step.unreachable": "A step that can never run.",
    "step.too_many": "More steps than a workflow may have.",
    "command.empty": "A command without a namespace or without what follows it.",
    "command.namespace": "A command or tool whose namespace does not exist.",
    "command.syntax": "A command whose quotes or escapes are not closed.",
    "command.shell_syntax": "A sign in a command that only a shell understands.",
    "command.json": "JSON after `:=` that is none.",
    "command.target": "A program or tool that is computed; targets are literals.",
    "command.arguments": "Arguments that the tool does not take.",
    "command.code_injection": "Data inside the code that an interpreter is given.",
    "command.unexpanded": "A sign that a shell would expand, and that is passed on as it is.",
    "tool.not_supported": "A namespace or tool that is planned, and refused until it works.",
    "tool.not_found": "A tool that does not exist.",
    "tool.not_allowed": "A tool that the workflow's own `tools:` does not allow.",
    "expression.syntax": "An expression that cannot be parsed.",
    "expression.limit": "An expression beyond a bound of the language.",
    "expression.unknown": "A function that does not exist.",
    "expression.type": "An expression that cannot give a value of the type that is needed.",
    "template.key": "An expression in the key of a map, where none is evaluated.",
    "reference.in_text": "A `$name.path` inside a longer text, where it has no effect.",
    "reference.unknown": "A reference to an input, step or name that does not exist.",
    "reference.unknown_field": "A reference to a field that the result does not have.",
    "reference.later": "A reference to a step that comes later in a chain.",
    "reference.self": "A step that refers to its own result.",
    "reference.computed": "A reference whose step is computed; an edge must be known beforehand.",
    "reference.not_here": "A name that has no value in this place.",
    "reference.secret": "A secret where it could be shown.",
    "needs.unknown": "A needed step that does not exist.",
    "needs.later": "A needed step that comes later in a chain.",
    "needs.cycle": "Steps that wait for each other.",
    "graph.effect_at_start": "A side effect at the start of a graph, before anything else.",
    "approval.in_finally": "A gate in `finally`, where nobody may be asked.",
    "retry.never": "A retry that can never happen.",
    "condition.constant": "A condition that is always the same.",
    "workflow.has_errors": "A sub-workflow that has errors itself.",
    "workflow.too_deep": "Workflows within workflows beyond the limit.",
    "workflow.cycle": "Workflows that contain each other.",
    "workflow.not_found": "A sub-workflow that does not exist.",
    "internal": "A fault of ours; please report it with the file.",
}
"""Stable codes of the language, and what each means; the indexer's `PROBLEMS` come besides."""

DOCS_PAGE = "docs/diagnostics.md"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding."""

    code: str
    severity: Severity
    """With an error there is no plan."""
    message: str
    """A sentence: what is wrong, with the words of the file."""
    file: str
    """As it was given to the loader."""
    line: int | None
    """From 1, like the columns, which count characters; the end is exclusive."""
    column: int | None
    end_line: int | None
    end_column: int | None
    path: str
    """Where in the document: `steps[2].env.TOKEN`; empty for the whole."""
    hint: str | None
    """What to write instead."""
    docs: str
    """The place in the documentation that explains the code."""

    def to_json(self) -> dict[str, Any]:
        """The finding as JSON data."""
        return asdict(self)


def docs_anchor(code: str) -> str:
    """Where the documentation explains a code."""
    return f"{DOCS_PAGE}#{code.replace('.', '')}"


def path_text(location: Location) -> str:
    """`steps[2].env.TOKEN`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


class Report:
    """Collects findings about one file and finds their places in it.

    Args:
        file: Its name, as findings show it.
        source: Its text.
        root: Its tree; None while there is none.
    """

    def __init__(self, file: str, source: str, root: MapNode | None = None) -> None:
        self.file = file
        self.root = root
        self.source = source
        self._lines = source.split("\n")
        self._found: list[Diagnostic] = []

    @property
    def has_errors(self) -> bool:
        """Whether there can be no plan."""
        return any(found.severity == "error" for found in self._found)

    def __len__(self) -> int:
        return len(self._found)

    def sorted(self) -> tuple[Diagnostic, ...]:
        """Every finding once, in the order of the file."""
        unique = dict.fromkeys(self._found)
        return tuple(sorted(unique, key=lambda d: (d.line or 0, d.column or 0, d.code)))

    def take(self, problems: Iterable[dict[str, Any]]) -> None:
        """Add findings of the indexer, which are data of the same shape."""
        for problem in problems:
            code = problem["code"]
            hint = problem.get("hint") or self._quote_hint(problem.get("line"))
            self._found.append(Diagnostic(**{**problem, "hint": hint, "docs": docs_anchor(code)}))

    def add(
        self,
        code: str,
        message: str,
        location: Location,
        *,
        hint: str | None = None,
        severity: Severity = "error",
        on_key: bool = False,
        fragment: tuple[str, int, int] | None = None,
    ) -> None:
        """Add a finding.

        Args:
            code: One of `DIAGNOSTICS`.
            message: What is wrong.
            location: What it concerns; an ancestor's place is shown where there is nothing.
            hint: What to write instead.
            severity: Whether it prevents a plan.
            on_key: Point at the key instead of its value.
            fragment: `(text, start, end)`: point at this part of a scalar whose value is `text`.
        """
        if code not in DIAGNOSTICS and code not in PROBLEMS:
            raise ValueError(f"undocumented diagnostic {code}")
        span = self._span(location, on_key, fragment)
        self._found.append(
            Diagnostic(
                code,
                severity,
                message,
                self.file,
                span.line,
                span.column,
                span.end_line,
                span.end_column,
                path_text(location),
                hint,
                docs_anchor(code),
            )
        )

    # places

    def node(self, location: Location) -> Node | None:
        """The node at a location, or None."""
        node: Node | None = self.root
        for depth, part in enumerate(location):
            node = _child(node, part, depth)
        return node

    def _span(
        self, location: Location, on_key: bool, fragment: tuple[str, int, int] | None
    ) -> Span:
        node: Node | None = self.root
        key: ScalarNode | None = None
        for depth, part in enumerate(location):
            child = _child(node, part, depth)
            if child is None:
                break
            key = _key(node, part, depth)
            node = child
        if node is None:
            return Span(1, 1, 1, 1)
        if on_key and key is not None:
            return key.span
        if isinstance(node, ScalarNode):
            return self._fragment_span(node, fragment) if fragment else node.span
        return _head_span(node)

    def _fragment_span(self, node: ScalarNode, fragment: tuple[str, int, int]) -> Span:
        """The place of `text[start:end]` in the file.

        Quotes, escapes and folding may change the text around it. So it is looked for with as much
        of what stands before it as is found just once; else the whole scalar is pointed at.
        """
        text, start, end = fragment
        wanted = text[start:end]
        raw = self._raw(node.span)
        line_start = text.rfind("\n", 0, start) + 1
        for before in (80, 40, 20, 10, 4, 0):
            context = text[max(line_start, start - before) : end]
            if not context.strip() or "\n" in context or raw.count(context) != 1:
                continue
            position = raw.index(context) + len(context) - len(wanted)
            return _span_at(node.span, raw, position, len(wanted))
        same = raw.count(wanted)
        if wanted.strip() and "\n" not in wanted and same == text.count(wanted):
            position = -1
            for _ in range(text.count(wanted, 0, start + len(wanted) - 1) + 1):
                position = raw.find(wanted, position + 1)
            if position >= 0:
                return _span_at(node.span, raw, position, len(wanted))
        return node.span

    def _raw(self, span: Span) -> str:
        """The characters of the file within a span."""
        lines = self._lines[span.line - 1 : span.end_line]
        if not lines:
            return ""
        if len(lines) == span.end_line - span.line + 1:
            lines[-1] = lines[-1][: span.end_column - 1]
        lines[0] = lines[0][span.column - 1 :]
        return "\n".join(lines)

    def _quote_hint(self, line: int | None) -> str | None:
        """What to say of a syntax error on a line that looks like one of YAML's traps."""
        if line is None or not 1 <= line <= len(self._lines) or self.file.endswith(".json"):
            return None
        text = self._lines[line - 1]
        if "${{" in text:
            return "quote the text that holds `${{ … }}`"
        if _BARE_EXPRESSION.search(text):
            return "quote the expression"
        return None


_BARE_EXPRESSION = re.compile(r"\b(?:if|condition|postcondition|for_each):\s*[^\s\"'|>]")


def _span_at(whole: Span, raw: str, position: int, width: int) -> Span:
    """A part of one line of a scalar's text in the file."""
    before = raw[:position]
    line = whole.line + before.count("\n")
    column = position - before.rfind("\n") if "\n" in before else whole.column + position
    return Span(line, column, line, column + width)


def _child(node: Node | None, part: str | int, depth: int) -> Node | None:
    if isinstance(part, int):
        if isinstance(node, ListNode) and part < len(node.items):
            return node.items[part]
        return None
    key = _key(node, part, depth)
    return node.get(key.text) if key is not None and isinstance(node, MapNode) else None


def _key(node: Node | None, part: str | int, depth: int) -> ScalarNode | None:
    """The key that stands for a canonical name, itself or by its alias."""
    if not isinstance(node, MapNode) or not isinstance(part, str):
        return None
    found = node.key(part)
    if found is None and depth in _ALIASED:
        found = next(
            (key for alias in _ALIASED[depth].get(part, ()) if (key := node.key(alias))), None
        )
    return found


def _aliases(fields: Iterable[Any]) -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for field in fields:
        if field.canonical:
            names.setdefault(field.canonical, []).append(field.name)
    return names


_ALIASED = {0: _aliases(WORKFLOW_FIELDS.values()), 2: _aliases(STEP_FIELDS.values())}
"""Aliases of the top level, and of a step (`steps`, its number, the field)."""


def _head_span(node: Node) -> Span:
    """The first key or item of a container: pointing at all its lines helps nobody."""
    while not isinstance(node, ScalarNode):
        if node.span.line == node.span.end_line:
            return node.span
        if isinstance(node, MapNode):
            if not node.by_name:
                return node.span
            node = next(key for key, _ in node.entries)
        else:
            if not node.items:
                return node.span
            node = node.items[0]
    return node.span
