"""The part of a repository's `.fleetprompt/config.toml` that the indexer needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from fleetprompt_indexer.display import display
from fleetprompt_indexer.names import CONFIG, FOLDER, is_workflow_name, shown
from fleetprompt_indexer.problem import Problem, Refused
from fleetprompt_indexer.reader import read_at

MAX_NAMED = 1_000
"""Workflows that a configuration may name."""


@dataclass(frozen=True, slots=True)
class NamedWorkflow:
    """One `[[workflows]]` table."""

    id: str
    entry: str
    """Path of the file, relative to the root."""


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says; the defaults hold when there is none."""

    name: str | None = None
    """`[project] name`, fit to be shown."""
    version: str | None = None
    is_enabled: bool = True
    """`[fleetprompt] enabled`."""
    workflows: tuple[NamedWorkflow, ...] = ()


def read_config(base: int) -> tuple[Config, list[Problem]]:
    """The configuration in an open `.fleetprompt` folder, and what is wrong with it."""
    file = shown(FOLDER + b"/" + CONFIG)
    try:
        content = read_at(base, CONFIG)
    except Refused as refused:
        missing = refused.problem.code == "file.missing"
        return Config(), [] if missing else [refused.problem.in_file(file)]
    import tomllib

    try:
        data = tomllib.loads(content.data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else str(error)
        message = f"The file is not TOML: {display(reason, 200)}."
        return Config(), [Problem("scan.config", message, file=file)]
    problems: list[Problem] = []
    config = _config(data, problems)
    return config, [problem.in_file(file) for problem in problems]


def _config(data: dict[str, Any], problems: list[Problem]) -> Config:
    project = _table(data, "project", problems)
    product = _table(data, "fleetprompt", problems)
    enabled = product.get("enabled", True)
    if not isinstance(enabled, bool):
        problems.append(Problem("scan.config", "`fleetprompt.enabled` is not true or false."))
        enabled = False
    elif not enabled:
        message = "FleetPrompt is not enabled here (`fleetprompt.enabled` is false)."
        problems.append(Problem("scan.disabled", message, severity="warning"))
    return Config(
        name=_text(project.get("name")),
        version=_text(project.get("version")),
        is_enabled=enabled,
        workflows=_named(data.get("workflows", []), problems),
    )


def _named(tables: object, problems: list[Problem]) -> tuple[NamedWorkflow, ...]:
    if not isinstance(tables, list):
        problems.append(Problem("scan.config", "`workflows` is not a list of `[[workflows]]`."))
        return ()
    named: list[NamedWorkflow] = []
    for number, table in enumerate(tables[:MAX_NAMED]):
        workflow_id = table.get("id") if isinstance(table, dict) else None
        entry = table.get("entry") if isinstance(table, dict) else None
        if not isinstance(workflow_id, str) or not isinstance(entry, str):
            message = "A `[[workflows]]` table needs `id` and `entry`, both text."
            problems.append(Problem("scan.config", message, path=f"workflows[{number}]"))
            continue
        if not is_workflow_name(os.fsencode(entry).rpartition(b"/")[2]):
            message = f"`{display(entry, 80)}` is not a .yaml, .yml or .json file."
            problems.append(Problem("scan.config", message, path=f"workflows[{number}].entry"))
            continue
        named.append(NamedWorkflow(display(workflow_id, 64), entry))
    return tuple(named)


def _table(data: dict[str, Any], name: str, problems: list[Problem]) -> dict[str, Any]:
    value = data.get(name, {})
    if isinstance(value, dict):
        return value
    problems.append(Problem("scan.config", f"`{name}` is not a table."))
    return {}


def _text(value: object) -> str | None:
    return display(value, 120) if isinstance(value, str) and value else None
