"""A YAML or JSON file as a tree in which every key and value knows its place.

What is composed is one document of bounded depth and size, with text keys that are each there once,
and without aliases or tags. One pass composes and notices where that does not hold; only then the
walker passes over the file as well, and says what is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from yaml import YAMLError

from fleetprompt_indexer.display import display
from fleetprompt_indexer.events import decode, open_parser
from fleetprompt_indexer.problem import Problem, Refused
from fleetprompt_indexer.scalars import NumberError, Scalar, read_plain
from fleetprompt_indexer.walker import MAX_DEPTH, MAX_EVENTS, MAX_PROBLEMS, walk
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from fleetprompt_indexer.events import EventParser, Format

    Position: TypeAlias = Callable[[Any], tuple[int, int]]

Style = Literal["plain", "quoted", "block"]
"""`plain`: no quotes. `quoted`: single or double quotes. `block`: after `|` or `>`."""


class Span(NamedTuple):
    """A range of the file: lines and columns from 1, columns in characters, the end exclusive."""

    line: int
    column: int
    end_line: int
    end_column: int


class _Placed:
    """A part of the tree. Few places are ever asked for: each is worked out when it is."""

    __slots__ = ("_end", "_position", "_start")

    def __init__(self, position: Position, start: Any, end: Any) -> None:
        self._position = position
        """Reads the two marks, which are the parser's."""
        self._start = start
        self._end = end

    @property
    def span(self) -> Span:
        """Where it stands, quotes and brackets included."""
        line, column = self._position(self._start)
        end_line, end_column = self._position(self._end)
        return Span(line + 1, column + 1, end_line + 1, end_column + 1)


class ScalarNode(_Placed):
    """One value that is neither a map nor a list; also every key, whose value is its text."""

    __slots__ = ("style", "text", "value")

    def __init__(
        self, value: Scalar, text: str, style: Style, position: Position, start: Any, end: Any
    ) -> None:
        self.value = value
        self.text = text
        """What was written, without quotes, escapes resolved: `1.10` where `value` is 1.1."""
        self.style = style
        self._position = position  # as in `_Placed`; the call of it would be a fifth of composing
        self._start = start
        self._end = end

    def to_python(self) -> Scalar:
        """The value."""
        return self.value


class ListNode(_Placed):
    """A list."""

    __slots__ = ("is_flow", "items")

    def __init__(
        self, items: tuple[Node, ...], is_flow: bool, position: Position, start: Any, end: Any
    ) -> None:
        super().__init__(position, start, end)
        self.items = items
        self.is_flow = is_flow
        """Written with brackets."""

    def to_python(self) -> list[Any]:
        """The list as plain data."""
        return [item.to_python() for item in self.items]


class MapNode(_Placed):
    """A map, in the order of the file."""

    __slots__ = ("by_name", "is_flow")

    def __init__(
        self,
        by_name: dict[str, tuple[ScalarNode, Node]],
        is_flow: bool,
        position: Position,
        start: Any,
        end: Any,
    ) -> None:
        super().__init__(position, start, end)
        self.by_name = by_name
        """Each key and its value, by the key's text."""
        self.is_flow = is_flow
        """Written with braces."""

    @property
    def entries(self) -> Collection[tuple[ScalarNode, Node]]:
        """Each key and its value."""
        return self.by_name.values()

    def get(self, name: str) -> Node | None:
        """The value of the key, or None when there is no such key."""
        entry = self.by_name.get(name)
        return entry[1] if entry is not None else None

    def key(self, name: str) -> ScalarNode | None:
        """The key itself, with its place."""
        entry = self.by_name.get(name)
        return entry[0] if entry is not None else None

    def without(self, names: Collection[str]) -> MapNode:
        """The map at its place, less these keys."""
        kept = {name: entry for name, entry in self.by_name.items() if name not in names}
        return MapNode(kept, self.is_flow, self._position, self._start, self._end)

    def to_python(self) -> dict[str, Any]:
        """The map as plain data."""
        return {name: value.to_python() for name, (_, value) in self.by_name.items()}


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
    text, _ = decode(data)
    root: MapNode | None = None
    is_certain = False
    bad_numbers: list[tuple[ScalarNode, str]] = []
    try:
        composer = _Composer(open_parser(text, format=format), "&" in text or "!" in text)
        root = composer.document()
        is_certain, bad_numbers = not composer.has_doubts, composer.bad_numbers
    except (YAMLError, Refused, _Unsound):
        pass  # the walker meets it too, and says what it is
    if root is not None and is_certain and not bad_numbers:
        return root
    head = walk(data, format=format)
    if not head.is_sound:
        raise _error(head.problems, file)
    assert root is not None  # noqa: S101  # nothing ends a composition that the walker lets pass
    if bad_numbers:
        raise _error((*head.problems, *_number_problems(root, bad_numbers)), file)
    return root


class _Unsound(Exception):  # noqa: N818  # not an error: the walker has the words
    """There is something that cannot stand in a tree."""


class _Composer:
    """Turns events into nodes; recursion is bound by the depth limit."""

    def __init__(self, parser: EventParser, may_have_properties: bool) -> None:
        self._get_event: Callable[[], Any] = parser.get_event
        self._position = parser.position
        self._scalar_type = parser.scalar
        self._list_type = parser.list_start
        self._map_type = parser.map_start
        self._stream_end = parser.stream_end
        self._nodes = (parser.scalar, parser.list_start, parser.map_start, parser.alias)
        self._may_have_properties = may_have_properties
        """Whether the text has a sign with which an anchor or a tag begins."""
        self._parts = 0
        self.has_doubts = False
        """Whether the walker must have seen the file before the tree may be used."""
        self.bad_numbers: list[tuple[ScalarNode, str]] = []
        """What is a number for YAML and cannot be one for JSON, and why."""

    def document(self) -> MapNode:
        """The root of the document.

        Raises:
            _Unsound: It is empty or no map, another one follows, or a limit is not kept.
            YAMLError, Refused: The text is not well-formed.
        """
        get_event = self._get_event
        get_event()  # the start of the stream
        if type(get_event()) is self._stream_end:
            raise _Unsound
        start = get_event()
        if type(start) is not self._map_type:
            raise _Unsound
        root = self._map(start, 1)
        get_event()  # the end of the document
        if type(get_event()) is not self._stream_end:
            raise _Unsound
        return root

    def _node(self, event: Any, depth: int) -> Node:
        """What begins with this event, inside a container of this depth."""
        kind = type(event)
        if kind is self._scalar_type:
            return self._scalar(event)
        if depth >= MAX_DEPTH:
            raise _Unsound
        if kind is self._map_type:
            return self._map(event, depth + 1)
        if kind is self._list_type:
            return self._list(event, depth + 1)
        raise _Unsound  # an alias

    def _list(self, start: Any, depth: int) -> ListNode:
        self._check_properties(start)
        items: list[Node] = []
        get_event, nodes = self._get_event, self._nodes
        for _ in range(MAX_EVENTS):
            event = get_event()
            if type(event) not in nodes:
                break
            items.append(self._node(event, depth))
        self._count(len(items) + 1)
        # A block "ends" where the next token begins; its last value ends where a reader would say
        # that the block does.
        is_flow = bool(start.flow_style)
        end = event.end_mark if is_flow or not items else items[-1]._end
        return ListNode(tuple(items), is_flow, self._position, start.start_mark, end)

    def _map(self, start: Any, depth: int) -> MapNode:
        self._check_properties(start)
        entries: dict[str, tuple[ScalarNode, Node]] = {}
        get_event, position, scalar_type = self._get_event, self._position, self._scalar_type
        count = 0
        node: Node | None = None
        while type(event := get_event()) is scalar_type:
            text: str = event.value
            if not text or text == "<<":
                self.has_doubts = True
            self._check_properties(event)
            key = ScalarNode(text, text, _style(event), position, event.start_mark, event.end_mark)
            node = self._node(get_event(), depth)
            entries[text] = (key, node)
            count += 1
        if type(event) in self._nodes:  # a map, a list or an alias as a key
            raise _Unsound
        if len(entries) < count:  # one stands twice
            self.has_doubts = True
        self._count(2 * count + 1)
        is_flow = bool(start.flow_style)
        end = event.end_mark if is_flow or node is None else node._end
        return MapNode(entries, is_flow, position, start.start_mark, end)

    def _scalar(self, event: Any) -> ScalarNode:
        self._check_properties(event)
        text: str = event.value
        start, end = event.start_mark, event.end_mark
        if not event.implicit[0]:
            return ScalarNode(text, text, _style(event), self._position, start, end)
        try:
            return ScalarNode(read_plain(text), text, "plain", self._position, start, end)
        except NumberError as error:
            node = ScalarNode(None, text, "plain", self._position, start, end)
            self.bad_numbers.append((node, str(error)))
            return node

    def _check_properties(self, event: Any) -> None:
        """Leave tags, and anchors too many, to the walker."""
        if self._may_have_properties and (event.anchor is not None or event.tag is not None):
            self.has_doubts = True

    def _count(self, parts: int) -> None:
        """Count as the walker does: each scalar, and the start and the end of the others."""
        self._parts += parts
        if self._parts > MAX_EVENTS:
            raise _Unsound


def _style(event: Any) -> Style:
    if event.implicit[0]:
        return "plain"
    return "block" if event.style in ("|", ">") else "quoted"


def _number_problems(root: MapNode, bad: Sequence[tuple[ScalarNode, str]]) -> list[Problem]:
    """The findings, each with the way to its scalar."""
    reasons = {id(node): reason for node, reason in bad[:MAX_PROBLEMS]}
    problems: list[Problem] = []
    for node, path in _scalars(root, ""):
        reason = reasons.get(id(node))
        if reason is None:
            continue
        span = node.span
        problems.append(
            Problem(
                "document.number",
                f"{reason[:1].upper()}{reason[1:]}.",
                line=span.line,
                column=span.column,
                end_line=span.end_line,
                end_column=span.end_column,
                path=display(path[1:], 200),
                hint="quote it to keep it as text",
            )
        )
    return problems


def _scalars(node: Node, path: str) -> Iterator[tuple[ScalarNode, str]]:
    match node:
        case ScalarNode():
            yield node, path
        case ListNode():
            for place, item in enumerate(node.items):
                yield from _scalars(item, f"{path}[{place}]")
        case MapNode():
            for name, (_, value) in node.by_name.items():
                yield from _scalars(value, f"{path}.{name}")


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
