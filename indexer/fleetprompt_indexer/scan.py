"""Everything that the `.fleetprompt/` of one root holds, in one go and without a catalog."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleetprompt_indexer.config import Config, read_config
from fleetprompt_indexer.entry import Entry, describe, refused_entry
from fleetprompt_indexer.names import FOLDER, WORKFLOWS, is_workflow_name, parts_of, shown
from fleetprompt_indexer.problem import Problem, Refused
from fleetprompt_indexer.reader import open_folder, open_folder_at, read_at
from fleetprompt_indexer.root import find_root
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["MAX_FILES", "ScanReport", "find_root", "read_entry", "scan_root", "workflow_names"]

MAX_FILES = 1_000
"""Workflow files of one root that are looked at; a root with more is cut, and says so."""


@dataclass(frozen=True, slots=True)
class ScanReport:
    """Everything that one root holds."""

    root: Path
    entries: tuple[Entry, ...]
    """One for each workflow file, refused ones included, in the order of their paths."""
    refusals: tuple[Problem, ...]
    """Every error, with its file: those of the entries, and those of folders and configuration."""
    config: Config = field(default_factory=Config)

    def find(self, reference: str) -> Entry:
        """The entry with this id or relative path.

        Raises:
            WorkflowError: `workflow.not_found`, or `workflow.ambiguous` when two files claim it.
        """
        by_path = [e for e in self.entries if reference in (e.file_path, os.fsdecode(e.relative))]
        found = by_path or [e for e in self.entries if e.workflow_id == reference]
        if len(found) == 1:
            return found[0]
        if found:
            places = [entry.file_path for entry in found]
            raise WorkflowError(
                "workflow.ambiguous",
                f"`{reference}` is the id of {len(found)} files: {', '.join(places[:5])}. "
                "Give the path, or change one id.",
                details={"file_paths": places[:50]},
            )
        known = [entry.workflow_id for entry in self.entries]
        from fleetprompt_indexer.vocabulary import closest

        near = closest(reference, known)
        hint = f"Did you mean `{near}`?" if near else "`fleetprompt list` shows what there is."
        raise WorkflowError(
            "workflow.not_found",
            f"No workflow `{shown(reference)}` in {self.root}. {hint}",
            details={"workflow": shown(reference)},
        )


def scan_root(root: Path) -> ScanReport:
    """Everything that the root's `.fleetprompt/` holds; never raises for what it holds."""
    refusals: list[Problem] = []
    entries: list[Entry] = []
    config = Config()
    try:
        base = open_folder(root, [FOLDER])
    except Refused as refused:
        file = os.fsdecode(FOLDER)
        return ScanReport(root, (), (refused.problem.in_file(file),))
    try:
        config, found = read_config(base)
        refusals.extend(found)
        if config.is_enabled:
            given = {os.fsencode(named.entry): named.id for named in config.workflows}
            entries.extend(_workflow_files(base, given, refusals))
            entries.extend(_named_files(root, config, {e.relative for e in entries}))
    finally:
        os.close(base)
    marked = _mark_ambiguous(entries)
    refusals.extend(p for entry in marked for p in entry.problems if p.severity == "error")
    return ScanReport(root, tuple(marked), tuple(refusals), config)


def _workflow_files(base: int, given: dict[bytes, str], refusals: list[Problem]) -> Iterable[Entry]:
    prefix = FOLDER + b"/" + WORKFLOWS
    try:
        folder = open_folder_at(base, WORKFLOWS)
    except Refused as refused:
        if refused.problem.code != "file.missing":
            refusals.append(refused.problem.in_file(os.fsdecode(prefix)))
        return
    try:
        names, cut = workflow_names(folder)
        if cut:
            refusals.append(cut.in_file(os.fsdecode(prefix)))
        for name in names:
            relative = prefix + b"/" + name
            yield read_entry(folder, name, relative, given_id=given.get(relative))
    finally:
        os.close(folder)


def workflow_names(folder: int) -> tuple[list[bytes], Problem | None]:
    """The first workflow files in an open folder, in order, and a finding when there are more."""
    count = 0

    def candidates() -> Iterable[bytes]:
        nonlocal count
        with os.scandir(folder) as found:
            for item in found:
                name = os.fsencode(item.name)
                if is_workflow_name(name):
                    count += 1
                    yield name

    try:
        names = heapq.nsmallest(MAX_FILES, candidates())  # bounded, however large the folder is
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        return [], Problem("file.io", f"The folder cannot be listed: {reason}.")
    if count <= MAX_FILES:
        return names, None
    message = f"The folder holds {count:,} workflow files; {MAX_FILES:,} are looked at."
    return names, Problem("scan.cut", message, hint="remove files or split the folder")


def read_entry(folder: int, name: bytes, relative: bytes, *, given_id: str | None = None) -> Entry:
    """The entry of one file in an open folder."""
    try:
        content = read_at(folder, name)
    except Refused as refused:
        return refused_entry(refused.problem, relative, given_id=given_id)
    return describe(content, relative, given_id=given_id)


def _named_files(root: Path, config: Config, seen: set[bytes]) -> Iterable[Entry]:
    """The files that the configuration names, unless they were seen already."""
    for named in config.workflows:
        relative = os.fsencode(named.entry)
        if relative in seen:
            continue
        seen.add(relative)
        try:
            *folders, name = parts_of(relative)
            folder = open_folder(root, folders)
        except Refused as refused:
            yield refused_entry(refused.problem, relative, given_id=named.id)
            continue
        try:
            yield read_entry(folder, name, relative, given_id=named.id)
        finally:
            os.close(folder)


def _mark_ambiguous(entries: list[Entry]) -> list[Entry]:
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
