"""One step of the file to one step of the plan, with every default applied."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language import plan as plans
from fleetprompt_agent.language.models import Approval
from fleetprompt_agent.language.permissions import refuse_variable
from fleetprompt_agent.language.plan import PlanStep
from fleetprompt_agent.language.retries import check_retry, plan_retry
from fleetprompt_agent.language.schemas import schema_fault
from fleetprompt_agent.language.scopes import Place
from fleetprompt_indexer.vocabulary import ACTION_FIELDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.models import Ask, Output, Step, Workflow
    from fleetprompt_agent.language.plan import StepKind
    from fleetprompt_agent.language.scopes import Draft, Scopes
    from fleetprompt_agent.language.shapes import Shapes

DEFAULT_OUTPUT_BYTES = 512_000

_ROOTS = ("inputs", "steps", "run", "step")
_OF_PROGRAMS = frozenset(
    ("stdin", "env", "cwd", "output", "ok_exit_codes", "artifacts", "max_output_bytes")
)
"""Fields that have an effect on programs alone."""
_OF_ACTIONS = frozenset(
    ("timeout", "total_timeout", "retry", "for_each", "side_effects", "idempotent")
) | frozenset(("postcondition", "uses", "allow"))
"""Fields that have no effect where a person acts, or nobody."""
_OF_WORKFLOWS = frozenset(("for_each", "postcondition", "uses"))
"""Of those, the ones that may stand beside `workflow`."""
_OF_LOOPS = frozenset(("as", "max_parallel"))
_NOT_OF_MODELS = {
    "timeout": "has no effect: no clock runs while the step waits for its answer",
    "total_timeout": "has no effect: no clock runs while the step waits for its answer",
    "retry": "has no effect: an answer that does not fit is not taken, and the step waits on",
    "side_effects": "has no effect: to ask a model changes nothing",
    "idempotent": "has no effect: to ask a model changes nothing",
    "postcondition": "is for steps that act: `schema` says what the answer must be",
    "approval": "stands in a step of its own, before this one",
}
"""Fields that an `llm` step cannot have, and why."""


class StepCompiler:
    """Makes the steps of one workflow."""

    def __init__(self, workflow: Workflow, shapes: Shapes, scopes: Scopes, report: Report) -> None:
        self.workflow = workflow
        self.defaults = workflow.defaults
        self.shapes = shapes
        self.scopes = scopes
        self.report = report

    def compile(self, draft: Draft) -> Callable[..., PlanStep]:
        """What makes the step of its `needs`; sound when nothing was reported."""
        step, location, action = draft.step, draft.location, draft.action
        self._check_actions(draft)
        self._check_fields(draft)
        place = Place(_ROOTS, draft, item=step.for_each is not None, ended=draft.in_finally)
        still = Place(_ROOTS, draft, ended=draft.in_finally) if place.item else place
        condition = None
        if step.if_ is not None:
            condition = self.scopes.condition(step.if_, (*location, "if"), still)
        for_each = self._for_each(draft, still)
        self._check_texts(draft, place)
        namespace = action.namespace if action is not None else ""
        side_effects = action is not None and action.side_effects
        is_program = namespace == "cli"
        return partial(
            PlanStep,
            id=step.id,
            index=draft.place,
            kind="judgement" if draft.asks_model else _kind(step),
            name=step.name,
            namespace=namespace,
            tool_id=action.tool_id if action is not None else "",
            arguments=None if draft.asks_model else self._arguments(draft),
            condition=condition,
            stdin=step.stdin,
            env={**self.workflow.env, **step.env} if is_program else {},
            cwd=self._cwd(step) if is_program else None,
            output=self._output(draft),
            ok_exit_codes=tuple(sorted(set(step.ok_exit_codes))) if step.ok_exit_codes else (0,),
            timeout_s=self._timeout(draft),
            total_timeout_s=step.total_timeout,
            retry=self._retry(draft, side_effects=side_effects and not step.idempotent),
            approval=self._approval(draft, still),
            for_each=for_each,
            side_effects=side_effects,
            idempotent=step.idempotent,
            postcondition=self._postcondition(draft, place),
            on_error=step.on_error,
            max_output_bytes=self._max_output_bytes(step),
            artifacts=tuple(step.artifacts),
            ask=self._ask(draft, still),
            manual=step.manual,
            workflow=step.workflow,
            allow=self._allow(step) if action is not None else plans.NOTHING_ALLOWED,
            uses=tuple(step.uses),
            claims_no_effect=step.side_effects is False,
            judgement=_judgement(draft),
        )

    def _arguments(self, draft: Draft) -> Any:
        return draft.action.arguments if draft.action is not None else draft.step.with_

    # what goes with what

    def _check_actions(self, draft: Draft) -> None:
        step, location = draft.step, draft.location
        given = [name for name in ACTION_FIELDS if getattr(step, name) is not None]
        if len(given) > 1:
            names = " and ".join(f"`{name}`" for name in given)
            message = f"a step does one thing; this one has {names}"
            self.report.add("step.two_actions", message, (*location, given[1]), on_key=True)
        removed = self.shapes.is_removed(location, *ACTION_FIELDS, "approval")
        removed = removed or self.shapes.has_unknown(location)
        if not given and step.approval is None and not removed:
            message = "the step does nothing"
            hint = "write `command: cli …`, `tool:` with `with:`, or `approval: required`"
            self.report.add("step.no_action", message, (*location, "id"), hint=hint)
        if step.approval is not None and (step.ask is not None or step.manual is not None):
            self._not_applicable(draft, "approval", "is asked for by `ask` and `manual` themselves")

    def _check_fields(self, draft: Draft) -> None:
        step, location = draft.step, draft.location
        if self.shapes.is_removed(location, *ACTION_FIELDS):
            return
        if step.with_ is not None and step.tool is None and step.workflow is None:
            self._not_applicable(draft, "with", "goes with `tool:` and `workflow:`")
        is_called = step.command is not None or step.tool is not None
        written = (step.command or step.tool or "").lstrip().lower()
        if not written.startswith("cli") and not (is_called and draft.action is None):
            limited = {"max_output_bytes"} if draft.asks_model else set()
            for name in (_OF_PROGRAMS - limited) & draft.nodes.keys():
                self._not_applicable(draft, name, "has an effect on programs (`cli`) only")
        if not is_called:
            allowed = _OF_WORKFLOWS if step.workflow is not None else frozenset()
            for name in (_OF_ACTIONS - allowed) & draft.nodes.keys():
                self._not_applicable(draft, name, "has no effect on this kind of step")
        if draft.asks_model:
            for name in _NOT_OF_MODELS.keys() & draft.nodes.keys():
                self._not_applicable(draft, name, _NOT_OF_MODELS[name])
        if step.for_each is None and not self.shapes.is_removed(location, "for_each"):
            for name in _OF_LOOPS & draft.nodes.keys():
                self._not_applicable(draft, name, "goes with `for_each:`")

    def _not_applicable(self, draft: Draft, name: str, why: str) -> None:
        location = (*draft.location, name)
        self.report.add("field.not_applicable", f"`{name}` {why}", location, on_key=True)

    # texts

    def _check_texts(self, draft: Draft, place: Place) -> None:
        step, location = draft.step, draft.location
        if draft.action is not None and draft.action.words:
            where = (*location, "command")
            self.scopes.words(step.command or "", draft.action.words, where, place)
        for name in step.env:
            refuse_variable(name, (*location, "env", name), self.report)
        for name in ("with", "stdin", "env"):
            node = draft.nodes.get(name)
            at: Location = (*location, name)
            if name == "with" and draft.asks_model:
                at = (*at, "prompt")
                node = self.report.node(at)
            if node is not None:
                takes_secrets = name != "with" or (step.tool or "").lower().startswith("http:")
                roots = (*place.roots, "secrets") if takes_secrets else place.roots
                scope = Place(roots, draft, place.item, place.ended)
                self.scopes.template(node, at, scope)

    def _for_each(self, draft: Draft, place: Place) -> plans.ForEach | None:
        step = draft.step
        if step.for_each is None:
            return None
        location: Location = (*draft.location, "for_each")
        items = self.scopes.items(step.for_each, location, place)
        name = step.as_ or "item"
        if step.as_ is not None:
            self.scopes.check_item_name(name, (*draft.location, "as"))
        if items is None:
            return None
        return plans.ForEach(items, name, step.max_parallel or 4)

    def _postcondition(self, draft: Draft, place: Place) -> str | None:
        source = draft.step.postcondition
        if source is None:
            return None
        scope = place._replace(roots=(*place.roots, "result"))
        return self.scopes.condition(source, (*draft.location, "postcondition"), scope)

    # values

    def _output(self, draft: Draft) -> plans.Output:
        output = draft.step.output
        if output == "text":
            return plans.TEXT_OUTPUT
        if isinstance(output, str):
            return plans.Output(output)
        self._check_output(output, (*draft.location, "output"))
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
        step = draft.step
        for name in ("approval", "ask", "manual"):
            if draft.in_finally and getattr(step, name) is not None:
                message = "a step of `finally` cannot wait for anyone"
                where = (*draft.location, name)
                self.report.add("approval.in_finally", message, where, on_key=True)
        if draft.in_finally and draft.asks_model:
            field = "tool" if step.tool is not None else "command"
            message = "a step of `finally` cannot wait for a model's answer"
            self.report.add("approval.in_finally", message, (*draft.location, field), on_key=True)
        approval = step.approval
        if approval is None:
            return None
        if not isinstance(approval, Approval):
            approval = Approval()
        where = (*draft.location, "approval", "preview")
        self.scopes.template(self.report.node(where), where, place)
        return plans.Approval(
            prompt=approval.prompt,
            preview=approval.preview,
            expires_s=approval.expires,
            on_deny=approval.on_deny,
        )

    def _ask(self, draft: Draft, place: Place) -> plans.Ask | None:
        ask = draft.step.ask
        if ask is None:
            return None
        location = (*draft.location, "ask")
        self._check_flat(ask, (*location, "schema"))
        where = (*location, "choices_from")
        self.scopes.template(self.report.node(where), where, place)
        self._check_choices(ask, where)
        return plans.Ask(ask.prompt, ask.schema_, ask.choices_from)

    def _check_choices(self, ask: Ask, location: Location) -> None:
        """It must be clear which value of the form the choices are for."""
        given, properties = ask.choices_from, ask.schema_.get("properties", {})
        if given is None or not isinstance(properties, dict):
            return
        is_form = ask.schema_.get("type") == "object"
        if not isinstance(given, dict):
            if is_form and len(properties) != 1:
                message = "the form has several values: say which one the choices are for"
                hint = f"write `choices_from: {{{next(iter(properties), 'FIELD')}: {given}}}`"
                self.report.add("value.schema", message, location, hint=hint)
            return
        for name in given:
            if not is_form or name not in properties:
                known = ", ".join(f"`{known}`" for known in properties) or "none"
                self.report.add(
                    "value.schema",
                    f"the form has no value `{name}`",
                    (*location, name),
                    hint=f"its values: {known}",
                    on_key=True,
                )

    def _check_flat(self, ask: Ask, location: Location) -> None:
        """A form has one value, or one level of named ones: more nobody can fill in."""
        fault = schema_fault(ask.schema_)
        if fault is not None:
            message = f"this is no JSON Schema: {fault}"
            self.report.add("value.schema", message, location)
            return
        properties: dict[str, Any] = ask.schema_.get("properties", {})
        for name, schema in properties.items():
            if isinstance(schema, dict) and schema.get("type") == "object":
                message = f"a form is flat: `{name}` cannot hold others"
                self.report.add("value.schema", message, (*location, "properties", name))

    def _timeout(self, draft: Draft) -> float | None:
        step = draft.step
        timeout = step.timeout
        if timeout is None and self.defaults is not None and _is_performed(draft):
            timeout = self.defaults.timeout
        if timeout is not None and step.total_timeout is not None and step.total_timeout < timeout:
            message = "all attempts together have less time than one"
            self.report.add("value.range", message, (*draft.location, "total_timeout"))
        return timeout

    def _retry(self, draft: Draft, *, side_effects: bool) -> plans.Retry:
        retry = draft.step.retry
        if retry is not None:
            location = (*draft.location, "retry")
            check_retry(retry, draft, location, self.report, side_effects=side_effects)
        elif self.defaults is not None and _is_performed(draft) and not side_effects:
            retry = self.defaults.retry
        return plan_retry(retry) if retry is not None else plans.NO_RETRY

    def _cwd(self, step: Step) -> str | None:
        if step.cwd is not None or self.defaults is None:
            return step.cwd
        return self.defaults.cwd

    def _max_output_bytes(self, step: Step) -> int:
        default = self.defaults.max_output_bytes if self.defaults is not None else None
        return step.max_output_bytes or default or DEFAULT_OUTPUT_BYTES

    def _allow(self, step: Step) -> plans.Allow:
        """What the step may reach: what it says itself and what is said for all."""
        sources = [self.workflow.allow, self.defaults.allow if self.defaults else None, step.allow]
        said = [allow for allow in sources if allow is not None]
        if not said:
            return plans.NOTHING_ALLOWED

        def union(name: str) -> tuple[str, ...]:
            return tuple(dict.fromkeys(item for allow in said for item in getattr(allow, name)))

        return plans.Allow(union("network"), union("read"), union("write"))


def _kind(step: Step) -> StepKind:
    if step.command is not None or step.tool is not None:
        return "action"
    if step.workflow is not None:
        return "workflow"
    if step.ask is not None:
        return "ask"
    return "manual" if step.manual is not None else "approval"


def _is_performed(draft: Draft) -> bool:
    """Whether the engine itself does what the step says."""
    return draft.action is not None and not draft.asks_model


def _judgement(draft: Draft) -> plans.Judgement | None:
    if draft.action is None or not draft.asks_model:
        return None
    arguments: dict[str, Any] = draft.action.arguments
    return plans.Judgement(
        prompt=arguments["prompt"],
        schema=arguments["schema"],
        model=arguments.get("model"),
        system=arguments.get("system"),
    )
