"""What the index says of one workflow file.

An entry is made from the head of the file alone: nothing is resolved, evaluated or looked up. Every
text in it is bounded, printable and redacted, because it is shown to people and models before
anyone has looked at the file.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from fleetprompt_indexer.display import display
from fleetprompt_indexer.names import FORMATS, ending_of, raw, shown
from fleetprompt_indexer.problem import Problem
from fleetprompt_indexer.vocabulary import NAMESPACES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetprompt_indexer.events import Format
    from fleetprompt_indexer.reader import FileContent, Signature

Status = Literal["unvalidated", "valid", "invalid", "stale", "unreadable"]
"""`unreadable`: no text could be taken. `invalid`: the file has errors. `stale`: it is gone or was
not looked at in the last scan. The agent's validation alone makes an entry `valid`."""

ID_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
"""What a workflow's id looks like."""

PARSER_VERSION = 1
"""Counts up when the same bytes would give another entry; older entries are made anew."""

MAX_NAME = 120
MAX_DESCRIPTION = 2000
MAX_VERSION = 64
MAX_TOOLS = 100
MAX_TOOL = 128
MAX_SUMMARY = 32
"""Inputs, or outputs, that a summary names."""
MAX_SUMMARY_TEXT = 200

_AGENT_TOOL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}/[A-Za-z0-9_.-]{1,128}\Z")


@dataclass(frozen=True, slots=True)
class Entry:
    """One workflow file, as it is listed."""

    workflow_id: str
    name: str
    """The id when the file gives no name."""
    description: str | None
    version: str | None
    """As it is written: `1.10` stays `1.10`."""
    file_path: str
    """Relative to the root, as it is shown: bytes that are not UTF-8 as `\\xff`."""
    declared_agents: tuple[str, ...] = ()
    """Ids of the agents whose tools the steps name."""
    declared_tools: tuple[str, ...] = ()
    """Tool ids that the steps name, each once, in the order of the file: `cli:gh`."""
    inputs_schema_summary: dict[str, Any] = field(default_factory=dict)
    """`{name: {type, required, default?, description?}}`."""
    outputs_schema_summary: dict[str, Any] = field(default_factory=dict)
    """`{name: {value?}}`, the value as it is written."""
    sha256: str | None = None
    """Of the file's bytes; None when they could not be read."""
    status: Status = "unvalidated"
    problems: tuple[Problem, ...] = ()
    relative: bytes = b""
    """The path as the file system has it."""
    signature: Signature | None = None
    tenant: str = "local"

    def to_json(self) -> dict[str, Any]:
        """The entry as `fp_list_workflows` gives it."""
        return {
            "workflow_id": self.workflow_id,
            "name": self.name,
            "description": self.description,
            "version": self.version,
            "file_path": self.file_path,
            "declared_agents": list(self.declared_agents),
            "declared_tools": list(self.declared_tools),
            "inputs_schema_summary": self.inputs_schema_summary,
            "outputs_schema_summary": self.outputs_schema_summary,
            "sha256": self.sha256,
            "status": self.status,
            "problems": [problem.to_json() for problem in self.problems],
        }

    def with_problem(self, problem: Problem) -> Entry:
        """The same entry with one more finding."""
        return replace(self, problems=(*self.problems, problem))


def format_of(relative: str | bytes) -> Format:
    """The format that a file's name stands for; YAML when it stands for none."""
    data = relative if isinstance(relative, bytes) else raw(relative)
    return "json" if FORMATS.get(ending_of(data)) == "json" else "yaml"


def describe(content: FileContent, relative: bytes, *, given_id: str | None = None) -> Entry:
    """The entry of a file that was read.

    Args:
        content: One state of the file.
        relative: Its path beneath the root.
        given_id: The id that the root's configuration gives it, in place of the file's stem.
    """
    from fleetprompt_indexer.walker import walk  # with PyYAML: not for who only asks the catalog

    head = walk(content.data, format=format_of(relative))
    values = head.values
    notes = _Notes(list(head.problems))
    workflow_id = _id(values, relative, given_id, notes)
    description = notes.text(values, "description", MAX_DESCRIPTION, lines=True)
    steps = [*_steps(values, "steps"), *_steps(values, "finally")]
    tools, agents = _tools(steps)
    inputs = values.get("inputs", values.get("args"))
    file_path = shown(relative)
    codes = {problem.code for problem in notes.problems if problem.severity == "error"}
    status: Status = "unvalidated"
    if codes:
        status = "unreadable" if "document.encoding" in codes else "invalid"
    return Entry(
        workflow_id=workflow_id,
        name=notes.text(values, "name", MAX_NAME) or workflow_id,
        description=description,
        version=notes.text(values, "version", MAX_VERSION),
        file_path=file_path,
        declared_agents=agents,
        declared_tools=tools,
        inputs_schema_summary=_inputs(notes.mapping(inputs, "inputs")),
        outputs_schema_summary=_outputs(notes.mapping(values.get("outputs"), "outputs")),
        sha256=content.sha256,
        status=status,
        problems=tuple(problem.in_file(file_path) for problem in notes.problems),
        relative=relative,
        signature=content.signature,
    )


def refused_entry(
    problem: Problem,
    relative: bytes,
    *,
    given_id: str | None = None,
    signature: Signature | None = None,
) -> Entry:
    """The entry of a file that could not be read."""
    file_path = shown(relative)
    workflow_id = given_id or _stem(relative)
    return Entry(
        workflow_id=workflow_id,
        name=workflow_id,
        description=None,
        version=None,
        file_path=file_path,
        status="unreadable",
        problems=(problem.in_file(file_path),),
        relative=relative,
        signature=signature,
    )


def mark_ambiguous(entries: list[Entry]) -> list[Entry]:
    """The entries of one root, with a finding for each id that several files claim."""
    places: dict[str, list[str]] = {}
    for entry in entries:
        places.setdefault(entry.workflow_id, []).append(entry.file_path)
    marked = []
    for entry in entries:
        others = [path for path in places[entry.workflow_id] if path != entry.file_path]
        if others:
            message = f"The id `{entry.workflow_id}` is also that of {', '.join(others[:3])}."
            entry = entry.with_problem(
                Problem(
                    "workflow.ambiguous",
                    message,
                    file=entry.file_path,
                    path="id",
                    hint="give each its own `id:`",
                )
            )
        marked.append(entry)
    return marked


class _Notes:
    """Collects findings while fields are taken from the head of a file."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def text(
        self, values: dict[str, Any], name: str, limit: int, *, lines: bool = False
    ) -> str | None:
        value = values.get(name)
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            self.shape(name, "text")
            return None
        if len(value) > limit:
            message = f"`{name}` has {len(value):,} characters; {limit:,} are kept."
            self.problems.append(Problem("workflow.cut", message, "warning", path=name))
        return display(value, limit, lines=lines)

    def mapping(self, value: object, name: str) -> dict[str, Any]:
        if value is None or isinstance(value, dict):
            return value or {}
        self.shape(name, "a map")
        return {}

    def shape(self, name: str, expected: str) -> None:
        message = f"`{name}` is not {expected}."
        self.problems.append(Problem("workflow.shape", message, "warning", path=name))


def _id(values: dict[str, Any], relative: bytes, given_id: str | None, notes: _Notes) -> str:
    written = values.get("id")
    stem = given_id or _stem(relative)
    if written is None:
        if not ID_PATTERN.match(stem):
            message = f"`{stem}` is not an id."
            notes.problems.append(Problem("workflow.id", message, path="id", hint=_ID_HINT))
        return stem
    if not isinstance(written, str) or not ID_PATTERN.match(written):
        named = f"`{display(written, 80)}`" if isinstance(written, str) else "The id"
        message = f"{named} is not an id."
        notes.problems.append(Problem("workflow.id", message, path="id", hint=_ID_HINT))
        return stem
    if given_id is not None and given_id != written:
        message = f"The file says `{written}`, the root's config.toml `{given_id}`."
        notes.problems.append(Problem("workflow.id", message, path="id"))
    return written


_ID_HINT = "write `id:` with up to 64 of a-z 0-9 . _ -, beginning with a letter or digit"


def _stem(relative: bytes) -> str:
    name = relative[relative.rfind(b"/") + 1 :]
    dot = name.rfind(b".")
    return shown(name[:dot] if dot > 0 else name)


def _steps(values: dict[str, Any], name: str) -> Iterable[dict[str, Any]]:
    steps = values.get(name)
    return (s for s in steps if isinstance(s, dict)) if isinstance(steps, list) else ()


def _tools(steps: Iterable[dict[str, Any]]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    tools: dict[str, None] = {}
    agents: dict[str, None] = {}
    for step in steps:
        tool, command = step.get("tool"), step.get("command")
        if isinstance(tool, str):
            tool_id = _tool_id(tool)
        elif isinstance(command, str):
            tool_id = _tool_id_of_command(command)
        else:
            continue
        if tool_id is None or tool_id in tools:
            continue
        if len(tools) >= MAX_TOOLS:
            break
        if "/" in tool_id and _AGENT_TOOL.match(tool_id):
            agents[tool_id.partition("/")[0]] = None
        tools[tool_id] = None
    shown_tools = dict.fromkeys(display(tool_id, MAX_TOOL) for tool_id in tools)
    return tuple(shown_tools), tuple(display(agent, MAX_TOOL) for agent in agents)


def _tool_id(tool: str) -> str | None:
    if "${{" in tool:
        return None
    namespace, colon, rest = tool.partition(":")
    if colon and namespace.lower() in NAMESPACES:
        return f"{namespace.lower()}:{rest.strip()}"
    if tool.lower() == "llm":  # the only one that can be called without saying which
        return "llm"
    return tool if _AGENT_TOOL.match(tool) else None


def _tool_id_of_command(command: str) -> str | None:
    """The tool id of a command line: its namespace and the word or two that name the tool."""
    words = command.split(None, 3)[:3]
    if not words:
        return None
    namespace = words[0].lower()
    if namespace not in NAMESPACES:
        return words[0] if _AGENT_TOOL.match(words[0]) else None
    if len(words) == 1 or namespace == "llm":
        return namespace
    name = words[1].strip("\"'")
    if "${{" in name:
        return namespace
    match namespace:
        case "http":
            return f"http:{name.upper()}"
        case "mcp":
            return f"mcp:{name.replace('.', '/', 1)}"
        case "node" if len(words) == 3 and "${{" not in words[2]:
            return f"node:{name}/{words[2]}"
    return f"{namespace}:{name}"


def _inputs(inputs: dict[str, Any]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name, schema in list(inputs.items())[:MAX_SUMMARY]:
        given = schema if isinstance(schema, dict) else {}
        kind = given.get("type")
        if kind is None and "default" in given:
            kind = _json_type(given["default"])
        line: dict[str, Any] = {
            "type": display(_compact(kind), MAX_SUMMARY_TEXT) if kind is not None else "any",
            "required": given.get("required") is True,
        }
        if "default" in given:
            line["default"] = _short_value(given["default"])
        if isinstance(given.get("description"), str):
            line["description"] = display(given["description"], MAX_SUMMARY_TEXT)
        summary[display(name, 64)] = line
    return summary


def _outputs(outputs: dict[str, Any]) -> dict[str, Any]:
    return {
        display(name, 64): {"value": _short_value(value)}
        for name, value in list(outputs.items())[:MAX_SUMMARY]
    }


def _short_value(value: Any) -> Any:
    """A value as it may be listed: texts redacted, longer things as cut JSON text."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return display(_compact(value), MAX_SUMMARY_TEXT)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""`json.dumps` would make an encoder for every call."""


def _compact(value: Any) -> str:
    if isinstance(value, str):
        return value
    return _encode(value)


def _json_type(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"
