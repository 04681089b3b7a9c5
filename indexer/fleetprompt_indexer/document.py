"""A YAML or JSON file as a tree in which every key and value knows its place.

The walker passes the file first: whatever is composed here is one document of bounded depth and
size, with text keys that are each there once, and without aliases or tags.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fleetprompt_indexer.display import display
from fleetprompt_indexer.events import decode, open_parser
from fleetprompt_indexer.problem import Problem
from fleetprompt_indexer.scalars import NumberError, Scalar, read_plain
from fleetprompt_indexer.walker import MAX_PROBLEMS, walk
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fleetprompt_indexer.events import EventParser, Format

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
    composer = _Composer(parser)
    root = composer.node(parser.get_event())
    if composer.problems:
        raise _error((*head.problems, *composer.problems), file)
    assert isinstance(root, MapNode)  # noqa: S101  # the walker refuses any other root
    return root


class _Composer:
    """Turns events into nodes; recursion is bound by the walker's depth limit."""

    def __init__(self, parser: EventParser) -> None:
        self._get_event: Callable[[], Any] = parser.get_event
        self._position = parser.position
        self._scalar_type = parser.scalar
        self._list_type = parser.list_start
        self._map_type = parser.map_start
        self._path: list[str] = []
        self.problems: list[Problem] = []

    def node(self, event: Any) -> Node:
        kind = type(event)
        if kind is self._scalar_type:
            return self._scalar(event)
        return self._list(event) if kind is self._list_type else self._map(event)

    def _list(self, start: Any) -> ListNode:
        items: list[Node] = []
        node_types = (self._scalar_type, self._list_type, self._map_type)
        self._path.append("")
        while type(event := self._get_event()) in node_types:
            self._path[-1] = f"[{len(items)}]"
            items.append(self.node(event))
        self._path.pop()
        span = self._container_span(start, event, items[-1].span if items else None)
        return ListNode(tuple(items), bool(start.flow_style), span)

    def _map(self, start: Any) -> MapNode:
        entries: list[tuple[ScalarNode, Node]] = []
        last: Span | None = None
        self._path.append("")
        while type(event := self._get_event()) is self._scalar_type:
            text: str = event.value
            key = ScalarNode(text, text, _style(event), self._span(event, event))
            self._path[-1] = f".{text}"
            value = self.node(self._get_event())
            last = value.span
            entries.append((key, value))
        self._path.pop()
        span = self._container_span(start, event, last)
        return MapNode(tuple(entries), bool(start.flow_style), span)

    def _span(self, first: Any, last: Any) -> Span:
        line, column = self._position(first.start_mark)
        end_line, end_column = self._position(last.end_mark)
        return Span(line + 1, column + 1, end_line + 1, end_column + 1)

    def _container_span(self, start: Any, end: Any, last: Span | None) -> Span:
        # A block map "ends" where the next token begins; its last value ends where a reader would
        # say that the map does.
        span = self._span(start, end)
        if start.flow_style or last is None:
            return span
        return Span(span.line, span.column, last.end_line, last.end_column)

    def _scalar(self, event: Any) -> ScalarNode:
        text: str = event.value
        span = self._span(event, event)
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


def _style(event: Any) -> Style:
    if event.implicit[0]:
        return "plain"
    return "block" if event.style in ("|", ">") else "quoted"


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
