"""The one way from the bytes of a workflow file to a plan or to findings."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from fleetprompt_agent.language.diagnostics import Diagnostic, Report
from fleetprompt_protocol.errors import FleetPromptError, WorkflowError
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.language.subworkflows import Found
    from fleetprompt_indexer.scan import ScanReport

Format = Literal["yaml", "json"]

log = get_logger("language")


@dataclass(frozen=True, slots=True)
class Source:
    """The content of a workflow file, read once."""

    data: bytes
    format: Format
    file: str
    """Its path relative to the root, as findings name it."""
    given_id: str | None = None
    """The id that the root's `config.toml` gives the file."""


OpenWorkflow: TypeAlias = Callable[[str], Source]
"""The file of a workflow id.

Raises:
    FleetPromptError: there is none, or it cannot be read.
"""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What became of a workflow file."""

    workflow_id: str
    """As the file names it, else made from the file's name."""
    name: str
    plan: Plan | None
    """None when there are errors."""
    diagnostics: tuple[Diagnostic, ...]
    """Everything that was found, in the order of the file."""
    sha256: str
    """Of the bytes, in hex."""
    file: str
    rests_on_others: bool = False
    """Whether other files are part of the answer: embedded workflows, and those under `uses:`."""

    @property
    def is_valid(self) -> bool:
        """Whether there is a plan; there may be warnings."""
        return self.plan is not None

    def raise_if_invalid(self) -> Plan:
        """The plan.

        Raises:
            WorkflowError: `workflow.invalid`, with every finding in `details.diagnostics`.
        """
        if self.plan is not None:
            return self.plan
        errors = [found for found in self.diagnostics if found.severity == "error"]
        first = errors[0]
        place = f"{self.file}:{first.line}:{first.column}" if first.line else self.file
        more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
        hint = f"; {first.hint}" if first.hint else ""
        raise WorkflowError(
            "workflow.invalid",
            f"{place}: {first.message}{hint}{more}",
            details={"diagnostics": [found.to_json() for found in self.diagnostics]},
            where={"file": self.file, "line": first.line, "column": first.column},
        )


def load_workflow(
    data: bytes,
    *,
    format: Format,  # noqa: A002 - the users' word
    file: str,
    root: Path | None = None,
    given_id: str | None = None,
    open_workflow: OpenWorkflow | None = None,
    also_supported: Collection[str] = (),
) -> Compiled:
    """The plan of a workflow, or why there is none; nothing is raised, whatever the content is.

    Args:
        data: The bytes of the file, read once: what is checked is what runs.
        format: How they are read.
        file: Its path relative to the root, as findings name it.
        root: The root of the repository; sub-workflows and used files are looked for in it.
        given_id: The id that the root's `config.toml` gives the file.
        open_workflow: Finds sub-workflows in place of a look at the root.
        also_supported: Fields, and namespaces as `http:`, to take although they are not enforced
            yet; for tests of the language itself.
    """
    if open_workflow is None:
        open_workflow = _nowhere if root is None else _Root(root).open
    family = _Family(open_workflow, also_supported, root)
    return family.load(Source(data, format, file, given_id), ())


@dataclass(slots=True)
class _Family:
    """A workflow and those that it contains: each is read and compiled once."""

    open_workflow: OpenWorkflow
    also_supported: Collection[str]
    root: Path | None
    found: dict[str, Found] = field(default_factory=dict)

    def load(self, source: Source, ancestors: tuple[str, ...]) -> Compiled:
        """The workflow; `ancestors` are the ids of those that contain it."""
        default_id = source.given_id or _stem(source.file)
        report = Report(source.file, source.data.decode("utf-8", "replace"))
        workflow_id, name, plan, rests_on_others = default_id, default_id, None, False
        sha256 = hashlib.sha256(source.data).hexdigest()
        try:
            from fleetprompt_indexer.document import compose

            report.root = compose(source.data, format=source.format, file=source.file)

            from fleetprompt_agent.language.compiler import compile_workflow
            from fleetprompt_agent.language.shapes import read_shapes
            from fleetprompt_agent.language.surroundings import report_missing

            shapes = read_shapes(report.root, report, self.also_supported)
            if shapes is not None:
                workflow_id = shapes.workflow.id or default_id
                name = shapes.workflow.name or workflow_id
                steps = (*shapes.workflow.steps, *shapes.workflow.finally_)
                rests_on_others = any(step.workflow or step.uses for step in steps)
                _check_id(workflow_id, shapes.workflow.id, source.given_id, report)
                if self.root is not None:
                    report_missing(shapes.workflow, self.root, report)
                family = (*ancestors, workflow_id)
                plan = compile_workflow(
                    shapes,
                    report,
                    default_id,
                    lambda wanted: self.find(wanted, family),
                    self.also_supported,
                )
            if plan is not None:
                from dataclasses import replace

                plan = replace(plan, file_path=source.file, sha256=sha256)
        except WorkflowError as error:
            report.take((error.details or {}).get("diagnostics", ()))
        except Exception as error:  # noqa: BLE001 - a file must never take the agent down
            log.error("a workflow could not be compiled", file=source.file, error=_trace(error))
            message = "the file could not be read because of a fault in FleetPrompt"
            report.add("internal", message, ())
            plan = None
        return Compiled(
            workflow_id, name, plan, report.sorted(), sha256, source.file, rests_on_others
        )

    def find(self, name: str, family: tuple[str, ...]) -> Found:
        """The plan of a sub-workflow, by its id."""
        from fleetprompt_agent.language.subworkflows import MAX_DEPTH, Found

        if name in family:
            way = " → ".join((*family[family.index(name) :], name))
            return Found(None, "workflow.cycle", f"workflows contain each other: {way}")
        if len(family) >= MAX_DEPTH:
            message = f"workflows stand in one another at most {MAX_DEPTH} deep"
            return Found(None, "workflow.too_deep", message)
        if name not in self.found:
            self.found[name] = self._look_up(name, family)
        return self.found[name]

    def _look_up(self, name: str, family: tuple[str, ...]) -> Found:
        from fleetprompt_agent.language.subworkflows import Found

        try:
            source = self.open_workflow(name)
        except FleetPromptError as error:
            return Found(None, "workflow.not_found", error.message)
        compiled = self.load(source, family)
        if compiled.plan is not None:
            return Found(compiled.plan)
        errors = [one for one in compiled.diagnostics if one.severity == "error"]
        first = errors[0]
        message = f"workflow `{name}` has errors: {first.file}:{first.line}: {first.message}"
        return Found(None, "workflow.has_errors", message, f"{len(errors)} in all")


class _Root:
    """Finds the workflows of a repository; looks at it when it is first asked."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.report: ScanReport | None = None

    def open(self, workflow_id: str) -> Source:
        """The file of a workflow id."""
        from fleetprompt_indexer.entry import format_of
        from fleetprompt_indexer.reader import read_file
        from fleetprompt_indexer.scan import scan_root

        if self.report is None:
            self.report = scan_root(self.root)
        entry = self.report.find(workflow_id)
        content = read_file(self.root, entry.relative)
        return Source(content.data, format_of(entry.relative), entry.file_path, entry.workflow_id)


def _nowhere(workflow_id: str) -> Source:
    raise WorkflowError("workflow.not_found", f"no workflow `{workflow_id}`: there is no root")


def _stem(file: str) -> str:
    """The id of a file that names none: its name without the ending."""
    name = file[file.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[:dot] if dot > 0 else name


def _check_id(workflow_id: str, written: str | None, given: str | None, report: Report) -> None:
    """The same rule as the index has: by this name the workflow is found."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", workflow_id):
        message = "the file's name is no id for a workflow"
        hint = "write `id:` with up to 64 of a-z 0-9 . _ -, beginning with a letter or digit"
        report.add("workflow.id", message, (), hint=hint)
    if written is not None and given is not None and written != given:
        message = f"the file says `{written}`, and config.toml says `{given}`"
        report.add("workflow.id", message, ("id",))


def _trace(error: Exception) -> str:
    """Where a fault of ours lies; for the log alone."""
    import traceback

    return "".join(traceback.format_exception(error))[-8000:]
