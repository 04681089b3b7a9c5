"""A YAML or JSON file as a tree in which every key and value knows its place.

The walker passes the file first: whatever is composed here is one document of bounded depth and
size, with text keys that are each there once, and without aliases or tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from yaml.events import MappingStartEvent, ScalarEvent, SequenceStartEvent

from fleetprompt_indexer.display import display
from fleetprompt_indexer.events import decode, open_parser
from fleetprompt_indexer.problem import Problem
from fleetprompt_indexer.scalars import NumberError, Scalar, read_plain
from fleetprompt_indexer.walker import MAX_PROBLEMS, walk
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from yaml.events import Event

    from fleetprompt_indexer.events import Format

Style = Literal["plain", "quoted", "block"]
"""`plain`: no quotes. `quoted`: single or double quotes. `block`: after `|` or `>`."""


@dataclass(frozen=True, slots=True)
class Span:
    """A range of the file: lines and columns from 1, columns in characters, the end exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """One value that is neither a map nor a list; also every key, whose value is its text."""

    value: Scalar
    text: str
    """What was written, without quotes, escapes resolved: `1.10` where `value` is 1.1."""
    style: Style
    span: Span
    """Quotes included."""

    def to_python(self) -> Scalar:
        """The value."""
        return self.value


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    is_flow: bool
    """Written with brackets."""
    span: Span

    def to_python(self) -> list[Any]:
        """The list as plain data."""
        return [item.to_python() for item in self.items]


@dataclass(frozen=True, slots=True)
class MapNode:
    """A map, in the order of the file."""

    entries: tuple[tuple[ScalarNode, Node], ...]
    is_flow: bool
    """Written with braces."""
    span: Span

    def get(self, name: str) -> Node | None:
        """The value of the key, or None when there is no such key."""
        return next((value for key, value in self.entries if key.text == name), None)

    def key(self, name: str) -> ScalarNode | None:
        """The key itself, with its place."""
        return next((key for key, _ in self.entries if key.text == name), None)

    def to_python(self) -> dict[str, Any]:
        """The map as plain data."""
        return {key.text: value.to_python() for key, value in self.entries}


Node: TypeAlias = MapNode | ListNode | ScalarNode


def compose(data: bytes, *, format: Format, file: str) -> MapNode:  # noqa: A002  # users' word
    """The tree of a file's bytes; a workflow file is a map.

    Args:
        data: What the file holds.
        format: `yaml` or `json`.
        file: The name that findings carry.

    Raises:
        WorkflowError: `workflow.unreadable` when the bytes are not UTF-8, else `workflow.invalid`;
            `details["diagnostics"]` lists every finding.
    """
    head = walk(data, format=format)
    if not head.is_sound:
        raise _error(head.problems, file)
    text, _ = decode(data)
    parser = open_parser(text, format=format)
    for _ in range(2):  # the starts of stream and document
        parser.get_event()
    composer = _Composer(parser.get_event)
    root = composer.node(parser.get_event())
    if composer.problems:
        raise _error((*head.problems, *composer.problems), file)
    assert isinstance(root, MapNode)  # noqa: S101  # the walker refuses any other root
    return root


class _Composer:
    """Turns events into nodes; recursion is bound by the walker's depth limit."""

    def __init__(self, get_event: Callable[[], Event]) -> None:
        self._get_event = get_event
        self._path: list[str] = []
        self.problems: list[Problem] = []

    def node(self, event: Any) -> Node:
        kind = type(event)
        if kind is ScalarEvent:
            return self._scalar(event)
        if kind is SequenceStartEvent:
            return self._list(event)
        return self._map(event)

    def _list(self, start: Any) -> ListNode:
        items: list[Node] = []
        self._path.append("")
        while type(event := self._get_event()) in _NODE_STARTS:
            self._path[-1] = f"[{len(items)}]"
            items.append(self.node(event))
        self._path.pop()
        last = items[-1].span if items else None
        return ListNode(tuple(items), bool(start.flow_style), _container_span(start, event, last))

    def _map(self, start: Any) -> MapNode:
        entries: list[tuple[ScalarNode, Node]] = []
        last: Span | None = None
        self._path.append("")
        while type(event := self._get_event()) is ScalarEvent:
            text = event.value
            key = ScalarNode(text, text, _style(event), _span(event))
            self._path[-1] = f".{text}"
            value = self.node(self._get_event())
            last = value.span
            entries.append((key, value))
        self._path.pop()
        span = _container_span(start, event, last)
        return MapNode(tuple(entries), bool(start.flow_style), span)

    def _scalar(self, event: Any) -> ScalarNode:
        text: str = event.value
        span = _span(event)
        if not event.implicit[0]:
            return ScalarNode(text, text, _style(event), span)
        try:
            return ScalarNode(read_plain(text), text, "plain", span)
        except NumberError as error:
            self._refuse_number(str(error), span)
            return ScalarNode(None, text, "plain", span)

    def _refuse_number(self, reason: str, span: Span) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(
                Problem(
                    "document.number",
                    f"{reason[:1].upper()}{reason[1:]}.",
                    line=span.line,
                    column=span.column,
                    end_line=span.end_line,
                    end_column=span.end_column,
                    path=display("".join(self._path)[1:], 200),
                    hint="quote it to keep it as text",
                )
            )


_NODE_STARTS = (ScalarEvent, MappingStartEvent, SequenceStartEvent)


def _style(event: Any) -> Style:
    if event.implicit[0]:
        return "plain"
    return "block" if event.style in ("|", ">") else "quoted"


def _span(event: Any) -> Span:
    start, end = event.start_mark, event.end_mark
    return Span(start.line + 1, start.column + 1, end.line + 1, end.column + 1)


def _container_span(start: Any, end: Any, last: Span | None) -> Span:
    # A block map "ends" where the next token begins; its last value ends where a reader would say.
    begin, mark = start.start_mark, end.end_mark
    if start.flow_style or last is None:
        return Span(begin.line + 1, begin.column + 1, mark.line + 1, mark.column + 1)
    return Span(begin.line + 1, begin.column + 1, last.end_line, last.end_column)


def _error(problems: Sequence[Problem], file: str) -> WorkflowError:
    named = [problem.in_file(file) for problem in problems]
    first = next(problem for problem in named if problem.severity == "error")
    place = f"{file}:{first.line}:{first.column}" if first.line else file
    count = sum(problem.severity == "error" for problem in named)
    more = f" ({count - 1} more)" if count > 1 else ""
    is_text = first.code != "document.encoding"
    return WorkflowError(
        "workflow.invalid" if is_text else "workflow.unreadable",
        f"{place}: {first.message}{more}",
        details={"diagnostics": [problem.to_json() for problem in named]},
        where={"file": file, "line": first.line, "column": first.column},
    )
