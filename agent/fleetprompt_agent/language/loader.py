"""The one way from the bytes of a workflow file to a plan or to findings."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from fleetprompt_agent.language.diagnostics import Diagnostic, Report
from fleetprompt_protocol.errors import WorkflowError
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from fleetprompt_agent.language.plan import Plan

Format = Literal["yaml", "json"]

log = get_logger("language")


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
    root: Path | None = None,  # noqa: ARG001 - sub-workflows will be found beneath it
    given_id: str | None = None,
    also_supported: Collection[str] = (),
) -> Compiled:
    """The plan of a workflow, or why there is none; nothing is raised, whatever the content is.

    Args:
        data: The bytes of the file, read once: what is checked is what runs.
        format: How they are read.
        file: Its path relative to the root, as findings name it.
        root: The root of the repository.
        given_id: The id that the root's `config.toml` gives the file.
        also_supported: Fields to take although they are not enforced yet; for tests of the
            language itself.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    default_id = given_id or _stem(file)
    report = Report(file, data.decode("utf-8", "replace"))
    workflow_id, name, plan = default_id, default_id, None
    try:
        from fleetprompt_indexer.document import compose

        report.root = compose(data, format=format, file=file)

        from fleetprompt_agent.language.compiler import compile_workflow, with_place
        from fleetprompt_agent.language.shapes import read_shapes

        shapes = read_shapes(report.root, report, also_supported)
        if shapes is not None:
            workflow_id = shapes.workflow.id or default_id
            name = shapes.workflow.name or workflow_id
            _check_id(workflow_id, shapes.workflow.id, given_id, report)
            plan = compile_workflow(shapes, report, default_id)
        if plan is not None:
            plan = with_place(plan, file_path=file, sha256=sha256)
    except WorkflowError as error:
        report.take((error.details or {}).get("diagnostics", ()))
    except Exception as error:  # noqa: BLE001 - a file must never take the agent down
        log.error("a workflow could not be compiled", file=file, error=traceback_text(error))
        message = "the file could not be read because of a fault in FleetPrompt"
        report.add("internal", message, ())
        plan = None
    return Compiled(workflow_id, name, plan, report.sorted(), sha256, file)


def traceback_text(error: Exception) -> str:
    """Where a fault of ours lies; for the log alone."""
    import traceback

    return "".join(traceback.format_exception(error))[-8000:]


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
