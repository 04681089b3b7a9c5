"""Models to a plan: every check that needs more than one field, and every default."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fleetprompt_agent.language import plan as plans
from fleetprompt_agent.language.actions import read_action
from fleetprompt_agent.language.edges import connect
from fleetprompt_agent.language.inputs import read_inputs
from fleetprompt_agent.language.models import Approval, Output
from fleetprompt_agent.language.permissions import permissions
from fleetprompt_agent.language.plan import Plan, PlanStep, plan_digest
from fleetprompt_agent.language.schemas import schema_fault
from fleetprompt_agent.language.scopes import Draft, Place, Scopes
from fleetprompt_indexer.vocabulary import ACTION_FIELDS

if TYPE_CHECKING:
    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.models import Step, Workflow
    from fleetprompt_agent.language.shapes import Shapes

RESERVED_IDS = ("steps", "inputs", "secrets", "run", "step", "item", "index", "result")
"""Names that mean something else in expressions."""

_WORKFLOW_ROOTS = ("inputs", "run")
_OUTPUT_ROOTS = ("inputs", "steps", "run")
_STEP_ROOTS = ("inputs", "steps", "run", "step")

_OF_PROGRAMS = ("stdin", "cwd", "ok_exit_codes", "artifacts")
"""Fields that have an effect on programs alone."""


def compile_workflow(shapes: Shapes, report: Report, workflow_id: str) -> Plan | None:
    """The plan of a workflow; None when the report has errors.

    Args:
        shapes: What the file holds.
        report: Gets every finding.
        workflow_id: The id that the file has when it names none.
    """
    compiler = _Compiler(shapes, report)
    plan = compiler.plan(workflow_id)
    if report.has_errors:
        return None
    plan = replace(plan, permissions=permissions(plan))
    return replace(plan, digest=plan_digest(plan))


class _Compiler:
    """One workflow on its way to a plan."""

    def __init__(self, shapes: Shapes, report: Report) -> None:
        self.shapes = shapes
        self.workflow: Workflow = shapes.workflow
        self.report = report
        self.is_graph = self.workflow.type == "graph"
        self.main = self._drafts(self.workflow.steps, "steps")
        self.last = self._drafts(self.workflow.finally_, "finally")
        self.by_id = self._index()
        self.inputs, self.required = read_inputs(self.workflow.inputs, report)
        declared = {*self.workflow.inputs, *self._removed_entries("inputs")}
        secrets = {*self.workflow.secrets, *self._removed_entries("secrets")}
        self.scopes = Scopes(report, self.by_id, declared, secrets, is_graph=self.is_graph)

    def plan(self, workflow_id: str) -> Plan:
        """The plan, which is complete when nothing was reported."""
        workflow = self.workflow
        for name in workflow.env:
            location: Location = ("env", name)
            self.scopes.template(self.report.node(location), location, Place(_WORKFLOW_ROOTS))
        steps = self._steps(self.main)
        finally_steps = self._steps(self.last)
        for name in workflow.outputs:
            location = ("outputs", name)
            self.scopes.template(self.report.node(location), location, Place(_OUTPUT_ROOTS))
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
        )

    # drafts

    def _drafts(self, steps: list[Step], field: str) -> list[Draft]:
        drafts: list[Draft] = []
        for place, step in enumerate(steps):
            location: Location = (field, place)
            draft = Draft(step, location, gate=step.approval is not None)
            self._check_actions(draft)
            draft.action = read_action(step, location, self.report)
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
        return by_id

    def _removed_entries(self, field: str) -> list[str]:
        """Names that were declared wrongly: complaining of their use as well helps nobody."""
        return [
            str(place[1]) for place in self.shapes.removed if place[:1] == (field,) and place[1:]
        ]

    def _check_actions(self, draft: Draft) -> None:
        step, location = draft.step, draft.location
        given = [name for name in ACTION_FIELDS if getattr(step, name) is not None]
        if len(given) > 1:
            names = " and ".join(f"`{name}`" for name in given)
            message = f"a step does one thing; this one has {names}"
            self.report.add("step.two_actions", message, (*location, given[1]), on_key=True)
        removed = self.shapes.is_removed(location, *ACTION_FIELDS, "approval")
        if not given and step.approval is None and not removed:
            message = "the step does nothing"
            hint = "write `command: cli …`, `tool:` with `with:`, or `approval: required`"
            self.report.add("step.no_action", message, (*location, "id"), hint=hint)
        if step.with_ is not None and step.tool is None and step.workflow is None:
            self._not_applicable(draft, "with", "goes with `tool:`")
        is_program = (step.command or step.tool or "").lower().startswith("cli")
        for name in _OF_PROGRAMS:
            if (*location, name) in self.shapes.removed or is_program or removed:
                continue
            if self.report.node((*location, name)) is not None:
                self._not_applicable(draft, name, "has an effect on programs (`cli`) only")
        if not is_program and not removed and self.report.node((*location, "output")) is not None:
            self._not_applicable(draft, "output", "says how a program's output is read")

    def _not_applicable(self, draft: Draft, name: str, why: str) -> None:
        location = (*draft.location, name)
        self.report.add("field.not_applicable", f"`{name}` {why}", location, on_key=True)

    # steps

    def _steps(self, drafts: list[Draft]) -> tuple[PlanStep, ...]:
        steps = [self._step(draft) for draft in drafts]
        in_graph = self.is_graph and drafts is self.main
        unique = [draft for draft in drafts if self.by_id[draft.step.id] is draft]
        edges = connect(unique, self.report, is_graph=in_graph)
        connected = tuple(replace(step, needs=edges.get(step.id, ())) for step in steps)
        if in_graph and len(connected) > 1:
            self._warn_effects_at_start(drafts, connected)
        return connected

    def _step(self, draft: Draft) -> PlanStep:
        step, location = draft.step, draft.location
        place = Place(_STEP_ROOTS, draft, item=step.for_each is not None, ended=draft.in_finally)
        still = replace(place, item=False)
        condition = None
        if step.if_ is not None:
            condition = self.scopes.condition(step.if_, (*location, "if"), still)
        self._check_texts(draft, place)
        action = draft.action
        namespace = action.namespace if action is not None else ""
        return PlanStep(
            id=step.id,
            index=draft.place,
            kind="action" if step.command is not None or step.tool is not None else "approval",
            name=step.name,
            namespace=namespace,
            tool_id=action.tool_id if action is not None else "",
            arguments=action.arguments if action is not None else None,
            condition=condition,
            stdin=step.stdin,
            env={**self.workflow.env, **step.env} if namespace == "cli" else {},
            cwd=step.cwd,
            output=self._output(draft),
            timeout_s=step.timeout,
            approval=self._approval(draft, still),
            side_effects=namespace not in ("", "flow"),
            idempotent=step.idempotent,
        )

    def _check_texts(self, draft: Draft, place: Place) -> None:
        step, location = draft.step, draft.location
        if draft.action is not None and draft.action.words:
            where = (*location, "command")
            self.scopes.words(step.command or "", draft.action.words, where, place)
        for name in ("with", "stdin", "env"):
            where = (*location, name)
            if where not in self.shapes.removed:
                self.scopes.template(self.report.node(where), where, place)

    def _output(self, draft: Draft) -> plans.Output:
        output = draft.step.output
        if isinstance(output, str):
            return plans.Output(output)
        location = (*draft.location, "output")
        self._check_output(output, location)
        return plans.Output(output.type, output.schema_)

    def _check_output(self, output: Output, location: Location) -> None:
        if output.schema_ is None:
            return
        if output.type != "json":
            message = f"a schema goes with `type: json`, not `{output.type}`"
            self.report.add("field.not_applicable", message, (*location, "schema"), on_key=True)
        fault = schema_fault(output.schema_)
        if fault is not None:
            message = f"this is no JSON Schema: {fault}"
            self.report.add("value.schema", message, (*location, "schema"))

    def _approval(self, draft: Draft, place: Place) -> plans.Approval | None:
        approval = draft.step.approval
        if approval is None:
            return None
        location = (*draft.location, "approval")
        if draft.in_finally:
            message = "a step of `finally` cannot wait for anyone"
            self.report.add("approval.in_finally", message, location, on_key=True)
        if not isinstance(approval, Approval):
            approval = Approval()
        where = (*location, "preview")
        self.scopes.template(self.report.node(where), where, place)
        return plans.Approval(
            prompt=approval.prompt,
            preview=approval.preview,
            expires_s=approval.expires,
            on_deny=approval.on_deny,
        )

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


def with_place(plan: Plan, *, file_path: str, sha256: str) -> Plan:
    """The plan of a file that lies somewhere; neither changes the digest."""
    return replace(plan, file_path=file_path, sha256=sha256)
