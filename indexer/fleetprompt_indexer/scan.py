"""What the `.fleetprompt/` of one root holds: as a whole, or against what was known of it."""

from __future__ import annotations

import heapq
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleetprompt_indexer.config import Config, read_config
from fleetprompt_indexer.entry import Entry, describe, mark_ambiguous, refused_entry
from fleetprompt_indexer.names import (
    CONFIG,
    FOLDER,
    WORKFLOWS,
    is_workflow_name,
    parts_of,
    raw,
    shown,
)
from fleetprompt_indexer.problem import Problem, Refused
from fleetprompt_indexer.reader import (
    Signature,
    open_folder,
    open_folder_at,
    packed_signature,
    read_at,
)
from fleetprompt_indexer.root import find_root
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["MAX_FILES", "ScanReport", "Visit", "find_root", "refusal_digest", "scan_root", "visit"]

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


@dataclass(slots=True)
class Visit:
    """What one look at a root gave, against what was known of it."""

    config: Config = field(default_factory=Config)
    changed: list[Entry] = field(default_factory=list)
    """Files that are new or not the same."""
    touched: list[tuple[bytes, Signature]] = field(default_factory=list)
    """Files with a new signature and the known bytes."""
    unchanged: list[bytes] = field(default_factory=list)
    """Files with the known signature; they were not opened."""
    problems: list[Problem] = field(default_factory=list)
    """What is wrong with folders and configuration, each with its path."""
    folders: tuple[Signature, ...] = ()
    """Of `.fleetprompt` and of `workflows` in it, as far as they are folders."""
    config_signature: Signature | None = None
    """Of the configuration; None when there is none."""

    def seen(self) -> set[bytes]:
        """The relative paths of all files that are there."""
        changed = {entry.relative for entry in self.changed}
        return changed.union(self.unchanged, (relative for relative, _ in self.touched))


def scan_root(root: Path) -> ScanReport:
    """Everything that the root's `.fleetprompt/` holds; never raises for what it holds."""
    found = visit(raw(str(root)))
    entries = mark_ambiguous(found.changed)
    errors = [p for entry in entries for p in entry.problems if p.severity == "error"]
    return ScanReport(root, tuple(entries), (*found.problems, *errors), found.config)


def visit(
    root: bytes,
    *,
    signatures: Mapping[bytes, bytes | None] | None = None,
    digests: Mapping[bytes, str] | None = None,
    config: bytes | None = None,
) -> Visit:
    """Look at every workflow file of a root, in the order of their paths.

    Args:
        root: The root's path.
        signatures: Packed signatures of known files by relative path; a file that still has its
            own is not opened.
        digests: SHA-256 of known files, or `refusal_digest`; the same bytes are not parsed again.
        config: Packed signature of the known configuration; under another one every file is read,
            because its id may be another.
    """
    found = Visit()
    try:
        base = open_folder(root, [FOLDER])
    except Refused as refused:
        found.problems.append(refused.problem.in_file(os.fsdecode(FOLDER)))
        return found
    try:
        status = os.fstat(base)
        found.folders = (Signature.of(status),)
        config_status = _status_at(base, CONFIG)
        found.config_signature = Signature.of(config_status) if config_status else None
        packed = found.config_signature.packed() if found.config_signature else None
        same = packed == config
        look = _Look(found, (same and signatures) or {}, (same and digests) or {})
        found.config, problems = read_config(base) if packed else (Config(), [])
        found.problems.extend(problems)
        if found.config.is_enabled:
            look.given = {os.fsencode(named.entry): named.id for named in found.config.workflows}
            _look_in_folder(base, look)
            _look_at_named(root, look)
    finally:
        os.close(base)
    return found


class _Look:
    """One visit under way."""

    def __init__(
        self,
        found: Visit,
        signatures: Mapping[bytes, bytes | None],
        digests: Mapping[bytes, str],
    ) -> None:
        self.found = found
        self.given: dict[bytes, str] = {}
        self._signatures = signatures
        self._digests = digests

    def at_file(self, folder: int, name: bytes, relative: bytes) -> None:
        status = _status_at(folder, name)
        known = self._signatures.get(relative)
        if known is not None and status is not None and packed_signature(status) == known:
            self.found.unchanged.append(relative)
            return
        try:
            content = read_at(folder, name, status=status)
        except Refused as refused:
            self.refuse(refused.problem, relative, Signature.of(status) if status else None)
            return
        if content.sha256 == self._digests.get(relative):
            self.found.touched.append((relative, content.signature))
        else:
            given_id = self.given.get(relative)
            self.found.changed.append(describe(content, relative, given_id=given_id))

    def refuse(self, problem: Problem, relative: bytes, signature: Signature | None = None) -> None:
        """Note a file that cannot be read; the same refusal as before is no change."""
        if self._digests.get(relative) != refusal_digest(problem.code):
            given_id = self.given.get(relative)
            entry = refused_entry(problem, relative, given_id=given_id, signature=signature)
            self.found.changed.append(entry)
        elif signature is not None:
            self.found.touched.append((relative, signature))
        else:
            self.found.unchanged.append(relative)


def refusal_digest(code: str) -> str:
    """What stands for the digest of a file that was refused with the code."""
    return f"refused:{code}"


def _look_in_folder(base: int, look: _Look) -> None:
    prefix = FOLDER + b"/" + WORKFLOWS
    try:
        folder = open_folder_at(base, WORKFLOWS)
    except Refused as refused:
        if refused.problem.code != "file.missing":
            look.found.problems.append(refused.problem.in_file(os.fsdecode(prefix)))
        return
    try:
        # Taken before the names are listed: what changes in between is seen the next time.
        look.found.folders += (Signature.of(os.fstat(folder)),)
        names, cut = workflow_names(folder)
        if cut:
            look.found.problems.append(cut.in_file(os.fsdecode(prefix)))
        for name in names:
            look.at_file(folder, name, prefix + b"/" + name)
    finally:
        os.close(folder)


def _look_at_named(root: bytes, look: _Look) -> None:
    """The files that the configuration names, unless they were seen already."""
    seen = look.found.seen()
    for relative in look.given:
        if relative in seen:
            continue
        try:
            *folders, name = parts_of(relative)
            folder = open_folder(root, folders)
        except Refused as refused:
            look.refuse(refused.problem, relative)
            continue
        try:
            look.at_file(folder, name, relative)
        finally:
            os.close(folder)


def _status_at(folder: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except OSError:
        return None


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
