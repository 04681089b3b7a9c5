"""What is wrong with a file, as data: a stable code, a place, a sentence and a way out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

PROBLEMS: dict[str, str] = {
    # reading a file
    "file.missing": "There is no such file.",
    "file.symlink": "The file, or a folder on the way to it, is a symbolic link.",
    "file.not_regular": "It is a folder, a pipe, a socket or a device, not a file.",
    "file.permission": "The file may not be read by this user.",
    "file.too_large": "The file is longer than the limit.",
    "file.unstable": "The file changed while it was read, twice.",
    "file.io": "The file system reported an error.",
    "file.path": "The path leaves its root, or cannot be a path.",
    # reading text
    "document.encoding": "The text is not UTF-8.",
    "document.bom": "The text begins with a byte order mark.",
    "document.syntax": "The text is not well-formed YAML or JSON.",
    "document.empty": "The text holds no document.",
    "document.multiple": "The text holds more than one document.",
    "document.not_a_map": "The document is not a map of keys.",
    "document.too_deep": "The document is nested deeper than the limit.",
    "document.too_complex": "The document has more parts than the limit.",
    "document.duplicate_key": "A key stands twice in one map.",
    "document.key": "A key is missing, or is not text.",
    "document.merge_key": "The merge key `<<` is not supported.",
    "document.alias": "An alias (`*name`) is not supported.",
    "document.anchors": "The document has more anchors than the limit.",
    "document.tag": "A tag (`!name`) is not supported.",
    "document.number": "The number cannot be kept exactly.",
    # describing a workflow
    "workflow.id": "The id is not one that a workflow may have.",
    "workflow.ambiguous": "Another file of the same root has this id.",
    "workflow.shape": "A field does not have the shape that a workflow needs.",
    "workflow.cut": "A field is longer than the index keeps.",
    # scanning a root
    "scan.cut": "The root has more workflow files than the limit.",
    "scan.config": "The root's `config.toml` cannot be used.",
    "scan.disabled": "The root's `config.toml` says that FleetPrompt is not enabled.",
}
"""Stable codes of what the indexer finds, and what each means."""

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding; `to_json` is the diagnostic of the workflow language."""

    code: str
    """One of `PROBLEMS`."""
    message: str
    """A sentence: what is wrong, with the words of the file."""
    severity: Severity = "error"
    file: str = ""
    """Relative to its root, as it is displayed; empty until it is known."""
    line: int | None = None
    """From 1, like the three below. Columns count characters."""
    column: int | None = None
    end_line: int | None = None
    end_column: int | None = None
    """One past the last character."""
    path: str = ""
    """Where in the document: `steps[2].env`; empty for the whole."""
    hint: str | None = None
    """What to write instead."""

    def in_file(self, file: str) -> Problem:
        """The same finding, in a named file."""
        return replace(self, file=file)

    def to_json(self) -> dict[str, Any]:
        """The finding as `{code, severity, message, file, line, …}`."""
        return {
            "code": self.code,
            "severity": self.severity,
            "message": self.message,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "end_line": self.end_line,
            "end_column": self.end_column,
            "path": self.path,
            "hint": self.hint,
        }


class Refused(Exception):  # noqa: N818  # it is an answer, not a fault
    """A file or a text that cannot be taken, with the finding that says why."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem
