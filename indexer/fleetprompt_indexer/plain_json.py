"""Plain JSON, by the standard library: what most JSON files are, for a tenth of the walk's price.

As `plain_lines` does for YAML, this gives what the walk over the events gives, or gives up: on what
is not sound, and on long files, deep ones and escapes by number. Tests hold the two against each
other.
"""

from __future__ import annotations

import json
from typing import Any, NoReturn

from fleetprompt_indexer.scalars import NumberError, read_plain

MAX_LENGTH = 16_000
"""Characters. A part takes at least one, so a shorter file cannot have more than are allowed."""

MAX_DEPTH = 24
"""Levels of maps and lists: well below what is allowed."""


class _Number(str):
    """A number as it is written."""

    __slots__ = ()


class _NotPlainError(ValueError):
    """The text has something that is not read here."""


def read_plain_json(
    text: str,
    *,
    wanted: frozenset[str],
    step_lists: frozenset[str],
    wanted_of_step: frozenset[str],
) -> dict[str, Any] | None:
    """The wanted top-level values of a sound document; None when it is to be walked.

    Args:
        text: The file's.
        wanted: Top-level keys whose values are built, their scalars as text.
        step_lists: Those of them that hold lists of steps.
        wanted_of_step: Keys of a step whose values are built, as text.
    """
    if len(text) > MAX_LENGTH or "\\u" in text:
        return None
    try:
        tree = _decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    if type(tree) is not dict or _is_deep(tree):
        return None
    return {
        key: _steps(value, wanted_of_step)
        if type(value) is list and key in step_lists
        else _built(value, as_text=True)
        for key, value in tree.items()
        if key in wanted
    }


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotPlainError
    return found


def _refuse(_word: str) -> NoReturn:
    raise _NotPlainError


_decoder = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_Number, parse_float=_Number, parse_constant=_refuse
)


def _is_deep(tree: dict[str, Any]) -> bool:
    level: list[Any] = [tree]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return False
    return True


def _steps(steps: list[Any], wanted: frozenset[str]) -> list[Any]:
    """A list of steps, with the wanted keys of each."""
    return [
        {key: _built(value, as_text=True) for key, value in step.items() if key in wanted}
        if type(step) is dict
        else _steps(step, wanted)
        if type(step) is list
        else _built(step, as_text=True)
        for step in steps
    ]


def _built(value: Any, *, as_text: bool = False) -> Any:
    """A value with its numbers read, or left as they are written when it is a scalar."""
    kind = type(value)
    if kind is str or value is None:
        return value
    if kind is _Number:
        if as_text:
            return str(value)
        try:
            return read_plain(str(value))
        except NumberError:
            return str(value)
    if kind is bool:
        return str(value).lower() if as_text else value
    if kind is dict:
        return {key: _built(inner) for key, inner in value.items()}
    return [_built(inner) for inner in value]
