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

_KNOWN = {
    "project": ("name", "version"),
    "fleetprompt": ("enabled",),
    "workflows": ("id", "entry"),
}
"""The keys of each table."""
_PLANNED = ("mcp_servers", "nodes", "policy")
"""Tables that are refused until they are enforced."""


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
        reason = str(error)
        if isinstance(error, RecursionError):
            reason = "it is nested too deep"
        elif isinstance(error, UnicodeDecodeError):
            reason = f"its byte {error.start + 1} is not UTF-8"
        message = f"The file is not TOML: {display(reason, 200)}."
        return Config(), [Problem("scan.config", message, file=file)]
    problems: list[Problem] = []
    config = _config(data, problems)
    return config, [problem.in_file(file) for problem in problems]


def _config(data: dict[str, Any], problems: list[Problem]) -> Config:
    project = _table(data, "project", problems)
    product = _table(data, "fleetprompt", problems)
    enabled = product.get("enabled", True)
    _check_keys(data, problems)
    if not isinstance(enabled, bool):
        problems.append(Problem("scan.config", "`fleetprompt.enabled` is not true or false."))
        enabled = False
    elif not enabled:
        message = "FleetPrompt is not enabled here (`fleetprompt.enabled` is false)."
        problems.append(Problem("scan.disabled", message, severity="warning"))
    elif "policy" in data:
        enabled = False  # to run what it might forbid would be worse than to run nothing
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


def _check_keys(data: dict[str, Any], problems: list[Problem]) -> None:
    """Report what is not known, and what is not enforced yet."""
    for name, value in data.items():
        if name in _PLANNED:
            message = f"`{name}` is not supported yet."
            if name == "policy":
                message = "`policy` is not supported yet: nothing is listed or run with it."
            problems.append(Problem("scan.config", message, path=name, hint="remove it"))
            continue
        known = _KNOWN.get(name)
        if known is None:
            message = f"There is no `{display(name, 64)}`."
            hint = f"there is {', '.join(_KNOWN)}"
            problems.append(Problem("scan.config", message, path=display(name, 64), hint=hint))
            continue
        tables = value if isinstance(value, list) else [value]
        project = value if isinstance(value, dict) else {}
        keys = {key for table in tables[:MAX_NAMED] if isinstance(table, dict) for key in table}
        for key in sorted(keys - set(known)):
            path = f"{name}.{display(key, 64)}"
            hint = f"it has {', '.join(known)}"
            message = f"`{name}` has no `{display(key, 64)}`."
            problems.append(Problem("scan.config", message, path=path, hint=hint))
        for key in ("name", "version"):
            if name == "project" and not isinstance(project.get(key, ""), str):
                message = f"`project.{key}` is not text."
                problems.append(Problem("scan.config", message, path=f"project.{key}"))


def _table(data: dict[str, Any], name: str, problems: list[Problem]) -> dict[str, Any]:
    value = data.get(name, {})
    if isinstance(value, dict):
        return value
    problems.append(Problem("scan.config", f"`{name}` is not a table."))
    return {}


def _text(value: object) -> str | None:
    return display(value, 120) if isinstance(value, str) and value else None
