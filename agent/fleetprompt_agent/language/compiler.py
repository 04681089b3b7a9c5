"""Models to a plan: what needs more than one step to be known."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from fleetprompt_agent.language import plan as plans
from fleetprompt_agent.language.actions import read_action
from fleetprompt_agent.language.edges import connect
from fleetprompt_agent.language.inputs import read_inputs
from fleetprompt_agent.language.permissions import permissions, refuse_variable
from fleetprompt_agent.language.plan import Plan, PlanStep, plan_digest
from fleetprompt_agent.language.reach import warn_unreachable
from fleetprompt_agent.language.scopes import Draft, Place, Scopes
from fleetprompt_agent.language.secrets_in_text import report_secrets
from fleetprompt_agent.language.step_compiler import StepCompiler
from fleetprompt_agent.language.subworkflows import embed
from fleetprompt_indexer.document import MapNode

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from fleetprompt_agent.language.diagnostics import Location, Report, Severity
    from fleetprompt_agent.language.models import Step, Workflow
    from fleetprompt_agent.language.shapes import Shapes
    from fleetprompt_agent.language.subworkflows import FindWorkflow

RESERVED_IDS = ("steps", "inputs", "secrets", "run", "step", "item", "index", "result")
"""Names that mean something else in expressions."""
MAX_STEPS = 1000
"""Of one workflow, `finally` included; sub-workflows count for themselves."""

_ENV_ROOTS = ("inputs", "run", "secrets")
_OUTPUT_ROOTS = ("inputs", "steps", "run")


def compile_workflow(
    shapes: Shapes,
    report: Report,
    workflow_id: str,
    find: FindWorkflow,
    also_supported: Collection[str] = (),
) -> Plan | None:
    """The plan of a workflow; None when the report has errors.

    Args:
        shapes: What the file holds.
        report: Gets every finding.
        workflow_id: The id that the file has when it names none.
        find: Gives the plans of sub-workflows.
        also_supported: Fields and namespaces to take although they are not enforced.
    """
    plan = _Compiler(shapes, report, find, also_supported).plan(workflow_id)
    report_secrets(report.source, report)
    if report.has_errors:
        return None
    plan = replace(plan, permissions=permissions(plan))
    return replace(plan, digest=plan_digest(plan))


class _Compiler:
    """One workflow on its way to a plan."""

    def __init__(
        self, shapes: Shapes, report: Report, find: FindWorkflow, also_supported: Collection[str]
    ) -> None:
        self.shapes = shapes
        self.workflow: Workflow = shapes.workflow
        self.report = report
        self.find = find
        self.also_supported = also_supported
        self.is_graph = self.workflow.type == "graph"
        self.main = self._drafts(self.workflow.steps, "steps")
        self.last = self._drafts(self.workflow.finally_, "finally")
        self.by_id = self._index()
        self.inputs, self.required = read_inputs(self.workflow.inputs, report)
        declared = [*self.workflow.inputs, *self._removed_entries("inputs")]
        secrets = [*self.workflow.secrets, *self._removed_entries("secrets")]
        self.scopes = Scopes(
            report, self.by_id, declared, secrets, self.inputs, is_graph=self.is_graph
        )
        self.workflows: dict[str, Plan] = {}

    def plan(self, workflow_id: str) -> Plan:
        """The plan, which is complete when nothing was reported."""
        workflow = self.workflow
        for name in workflow.env:
            location: Location = ("env", name)
            refuse_variable(name, location, self.report)
            self.scopes.template(self.report.node(location), location, Place(_ENV_ROOTS))
        steps = self._steps(self.main)
        finally_steps = self._steps(self.last)
        for name in workflow.outputs:
            location = ("outputs", name)
            self.scopes.template(self.report.node(location), location, Place(_OUTPUT_ROOTS))
        self._check_tools()
        limits = workflow.limits
        concurrency = workflow.concurrency
        return Plan(
            workflow_id=workflow.id or workflow_id,
            name=workflow.name or workflow.id or workflow_id,
            type=workflow.type,
            steps=steps,
            version=workflow.version,
            description=workflow.description,
            inputs=self.inputs,
            required_inputs=self.required,
            outputs=dict(workflow.outputs),
            secrets=dict(workflow.secrets),
            finally_steps=finally_steps,
            timeout_s=limits.timeout if limits is not None else None,
            max_parallel=limits.max_parallel if limits is not None else 8,
            concurrency=plans.Concurrency(concurrency.group, concurrency.on_conflict)
            if concurrency is not None
            else None,
            workflows=self.workflows,
            sandbox=workflow.sandbox,
        )

    # drafts

    def _drafts(self, steps: list[Step], field: str) -> list[Draft]:
        drafts: list[Draft] = []
        for place, step in enumerate(steps):
            location: Location = (field, place)
            asks = step.ask is not None or step.manual is not None
            draft = Draft(step, location, gate=step.approval is not None or asks)
            draft.nodes = self.shapes.nodes.get(location, {})
            draft.action = read_action(step, location, self.report, self.also_supported)
            if draft.asks_model and step.for_each is None:
                draft.gate = True
            drafts.append(draft)
        return drafts

    def _index(self) -> dict[str, Draft]:
        by_id: dict[str, Draft] = {}
        for draft in (*self.main, *self.last):
            step_id = draft.step.id
            location = (*draft.location, "id")
            if step_id in RESERVED_IDS:
                message = f"`{step_id}` is a name of the language; choose another id"
                self.report.add("step.reserved_id", message, location)
            if step_id in by_id:
                message = f"step `{step_id}` is there already"
                self.report.add("step.duplicate_id", message, location)
            else:
                by_id[step_id] = draft
        if len(self.main) + len(self.last) > MAX_STEPS:
            message = f"a workflow has at most {MAX_STEPS} steps"
            self.report.add("step.too_many", message, ("steps",), on_key=True)
        return by_id

    def _removed_entries(self, field: str) -> list[str]:
        """Names that were declared wrongly: complaining of their use as well helps nobody."""
        removed = sorted(self.shapes.removed, key=str)
        if (field,) in removed:
            node = self.report.node((field,))
            return list(node.to_python()) if isinstance(node, MapNode) else []
        return [str(place[1]) for place in removed if place[0] == field and len(place) > 1]

    # steps

    def _steps(self, drafts: list[Draft]) -> tuple[PlanStep, ...]:
        compiler = StepCompiler(self.workflow, self.shapes, self.scopes, self.report)
        unconnected = [compiler.compile(draft) for draft in drafts]
        for draft in drafts:
            if draft.step.workflow is not None:
                self._embed(draft)
        in_graph = self.is_graph and drafts is self.main
        unique = [draft for draft in drafts if self.by_id[draft.step.id] is draft]
        edges = connect(unique, self.report, is_graph=in_graph)
        connected = tuple(
            step(needs=edges.get(draft.step.id, ()))
            for step, draft in zip(unconnected, drafts, strict=True)
        )
        if in_graph and len(connected) > 1:
            self._warn_effects_at_start(drafts, connected)
        warn_unreachable(drafts, connected, self.report)
        return connected

    def _embed(self, draft: Draft) -> None:
        name = draft.step.workflow or ""
        plan = embed(draft, self.find, self.report)
        if plan is not None:
            self.workflows[name] = plan

    def _warn_effects_at_start(self, drafts: list[Draft], steps: tuple[PlanStep, ...]) -> None:
        for draft, step in zip(drafts, steps, strict=True):
            if step.side_effects and not step.needs and step.approval is None:
                self.report.add(
                    "graph.effect_at_start",
                    f"step `{step.id}` has an effect and waits for nothing: it runs at once",
                    (*draft.location, "id"),
                    hint="name what it needs, if anything: `needs: [step_id]`",
                    severity="warning",
                )

    def _check_tools(self) -> None:
        """Hold each step against `tools:`; targets are literals, so this decides it for good."""
        if self.workflow.tools is None:
            return
        for draft in (*self.main, *self.last):
            step = draft.step
            field = "command" if step.command is not None else "tool"
            if draft.action is not None:
                self._check_tool(draft.action.tool_id, (*draft.location, field))
            elif step.workflow in self.workflows:
                location = (*draft.location, "workflow")
                for tool_id in sorted(set(_tools_of(self.workflows[step.workflow]))):
                    self._check_tool(tool_id, location)

    def _check_tool(self, tool_id: str, location: Location) -> None:
        rules = self.workflow.tools
        assert rules is not None  # noqa: S101 - the caller looked
        denied = next((rule for rule in rules.deny if fnmatchcase(tool_id, rule)), None)
        allowed = rules.allow is None or any(fnmatchcase(tool_id, rule) for rule in rules.allow)
        if denied is None and allowed:
            return
        why = f"`tools.deny` has `{denied}`" if denied else "`tools.allow` does not have it"
        message = f"`{tool_id}` may not be used here: {why}"
        severity: Severity = "error" if rules.enforce else "warning"
        self.report.add("tool.not_allowed", message, location, severity=severity)


def _tools_of(plan: Plan) -> Iterator[str]:
    """The tools of a workflow and of those within it."""
    for step in (*plan.steps, *plan.finally_steps):
        if step.tool_id:
            yield step.tool_id
    for inner in plan.workflows.values():
        yield from _tools_of(inner)
