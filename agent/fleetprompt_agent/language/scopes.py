"""Which names have a value where, and whether what is written refers to them.

Every text of a workflow that may hold expressions passes through here once: it is parsed, its
references are checked against what is known, and those to steps are kept as possible edges.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fleetprompt_agent.language.expressions import (
    ROOTS,
    Expression,
    ExpressionError,
    parse_expression,
)
from fleetprompt_agent.language.references import loose_references, shorthand_source
from fleetprompt_agent.language.static_types import infer
from fleetprompt_agent.language.templates import (
    CLOSING,
    OPENING,
    Embedded,
    closing_at,
    parse_template,
    parse_text,
)
from fleetprompt_indexer.document import ListNode, MapNode, Node, ScalarNode
from fleetprompt_indexer.vocabulary import (
    GATE_RESULT_FIELDS,
    NAMESPACES,
    RESULT_FIELDS,
    closest,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from fleetprompt_agent.language.actions import Action
    from fleetprompt_agent.language.command import Word
    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.expressions import Reference
    from fleetprompt_agent.language.expressions.syntax import Node as ExpressionNode
    from fleetprompt_agent.language.models import Step

Fragment = tuple[str, int, int]

JSON_TYPES = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "bool",
    "array": "list",
    "object": "map",
}
"""What the types of JSON Schema are in expressions."""

RESULT_TYPES = {
    **dict.fromkeys(("stdout", "stderr", "text", "body"), "string"),
    **dict.fromkeys(("status", "effect", "reason"), "string"),
    **dict.fromkeys(("exit_code", "attempt", "duration_ms", "http_status"), "number"),
    "approved": "bool",
    "actor": "map",
    "headers": "map",
    "items": "list",
}
"""Fields of results that have one type."""

_ROOT_FIELDS = {"run": ("id", "status", "error"), "step": ("idempotency_key",)}


@dataclass(slots=True)
class Draft:
    """A step on its way into the plan."""

    step: Step
    location: Location
    """`("steps", 2)` or `("finally", 0)`."""
    action: Action | None = None
    gate: bool = False
    """Whether somebody is asked, so that the result tells what was decided."""
    nodes: dict[str, Node] = field(default_factory=dict)
    """Its fields in the document, by canonical name, without those that were refused."""
    references: dict[str, Location] = field(default_factory=dict)
    """Steps that it reads, and where it does so first."""
    in_finally: bool = field(init=False)
    """Whether it stands under `finally:`."""
    place: int = field(init=False)
    """Its number in its list, from 0."""

    def __post_init__(self) -> None:
        field, place = self.location
        assert isinstance(place, int)  # noqa: S101 - a list's location
        self.in_finally = field == "finally"
        self.place = place

    @property
    def asks_model(self) -> bool:
        """Whether it is an `llm` step."""
        return self.action is not None and self.action.namespace == "llm"

    @property
    def item_name(self) -> str | None:
        """How `for_each` names the item."""
        return (self.step.as_ or "item") if self.step.for_each is not None else None

    _fields: tuple[str, ...] | Literal["unread"] | None = "unread"

    def result_fields(self) -> tuple[str, ...] | None:
        """What the step's result has; None when that is not known."""
        if self._fields == "unread":
            self._fields = self._read_fields()
        return self._fields

    def _read_fields(self) -> tuple[str, ...] | None:
        if self.step.for_each is not None:
            return ("json", "items", *GATE_RESULT_FIELDS * self.gate, *RESULT_FIELDS)
        fields: tuple[str, ...] = GATE_RESULT_FIELDS if self.gate else ()
        if self.step.workflow is not None:
            fields += ("json",)
        elif self.action is not None:
            namespace = NAMESPACES.get(self.action.namespace)
            if namespace is None:
                return None
            fields += tuple(
                name.rstrip("?")
                for name in namespace.result
                if name != "json?" or self.gives_json or self.action.namespace != "cli"
            )
        elif self.step.command is not None or self.step.tool is not None:
            return None
        return (*fields, *RESULT_FIELDS)

    def type_of(self, path: tuple[str | int, ...]) -> str | None:
        """The type of a part of the step's result, as far as it is known."""
        name = path[0]
        if len(path) > 1:
            return None
        if name == "json":
            if self.step.for_each is not None:
                return "list"
            output = self.step.output
            schema = None if isinstance(output, str) else output.schema_
            if self.action is not None and self.asks_model:
                schema = self.action.arguments["schema"]
            kind = schema.get("type") if isinstance(schema, dict) else None
            return JSON_TYPES.get(kind) if isinstance(kind, str) else None
        return RESULT_TYPES.get(name) if isinstance(name, str) else None

    @property
    def gives_json(self) -> bool:
        """Whether the step declares JSON output."""
        output = self.step.output
        return (output if isinstance(output, str) else output.type) == "json"


class Place(NamedTuple):
    """Where a text stands."""

    roots: tuple[str, ...]
    """The names that have a value."""
    owner: Draft | None = None
    """The step it belongs to."""
    item: bool = False
    """Whether the item of `for_each` has a value."""
    ended: bool = False
    """Whether the run's status is known: in `finally`."""


class Scopes:
    """Checks every expression and template of one workflow."""

    def __init__(
        self,
        report: Report,
        drafts: Mapping[str, Draft],
        inputs: Collection[str],
        secrets: Collection[str],
        schemas: Mapping[str, Any],
        *,
        is_graph: bool,
    ) -> None:
        self._report = report
        self._drafts = drafts
        self._inputs = inputs
        self._secrets = secrets
        self._schemas = schemas
        self._is_graph = is_graph

    # texts

    def condition(self, source: str | bool, location: Location, place: Place) -> str | None:
        """A bare expression that gives true or false, as the plan keeps it; None with faults."""
        if isinstance(source, bool):
            self._warn_constant(location, "true" if source else "false")
            return "true" if source else "false"
        kept = self._bare(source, location, place, ("bool", "true or false"))
        if kept is not None and not parse_expression(kept).references:
            self._warn_constant(location, kept if kept in ("true", "false") else "the same")
        return kept

    def items(self, source: str, location: Location, place: Place) -> str | None:
        """A bare expression that gives a list, as the plan keeps it; None with faults."""
        return self._bare(source, location, place, ("list", "a list"))

    def _bare(
        self, source: str, location: Location, place: Place, wanted: tuple[str, str]
    ) -> str | None:
        inner, offset = _bare(source)
        shorthand = shorthand_source(inner)
        try:
            expression = parse_expression(shorthand or inner)
        except ExpressionError as error:
            self._syntax(error, location, (source, offset + error.start, offset + error.end))
            return None
        part = Embedded(expression, offset, offset + len(inner), offset)
        kind = self._embedded(part, source, location, place, shorthand is not None)
        if kind is not None and kind != wanted[0]:
            message = f"`{location[-1]}` gives {wanted[1]}; this gives {_article(kind)}"
            self._report.add("expression.type", message, location)
        return shorthand or inner

    def template(self, node: Node | None, location: Location, place: Place) -> None:
        """Check every text beneath a node."""
        match node:
            case ScalarNode():
                if isinstance(node.value, str):
                    self.text(node.value, location, place)
            case ListNode(items=items):
                for number, item in enumerate(items):
                    self.template(item, (*location, number), place)
            case MapNode(entries=entries):
                for key, value in entries:
                    if OPENING in key.text:
                        message = "a key is taken as it is written; only values hold expressions"
                        self._report.add(
                            "template.key", message, (*location, key.text), on_key=True
                        )
                    self.template(value, (*location, key.text), place)
            case _:
                pass

    def text(self, text: str, location: Location, place: Place) -> None:
        """Check one text."""
        if "$" not in text:
            return
        try:
            parsed = parse_text(text)
        except ExpressionError as error:
            self._syntax(error, location, (text, error.start, error.end))
            return
        for part in parsed.parts:
            if isinstance(part, Embedded):
                self._embedded(part, text, location, place)
        if parsed.whole is None:
            bare = _without(text, parsed.embedded)
            self._loose(bare, text, location, place)

    def words(self, text: str, words: Sequence[Word], location: Location, place: Place) -> None:
        """Check the words of a command, whose references know their places in it."""
        for word in words:
            for part in word.embedded:
                self._embedded(part, text, location, place)
            if not isinstance(word.value, str):
                self._json_word(text, word, location, place)
            elif "$" in word.bare:
                self._loose(word.bare, text, location, place)

    def _json_word(self, text: str, word: Word, location: Location, place: Place) -> None:
        fragment = (text, word.start, word.end)
        try:
            template = parse_template(word.value)
        except ExpressionError as error:
            self._syntax(error, location, fragment)
            return
        for reference in template.references:
            self._check(reference, None, location, fragment, place)

    def _embedded(
        self,
        part: Embedded,
        text: str,
        location: Location,
        place: Place,
        is_shorthand: bool | None = None,
    ) -> str | None:
        """Check one expression; its type as far as it is known."""
        expression, start, end, inner = part
        if is_shorthand is None:
            is_shorthand = inner == start
        before = len(self._report)
        references = expression.references
        for reference in references:
            if is_shorthand:
                fragment = (text, start, end)
            else:
                fragment = (text, inner + reference.start, inner + reference.end)
            self._check(reference, expression, location, fragment, place)
        if len(self._report) > before:
            return None  # what is not there has no type
        if expression.is_path and not references[0].dynamic:
            return self._type(references[0].root, references[0].path, place)

        def fault(node: ExpressionNode, message: str) -> None:
            fragment = (text, inner + node.start, inner + node.end)
            self._report.add("expression.type", message, location, fragment=fragment)

        def type_of(root: str, path: tuple[str | int, ...], _shorthand: bool) -> str | None:
            return self._type(root, path, place)

        return infer(expression.tree, type_of, fault)

    def _type(self, root: str, path: tuple[str | int, ...], place: Place) -> str | None:
        """The type of a path that exists."""
        owner = place.owner
        if root == "steps" and len(path) > 1:
            draft = self._drafts.get(str(path[0]))
            if draft is None or (owner is not None and path[0] == owner.item_name):
                return None
            return draft.type_of(path[1:])
        if root == "result" and owner is not None:
            return owner.type_of(path) if path else "map"
        if root == "inputs" and len(path) == 1:
            schema = self._schemas.get(str(path[0]))
            kind = schema.get("type") if isinstance(schema, dict) else None
            return JSON_TYPES.get(kind) if isinstance(kind, str) else None
        if root in ("run", "step") and path in (("id",), ("status",), ("idempotency_key",)):
            return "string"
        return "int" if root == "index" and not path else None

    def _loose(self, bare: str, text: str, location: Location, place: Place) -> None:
        if "$" not in bare:
            return
        values: list[str] = []
        owner = place.owner
        if place.item and owner is not None and owner.item_name is not None:
            values = ["item", "index", owner.item_name]
        for found in loose_references(bare, self._drafts, place.roots, values):
            start = text.find(found.text)
            self._report.add(
                "reference.in_text",
                f"`{found.text}` has no effect inside a longer text",
                location,
                hint=f"write `{found.fix}`, or `\\{found.text}` in a command for the text itself"
                if location[-1] == "command"
                else f"write `{found.fix}`",
                fragment=(text, start, start + len(found.text)),
            )

    def _syntax(self, error: ExpressionError, location: Location, fragment: Fragment) -> None:
        self._report.add(
            f"expression.{error.kind}", f"{error.message}", location, fragment=fragment
        )

    def check_item_name(self, name: str, location: Location) -> None:
        """The name of a loop's item must not hide anything."""
        if name != "item" and (name in ROOTS or name in self._drafts):
            what = "a step" if name in self._drafts else "a name of the language"
            message = f"`{name}` is {what}; choose another name for the item"
            self._report.add("step.reserved_id", message, location)

    def _warn_constant(self, location: Location, always: str) -> None:
        self._report.add(
            "condition.constant",
            f"`{location[-1]}` is always {always}",
            location,
            severity="warning",
        )

    # references

    def _check(
        self,
        reference: Reference,
        expression: Expression | None,
        location: Location,
        fragment: Fragment,
        place: Place,
    ) -> None:
        root, path = reference.root, reference.path
        owner = place.owner
        names: tuple[str, ...] = place.roots
        if place.item and owner is not None and owner.item_name is not None:
            names += ("item", "index")
            if (path[:1] == (owner.item_name,) and reference.shorthand) or root == owner.item_name:
                return
        if root not in names:
            self._unknown_root(reference, location, fragment, names)
        elif root == "steps":
            self._check_step(reference, location, fragment, place)
        elif root == "inputs":
            self._check_name(reference, self._inputs, "input", location, fragment)
        elif root == "secrets":
            self._check_name(reference, self._secrets, "secret", location, fragment)
            if expression is None or not expression.is_path:
                message = "a secret stands alone: `${{ secrets.NAME }}`, without operators"
                self._report.add("reference.secret", message, location, fragment=fragment)
        elif root in _ROOT_FIELDS:
            self._check_name(reference, _ROOT_FIELDS[root], f"`{root}` field", location, fragment)
            if root == "run" and path[:1] in (("status",), ("error",)) and not place.ended:
                message = f"`run.{path[0]}` is known in `finally` only"
                self._report.add("reference.not_here", message, location, fragment=fragment)

    def _unknown_root(
        self, reference: Reference, location: Location, fragment: Fragment, names: tuple[str, ...]
    ) -> None:
        root = reference.root
        if root in ROOTS:
            message = f"`{root}` has no value here; there is {_listed(names)}"
            self._report.add("reference.not_here", message, location, fragment=fragment)
            return
        hint = None
        if root in self._drafts:
            hint = f"write `${root}` or `steps.{root}` for the step"
        elif root in self._inputs:
            hint = f"write `inputs.{root}`"
        elif root in _FOREIGN_ROOTS:
            hint = _FOREIGN_ROOTS[root]
        elif close := closest(root, names):
            hint = f"did you mean `{close}`?"
        message = f"no `{root}` here; there is {_listed(names)}"
        self._report.add("reference.unknown", message, location, hint=hint, fragment=fragment)

    def _check_name(
        self,
        reference: Reference,
        known: Collection[str],
        what: str,
        location: Location,
        fragment: Fragment,
    ) -> None:
        if not reference.path or reference.path[0] in known:
            return
        name = str(reference.path[0])
        close = closest(name, known)
        hint = f"did you mean `{close}`?" if close else None
        if hint is None and known:
            hint = f"there is {_listed(tuple(known))}"
        message = f"no {what} `{name}`"
        self._report.add("reference.unknown", message, location, hint=hint, fragment=fragment)

    def _check_step(
        self, reference: Reference, location: Location, fragment: Fragment, place: Place
    ) -> None:
        path = reference.path
        if not path or not isinstance(path[0], str):
            self._report.add(
                "reference.computed",
                "name the step: which steps are read must be known before the run",
                location,
                hint="write `steps.STEP_ID.FIELD`",
                fragment=fragment,
            )
            return
        name = path[0]
        draft = self._drafts.get(name)
        if draft is None:
            close = closest(name, self._drafts)
            hint = f"did you mean `{close}`?" if close else None
            if hint is None and reference.shorthand:
                hint = "write `$$` for the sign itself"
            message = f"no step `{name}`"
            self._report.add("reference.unknown", message, location, hint=hint, fragment=fragment)
            return
        if not self._is_readable(draft, location, fragment, place):
            return
        if place.owner is not None:
            place.owner.references.setdefault(name, location)
        if len(path) > 1:
            self._check_field(draft, reference, location, fragment)

    def _is_readable(
        self, draft: Draft, location: Location, fragment: Fragment, place: Place
    ) -> bool:
        """Whether the step has ended, or can have, when the text is evaluated."""
        owner = place.owner
        name = draft.step.id
        if owner is None:
            return True
        if owner is draft:
            hint = "write `result` for what it has just given" if "result" in place.roots else None
            message = f"step `{name}` refers to itself"
            self._report.add("reference.self", message, location, hint=hint, fragment=fragment)
            return False
        is_later = draft.place > owner.place and (owner.in_finally or not self._is_graph)
        if owner.in_finally == draft.in_finally:
            if not is_later:
                return True
            hint = None if owner.in_finally else "move it up, or set `type: graph`"
        elif owner.in_finally:
            return True
        else:
            hint = None
        message = f"step `{name}` comes later"
        self._report.add("reference.later", message, location, hint=hint, fragment=fragment)
        return False

    def _check_field(
        self, draft: Draft, reference: Reference, location: Location, fragment: Fragment
    ) -> None:
        known = draft.result_fields()
        name = reference.path[1]
        if known is None:
            return
        if name not in known:
            hint = None
            if name == "json" and "response" in known:
                hint = f"the answer is `steps.{draft.step.id}.response`"
            elif name == "json" and "stdout" in known:
                hint = f"declare `output: json` in step `{draft.step.id}`"
            elif name in GATE_RESULT_FIELDS:
                hint = f"step `{draft.step.id}` has no `approval`"
            elif close := closest(str(name), known):
                hint = f"did you mean `{close}`?"
            else:
                hint = f"it has {_listed(known)}"
            message = f"the result of step `{draft.step.id}` has no `{name}`"
            self._report.add(
                "reference.unknown_field", message, location, hint=hint, fragment=fragment
            )
        elif len(reference.path) > 2 and RESULT_TYPES.get(str(name)) == "string":
            message = f"`{name}` is text, and has no `{reference.path[2]}`"
            self._report.add("expression.type", message, location, fragment=fragment)


_DECLARE_INPUT = "declare an input, and let the caller pass it: `${{ inputs.NAME }}`"
_FOREIGN_ROOTS = {
    "github": _DECLARE_INPUT,
    "vars": _DECLARE_INPUT,
    "params": "write `inputs.NAME`",
    "args": "write `inputs.NAME`",
    "env": "expressions see no environment: a program reads its own; a caller passes `inputs`",
    "matrix": "write `for_each:` and `item`",
    "needs": "write `steps.STEP_ID.FIELD`",
    "jobs": "write `steps.STEP_ID.FIELD`",
    "runner": "expressions see nothing of the machine; a program can tell",
}
"""Roots of other workflow languages, and what to write instead."""


def _bare(source: str) -> tuple[str, int]:
    """The expression of a field that is one, with its offset: `${{ }}` around it may stand."""
    text = source.strip()
    offset = source.find(text)
    if text.startswith(OPENING) and closing_at(text, len(OPENING)) == len(text) - len(CLOSING):
        inner = text[len(OPENING) : -len(CLOSING)]
        text = inner.strip()
        offset += len(OPENING) + inner.find(text)
    return text, offset


def _without(text: str, embedded: Sequence[Embedded]) -> str:
    """The text with blanks for its expressions, so that offsets stay."""
    for part in embedded:
        text = text[: part.start] + " " * (part.end - part.start) + text[part.end :]
    return " " + text[1:] if text.startswith("$$") else text


def _article(kind: str) -> str:
    return "null" if kind == "null_type" else f"an {kind}" if kind[0] in "aio" else f"a {kind}"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:12])
    return f"{shown}, …" if len(names) > 12 else shown
