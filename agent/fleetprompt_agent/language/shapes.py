"""A document's tree to models: every shape is checked, and each fault is put where it stands.

A field at fault is reported, taken out, and the rest is read on, so that one pass over a file finds
everything. What was taken out is remembered, so that nothing complains of its absence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fleetprompt_agent.language import models
from fleetprompt_indexer.document import ListNode, MapNode, Node, ScalarNode
from fleetprompt_indexer.vocabulary import (
    STEP_FIELDS,
    WORKFLOW_FIELDS,
    closest,
    fields_of,
    hint_for_key,
)
from fleetprompt_protocol.redaction import find_secret

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_indexer.vocabulary import Level

STEP_LISTS = ("steps", "finally")
_BY_ENTRY = ("inputs", "outputs", "secrets", "env")
"""Maps at the top of which one entry is taken out, and not the whole."""
_TAGGED = ("approval", "output")
"""Fields that are a word or a map; pydantic puts which one after the field's name."""
_ROUNDS = 4

_MODELS: Mapping[str, type[BaseModel]] = {
    "allow": models.Allow,
    "approval": models.Approval,
    "ask": models.Ask,
    "concurrency": models.Concurrency,
    "defaults": models.Defaults,
    "limits": models.Limits,
    "output": models.Output,
    "retry": models.Retry,
    "tools": models.Tools,
}


@dataclass(slots=True)
class Shapes:
    """What could be read of a file."""

    workflow: models.Workflow
    removed: set[Location] = field(default_factory=set)
    """Fields that were at fault, or are not supported, and are not in `workflow`."""
    nodes: dict[Location, dict[str, Node]] = field(default_factory=dict)
    """The fields of each step by canonical name, without those in `removed`."""

    def has_unknown(self, location: Location) -> bool:
        """Whether a step has a key that the language does not know: perhaps what it should do."""
        return bool(self.removed) and any(
            place[:2] == location and place[2] not in STEP_FIELDS
            for place in self.removed
            if len(place) == 3
        )

    def is_removed(self, location: Location, *names: str) -> bool:
        """Whether one of these fields stood at the location and was taken out."""
        return bool(self.removed) and any((*location, name) in self.removed for name in names)


def read_shapes(
    root: MapNode, report: Report, also_supported: Collection[str] = ()
) -> Shapes | None:
    """The models of a document; None when there is nothing left to look at.

    Args:
        root: The document.
        report: Gets every finding.
        also_supported: Fields to take although the vocabulary says that they are not enforced.
    """
    removed: set[Location] = set()
    nodes: dict[Location, dict[str, Node]] = {}
    data = _plain_workflow(root, report, removed, nodes, also_supported)
    for _ in range(_ROUNDS):
        try:
            workflow = models.Workflow.model_validate(data)
            return Shapes(workflow, removed, _without(nodes, removed))
        except ValidationError as error:
            details = error.errors(include_url=False)
            for detail in details:
                _report(detail, report)
            if any(_location(detail) == ("steps",) for detail in details):
                return None
            for detail in details:
                _prune(data, _location(detail), removed)
    return None


def _without(
    nodes: dict[Location, dict[str, Node]], removed: set[Location]
) -> dict[Location, dict[str, Node]]:
    for location in removed:
        if len(location) == 3:  # the field of a step
            nodes.get(location[:2], {}).pop(str(location[2]), None)
    return nodes


# plain data


def _plain_workflow(
    root: MapNode,
    report: Report,
    removed: set[Location],
    nodes: dict[Location, dict[str, Node]],
    also_supported: Collection[str],
) -> dict[str, Any]:
    data: dict[str, Any] = {}
    fields = _fields(root, "workflow", (), report, removed, also_supported)
    for name, node in fields.items():
        if name in STEP_LISTS and isinstance(node, ListNode):
            data[name] = [
                _plain_step(item, (name, place), report, removed, nodes, also_supported)
                for place, item in enumerate(node.items)
            ]
        elif name == "version" and isinstance(node, ScalarNode) and node.value is not None:
            data[name] = node.text
        else:
            data[name] = _plain(name, node)
    return data


def _plain_step(
    node: Node,
    location: Location,
    report: Report,
    removed: set[Location],
    nodes: dict[Location, dict[str, Node]],
    also_supported: Collection[str],
) -> Any:
    if not isinstance(node, MapNode):
        return node.to_python()
    fields = _fields(node, "step", location, report, removed, also_supported)
    nodes[location] = fields
    return {name: _plain(name, value) for name, value in fields.items()}


def _plain(name: str, node: Node) -> Any:
    """Plain data; the values of variables are the text that was written (`1.10` stays `1.10`)."""
    if name == "env" and isinstance(node, MapNode):
        return {
            key.text: value.text
            if isinstance(value, ScalarNode) and value.value is not None
            else value.to_python()
            for key, value in node.entries
        }
    return node.to_python()


def _fields(
    node: MapNode,
    level: Level,
    location: Location,
    report: Report,
    removed: set[Location],
    also_supported: Collection[str],
) -> dict[str, Node]:
    """The entries by canonical name, without those that are refused."""
    table = fields_of(level)
    kept: dict[str, Node] = {}
    for written, (_, value) in node.by_name.items():
        name, known = written, table.get(written)
        if known is not None and known.canonical:
            name, known = known.canonical, table[known.canonical]
        if known is not None and not known.supported and name not in also_supported:
            _refuse_unsupported((*location, name), report)
            removed.add((*location, name))
        elif isinstance(value, ScalarNode) and value.value is None and known is not None:
            _refuse_empty((*location, name), report)
            removed.add((*location, name))
        elif name in kept:
            message = f"`{name}` stands twice, once by another name; keep `{name}`"
            report.add("field.twice", message, (*location, written), on_key=True)
        else:
            if name in _MODELS and isinstance(value, MapNode):
                value = _inner(value, (*location, name), report, also_supported)
            kept[name] = value
    return kept


def _inner(
    node: MapNode, location: Location, report: Report, also_supported: Collection[str]
) -> MapNode:
    """The map of a field without entries that have no value, or repeat what is not supported."""
    refused: list[str] = []
    for key, value in node.entries:
        where = (*location, key.text)
        step_field = STEP_FIELDS.get(key.text) if location[-1] == "defaults" else None
        if step_field and not step_field.supported and key.text not in also_supported:
            _refuse_unsupported(where, report)
        elif isinstance(value, ScalarNode) and value.value is None:
            _refuse_empty(where, report)
        else:
            continue
        refused.append(key.text)
    return node.without(refused) if refused else node


def _refuse_unsupported(location: Location, report: Report) -> None:
    report.add(
        "field.not_supported",
        f"`{location[-1]}` is not supported yet; a field that is not enforced is refused",
        location,
        on_key=True,
    )


def _refuse_empty(location: Location, report: Report) -> None:
    report.add(
        "value.type",
        f"{_shown(location)} is empty",
        location,
        hint="write a value, or take the field away",
        on_key=True,
    )


# faults


def _location(detail: ErrorDetails) -> Location:
    """Pydantic's place without the names of union members."""
    location: list[str | int] = []
    after_tag = False
    for part in detail["loc"]:
        if not after_tag or part not in ("map", "word"):
            location.append(part)
        after_tag = part in _TAGGED and not after_tag and location[:1] != ["inputs"]
    return tuple(location)


def _prune(data: dict[str, Any], location: Location, removed: set[Location]) -> None:
    """Take the field at fault out of the data."""
    head = str(location[0])
    value = data.get(head)
    if head in STEP_LISTS and len(location) > 1:
        _prune_step(data[head], location, removed)
    elif head in _BY_ENTRY and len(location) > 1 and isinstance(value, dict):
        value.pop(location[1], None)
        removed.add(location[:2])
    else:
        data.pop(head, None)
        removed.add(location[:1])


def _prune_step(steps: list[Any], location: Location, removed: set[Location]) -> None:
    head, place, *rest = location
    assert isinstance(place, int)  # noqa: S101 - a list's location
    if not isinstance(steps[place], dict):
        steps[place] = {}
        removed.update((head, place, known) for known in STEP_FIELDS)
    name = rest[0] if rest else "id"
    removed.add((head, place, name))
    steps[place].pop(name, None)
    if name == "id":
        steps[place]["id"] = f"_{head}_{place}"


def _report(detail: ErrorDetails, report: Report) -> None:
    location = _location(detail)
    kind = detail["type"]
    if location[-1] == "[key]":
        location = location[:-1]
        message = f"`{location[-1]}` is no name here: a name has {detail['msg']}"
        report.add("value.name", message, location, on_key=True)
    elif kind == "extra_forbidden":
        _report_unknown(location, report)
    elif kind == "missing":
        *owner, name = location
        report.add("field.missing", f"{_owner(owner)} needs `{name}`", tuple(owner))
    elif kind == "literal_error":
        _report_choice(detail, location, report)
    else:
        code = kind if "." in kind else _CODES.get(kind, "value.type")
        value = detail["input"]
        message = f"{_shown(location)} is {_expected(detail, location)}, not {_found(value)}"
        if code == "value.range":
            message = f"{_shown(location)}: {_bound(detail)}"
        elif code == "value.name":
            message = f"{_found(value)} is no name here: a name has {detail['msg']}"
        elif code == "value.handle":
            message = f"{_shown(location)} is {detail['msg']}, never a value"
        report.add(code, message, location, hint=_type_hint(location, code, value))


def _report_unknown(location: Location, report: Report) -> None:
    *owner, name = location
    level = _level(owner)
    if level is not None:
        hint = hint_for_key(level, str(name))
    else:
        model = _MODELS.get(str(owner[-1]))
        named = [info.alias or key for key, info in model.model_fields.items()] if model else []
        known = [key for key in named if key not in STEP_FIELDS or STEP_FIELDS[key].supported]
        close = closest(str(name), known)
        hint = f"did you mean `{close}`?" if close else f"it has {', '.join(known)}"
    message = f"{_owner(owner)} has no `{name}`"
    report.add("field.unknown", message, location, hint=hint, on_key=True)


def _report_choice(detail: ErrorDetails, location: Location, report: Report) -> None:
    expected = detail.get("ctx", {}).get("expected", "").replace("'", "`")
    value = detail["input"]
    choices = [word for word in expected.split("`") if word.strip(" ,") not in ("", "or")]
    close = closest(value, choices) if isinstance(value, str) else None
    hint = f"did you mean `{close}`?" if close else None
    if location[-1] == "approval":
        expected += ", or a map with `prompt` and `preview`"
        hint = hint or "write `approval: required`"
    code = "value.choice" if isinstance(value, str) else "value.type"
    message = f"{_shown(location)} is {expected}, not {_found(value)}"
    report.add(code, message, location, hint=hint)


_CODES = {
    "string_too_long": "value.range",
    "string_too_short": "value.range",
    "too_long": "value.range",
    "too_short": "value.range",
    "greater_than_equal": "value.range",
    "less_than_equal": "value.range",
}

_PYDANTIC_TYPES = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
}


def _level(owner: list[str | int]) -> Level | None:
    if not owner:
        return "workflow"
    return "step" if len(owner) == 2 and owner[0] in STEP_LISTS else None


def _owner(owner: list[str | int]) -> str:
    level = _level(owner)
    if level is not None:
        return f"a {level}"
    return f"`{owner[-1]}`"


def _shown(location: Location) -> str:
    """The field as a message names it: `retry.max_attempts`, an item of `needs`."""
    if len(location) == 2 and location[0] in STEP_LISTS:
        return "a step"
    inner = location[2:] if location[0] in STEP_LISTS and len(location) > 2 else location
    if isinstance(inner[-1], int):
        return f"an item of `{'.'.join(str(part) for part in inner[:-1])}`"
    return f"`{'.'.join(str(part) for part in inner)}`"


def _expected(detail: ErrorDetails, location: Location) -> str:
    kind = detail["type"]
    if "." in kind:
        return detail["msg"]
    in_step = location[0] in STEP_LISTS and len(location) > 2
    inner = location[2:] if in_step else location
    if len(inner) == 1:
        table = STEP_FIELDS if in_step else WORKFLOW_FIELDS
        known = table.get(str(inner[0]))
        if known is not None:
            return known.shape
    return _PYDANTIC_TYPES.get(kind, "something else")


def _bound(detail: ErrorDetails) -> str:
    context = detail.get("ctx", {})
    if "ge" in context:
        return f"at least {_count(context['ge'])}"
    if "le" in context:
        return f"at most {_count(context['le'])}"
    unit = "character" if isinstance(detail["input"], str) else "item"
    if "min_length" in context:
        return f"at least {context['min_length']} {unit}"
    return f"at most {context.get('max_length')} {unit}s"


def _count(limit: float) -> str:
    return f"{int(limit):,}" if limit == int(limit) else str(limit)


def _found(value: Any) -> str:
    """What stands there, for a message: its text when that is short, else its type."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value}"
    if isinstance(value, str):
        is_shown = len(value) <= 40 and value.isprintable() and find_secret(value) is None
        return f"`{value}`" if is_shown else "this text"
    return "a list" if isinstance(value, list) else "a map"


def _type_hint(location: Location, code: str, value: Any) -> str | None:
    name = location[-1]
    if code == "value.duration" and isinstance(value, int) and not isinstance(value, bool):
        return f"say the unit, such as `{value}s`"
    if name == "for_each" and isinstance(value, list):
        return "quote it: an expression may be a list"
    if name == "uses" and isinstance(value, str):
        return "it lists files of the repository; another workflow is named by `workflow:`"
    if name == "needs" and isinstance(value, str):
        return f"write `[{value}]`"
    if name == "ok_exit_codes" and isinstance(value, int):
        return f"write `[{value}]`"
    if isinstance(value, str) and name in ("idempotent", "side_effects", "required", "enforce"):
        meant = {"yes": "true", "on": "true", "no": "false", "off": "false"}.get(value.lower())
        return f"write `{meant}`" if meant else None
    if isinstance(value, str) and location[0] in ("steps", "finally") and len(location) == 2:
        return "write `- {id: NAME, command: cli PROGRAM}`"
    if name == "env" or "env" in location:
        return "variables are text"
    if code == "value.type" and isinstance(value, (int, float)) and name in ("name", "description"):
        return "quote it"
    return None
