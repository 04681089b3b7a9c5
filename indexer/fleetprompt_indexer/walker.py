"""One pass over the events of a file: is it safe to compose, and what does its head say.

A walk keeps the limits (depth, parts, one document, text keys, no duplicates, no aliases, merge
keys or tags) and builds only the values that the index wants. Memory is bound by the file's own
length: nothing is expanded. It never raises for any content.

The loop is written flat, with its state in local variables: it runs for every file of a scan that
`plain_lines` or `plain_json` cannot read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from yaml import YAMLError

from fleetprompt_indexer.display import display
from fleetprompt_indexer.events import decode, open_parser, syntax_problem
from fleetprompt_indexer.plain_json import read_plain_json
from fleetprompt_indexer.plain_lines import read_plain_lines
from fleetprompt_indexer.problem import Problem, Refused
from fleetprompt_indexer.scalars import NumberError, read_plain

if TYPE_CHECKING:
    from fleetprompt_indexer.events import EventParser, Format

MAX_DEPTH = 64
"""Levels of maps and lists. A hand-written workflow stays below 12."""
MAX_EVENTS = 20_000
"""Parts of a document: scalars, and the starts and ends of maps and lists."""
MAX_ANCHORS = 64
"""Anchors without an alias do nothing; this many are no longer an accident."""
MAX_PROBLEMS = 50
"""A file with more findings is described well enough by the first ones."""

WANTED = frozenset(
    {
        "id",
        "name",
        "description",
        "version",
        "type",
        "inputs",
        "args",
        "outputs",
        "steps",
        "finally",
    }
)
"""Top-level keys whose values a walk builds."""
WANTED_OF_STEP = frozenset({"id", "command", "tool", "workflow"})
"""Keys of a step whose values a walk builds, as text."""
_STEP_LISTS = frozenset({"steps", "finally"})

_Frame: TypeAlias = "tuple[dict[str, Any] | None, str | None, int, Any, frozenset[str] | None]"


@dataclass(frozen=True, slots=True)
class Head:
    """What one walk found."""

    values: dict[str, Any] = field(default_factory=dict)
    """The wanted top-level values; scalars at the top and in steps are text, or None for null."""
    problems: tuple[Problem, ...] = ()
    """In the order of the file; without a file name."""

    @property
    def is_sound(self) -> bool:
        """Whether the file may be composed: no finding but warnings."""
        return all(problem.severity != "error" for problem in self.problems)


def walk(data: bytes, *, format: Format) -> Head:  # noqa: A002  # the word users know
    """Check the limits and build the wanted values of a file's bytes."""
    text, problems = decode(data)
    if problems and problems[0].severity == "error":
        return Head(problems=tuple(problems))
    head = plain_head(text, format=format) if not problems else None
    return head or walk_events(text, problems, format=format)


def plain_head(text: str, *, format: Format = "yaml") -> Head | None:  # noqa: A002
    """What `walk_events` finds in a plain and sound text; None when it is to be asked."""
    read = read_plain_json if format == "json" else read_plain_lines
    values = read(text, wanted=WANTED, step_lists=_STEP_LISTS, wanted_of_step=WANTED_OF_STEP)
    return Head(values) if values is not None else None


def walk_events(text: str, problems: list[Problem], *, format: Format) -> Head:  # noqa: A002
    """`walk` for a text, event by event; the problems are those of decoding it."""
    values: dict[str, Any] = {}
    try:
        parser = open_parser(text, format=format)
        findings = _Findings(parser, problems, "&" in text or "!" in text)
        _enter(parser, findings)
        _walk_map(parser, values, findings)
        _leave(parser, findings)
    except YAMLError as error:
        problems.append(syntax_problem(error, text))
    except Refused as refused:
        problems.append(refused.problem)
    except _Enough:
        pass
    return Head(values, tuple(problems))


def _enter(parser: EventParser, findings: _Findings) -> None:
    parser.get_event()
    if type(parser.get_event()) is parser.stream_end:
        raise Refused(
            Problem(
                "document.empty",
                "The file is empty.",
                line=1,
                column=1,
                hint="a workflow has at least `steps:`",
            )
        )
    root = parser.get_event()
    findings.check_properties(root)
    if type(root) is not parser.map_start:
        message = "The file is not a map of keys such as `steps:`."
        raise Refused(findings.at(root, "document.not_a_map", message))


def _leave(parser: EventParser, findings: _Findings) -> None:
    parser.get_event()  # the end of the document
    event = parser.get_event()
    if type(event) is not parser.stream_end:
        message = "A second document begins here; a file holds one workflow."
        hint = "put it into a file of its own"
        findings.add(event, "document.multiple", message, hint=hint)


def _walk_map(parser: EventParser, values: dict[str, Any], findings: _Findings) -> None:
    # Invariants. `keys` maps the innermost map's keys to their marks, or is None inside a list.
    # `key` is a key whose value is awaited. `sink` is what is being built for the innermost
    # container, or None. `only` limits which keys of a map are built (and makes their scalars
    # text); a list hands it to the maps in it. `stack` holds the same five of the containers
    # around. Events are let go at once: a hundred kept ones would set off the collector.
    get_event, has_properties = parser.get_event, findings.may_have_properties
    scalar, map_start, list_start = parser.scalar, parser.map_start, parser.list_start
    alias = parser.alias
    stack: list[_Frame] = []
    keys: dict[str, Any] | None = {}
    key: str | None = None
    index = 0
    sink: Any = values
    only: frozenset[str] | None = WANTED
    for _ in range(MAX_EVENTS):
        event: Any = get_event()
        kind = type(event)
        if kind is scalar:
            if has_properties and (event.anchor is not None or event.tag is not None):
                findings.check_properties(event)
            text = event.value
            if keys is None:
                index += 1
                if sink is not None:
                    sink.append(_value(event, text, only))
            elif key is None:
                if text in keys:
                    findings.duplicate(event, keys[text], _path(stack, keys, text, index))
                elif not text or text == "<<":
                    findings.odd_key(event)
                keys[text] = event.start_mark
                key = text
            else:
                if sink is not None and (only is None or key in only):
                    sink[key] = _value(event, text, only)
                key = None
        elif kind is map_start or kind is list_start:
            if has_properties and (event.anchor is not None or event.tag is not None):
                findings.check_properties(event)
            if keys is not None and key is None:
                raise Refused(findings.at(event, *_COMPLEX_KEY))
            if len(stack) + 1 >= MAX_DEPTH:
                message = f"Maps and lists are nested deeper than {MAX_DEPTH} levels."
                raise Refused(findings.at(event, "document.too_deep", message))
            is_map = kind is map_start
            inner: Any = None
            if sink is not None and (keys is None or only is None or key in only):
                inner = {} if is_map else []
                if keys is None:
                    sink.append(inner)
                else:
                    sink[key] = inner
            stack.append((keys, key, index, sink, only))
            if keys is not None:
                is_steps = only is WANTED and not is_map and key in _STEP_LISTS
                only = WANTED_OF_STEP if is_steps else None
            keys = {} if is_map else None
            key = None
            index = 0
            sink = inner
        elif kind is alias:
            findings.alias(event, _path(stack, keys, key, index))
            if keys is None:
                index += 1
            else:
                key = "*" if key is None else None
        else:  # the end of a map or a list
            if not stack:
                return
            keys, key, index, sink, only = stack.pop()
            if keys is None:
                index += 1
            else:
                key = None
    message = f"The file has more than {MAX_EVENTS:,} parts."
    raise Refused(findings.at(event, "document.too_complex", message))


_COMPLEX_KEY = (
    "document.key",
    "A key is a map or a list; keys are text.",
    "",
    'quote the value when it begins with a bracket, as in "${{ … }}" or "{{ … }}"',
)


def _value(event: Any, text: str, only: frozenset[str] | None) -> Any:
    """What is built of a scalar: its text where only some keys are wanted, else its value."""
    if not event.implicit[0]:
        return text
    try:
        value = read_plain(text)
    except NumberError:
        return text  # composing the file says so, with the path
    return text if only is not None and value is not None else value


def _path(stack: list[_Frame], keys: dict[str, Any] | None, key: str | None, index: int) -> str:
    """Where the walk stands: `steps[2].env`."""
    parts: list[str] = []
    for outer_keys, outer_key, outer_index, _, _ in (*stack, (keys, key, index, None, None)):
        if outer_keys is None:
            parts.append(f"[{outer_index}]")
        elif outer_key is not None:
            parts.append(f".{outer_key[:80]}" if parts else outer_key[:80])
    return "".join(parts)


class _Enough(Exception):  # noqa: N818  # not an error: the findings are the answer
    """There are as many findings as are told."""


class _Findings:
    """The findings of one walk, each with the place of its event."""

    def __init__(
        self, parser: EventParser, problems: list[Problem], may_have_properties: bool
    ) -> None:
        self.may_have_properties = may_have_properties
        """Whether the text has a sign with which an anchor or a tag begins."""
        self._parser = parser
        self._problems = problems
        self._anchors = 0

    def add(
        self, event: Any, code: str, message: str, path: str = "", hint: str | None = None
    ) -> None:
        self._problems.append(self.at(event, code, message, path, hint))
        if len(self._problems) >= MAX_PROBLEMS:
            raise _Enough

    def at(
        self, event: Any, code: str, message: str, path: str = "", hint: str | None = None
    ) -> Problem:
        line, column = self._parser.position(event.start_mark)
        end_line, end_column = self._parser.position(event.end_mark)
        return Problem(
            code,
            display(message, 400),
            line=line + 1,
            column=column + 1,
            end_line=end_line + 1,
            end_column=end_column + 1,
            path=display(path, 200),
            hint=hint,
        )

    def check_properties(self, event: Any) -> None:
        """Note a tag, or an anchor too many."""
        tag = getattr(event, "tag", None)
        if tag is not None:
            message = f"The tag `{tag[:80]}` is not supported."
            hint = "remove it, or quote the value when the `!` belongs to it"
            self.add(event, "document.tag", message, hint=hint)
        if getattr(event, "anchor", None) is not None and type(event) is not self._parser.alias:
            self._anchors += 1
            if self._anchors == MAX_ANCHORS + 1:
                message = f"The file has more than {MAX_ANCHORS} anchors (`&name`)."
                self.add(event, "document.anchors", message, hint="remove them")

    def duplicate(self, event: Any, first_mark: Any, path: str) -> None:
        line, column = self._parser.position(first_mark)
        name = event.value[:80]
        message = f"The key `{name}` stands twice; first in line {line + 1}, column {column + 1}."
        self.add(event, "document.duplicate_key", message, path, "remove one of them")

    def odd_key(self, event: Any) -> None:
        """Note a key that is empty or `<<`, unless it is in quotes."""
        if not event.implicit[0]:
            return
        if event.value == "<<":
            message = "The merge key `<<` is not supported."
            self.add(event, "document.merge_key", message, hint="write the keys out")
        else:
            self.add(event, "document.key", "There is no key before the `:`.")

    def alias(self, event: Any, path: str) -> None:
        message = f"`*{event.anchor[:80]}` is an alias; aliases are not supported."
        hint = "write the value out, or quote it when the `*` belongs to the text"
        self.add(event, "document.alias", message, path, hint)
