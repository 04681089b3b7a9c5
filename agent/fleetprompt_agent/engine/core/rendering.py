"""Expressions and templates of a plan, evaluated over the state of the run.

Pure: a result is a function of inputs and of outcomes that are already journaled, so that the same
text is rendered live, after a crash, and in a replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.expressions import ExpressionError, parse_expression
from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_agent.language.templates import parse_template, text_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetprompt_agent.engine.core.events import Json
    from fleetprompt_agent.engine.core.state import RunState, Scope, StepState
    from fleetprompt_agent.language.expressions import Reference
    from fleetprompt_agent.language.plan import Plan


class RenderError(Exception):
    """A template or an expression has no value here."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def to_data(self, code: str | None = None) -> dict[str, Json]:
        """The error as a step or run carries it."""
        data: dict[str, Json] = {"code": code or self.code, "message": self.message}
        if code is not None and code != self.code:
            data["details"] = {"cause": self.code}
        data["retryable"] = False
        return data


def view(step: StepState) -> dict[str, Json]:
    """What `steps.<id>` is: always a map, whatever became of the step."""
    shown = dict(step.result)
    shown["status"] = _status(step)
    shown["attempt"] = step.attempt
    shown["duration_ms"] = step.duration_ms
    shown["effect"] = step.effect
    shown["error"] = step.error
    if step.approval is not None:
        shown["approved"] = step.approval.decision in ("approve", "respond", "complete")
        shown["reason"] = step.approval.reason
        shown["actor"] = step.approval.actor
    elif step.step.approval is not None or step.step.kind == "approval":
        shown["approved"] = False
    return shown


def _status(step: StepState) -> str:
    """Its status; `skipped` when the workflow has gone on without it."""
    scope = step.scope
    if step.is_settled or step.status == "unknown" or scope.phase == "main":
        return step.status
    if scope.phase == "finally" and step.in_finally:
        return step.status
    return "canceled" if scope.stop == "canceled" else "skipped"


def value_of(step: StepState) -> Json:
    """What a step gives as a value: its `json`, else its `text`."""
    return step.result["json"] if "json" in step.result else step.result.get("text")


def last_output(scope: Scope) -> Json:
    """The value of the last step, in file order, that succeeded; `finally` excluded."""
    for planned in reversed(scope.plan.steps):
        step = scope.steps[planned.id]
        if step.status == "succeeded":
            return value_of(step)
    return None


def condition_holds(state: RunState, step: StepState, source: str) -> bool:
    """Whether the step's `if` is true."""
    value = _evaluate(state, step.scope, source, "if", step)
    if not isinstance(value, bool):
        raise RenderError(
            "step.expression",
            f"`if: {source}` of step {step.path} gives {_kind(value)}, not true or false. "
            "Compare it, or write default(…, false).",
        )
    return value


def postcondition_holds(
    state: RunState, step: StepState, source: str, result: dict[str, Json]
) -> bool:
    """Whether the step's `postcondition` is true of what it has just done."""
    value = _evaluate(state, step.scope, source, "postcondition", step, {"result": result})
    if not isinstance(value, bool):
        raise RenderError(
            "step.expression",
            f"`postcondition: {source}` of step {step.path} gives {_kind(value)}, "
            "not true or false.",
        )
    return value


def items(state: RunState, step: StepState, most: int) -> list[Json]:
    """The items of a `for_each` step."""
    spec = step.step.for_each
    source = spec.items if spec is not None else "[]"
    value = _evaluate(state, step.scope, source, "for_each", step)
    if not isinstance(value, list):
        raise RenderError(
            "step.expression",
            f"`for_each: {source}` of step {step.path} gives {_kind(value)}, not a list.",
        )
    if len(value) > most:
        raise RenderError(
            "step.expression",
            f"`for_each: {source}` of step {step.path} gives {len(value)} items; "
            f"at most {most} are run.",
        )
    return value


def action(state: RunState, step: StepState) -> dict[str, Json]:
    """The step's action with every template rendered.

    cli: `{"argv": [str], "tainted": [bool], "env": {name: str}, "stdin": str | None, "cwd"}`, where
    a tainted argument begins with text that came from data; flow: `{"with": json}`.
    """
    planned = step.step
    if planned.namespace != "cli":
        return {"with": _render(state, step.scope, planned.arguments, "with", step)}
    templates: list[Json] = planned.arguments["argv"]
    argv = [
        text_of(_render(state, step.scope, item, f"argument {index}", step))
        for index, item in enumerate(templates)
    ]
    tainted = [parse_template(item).begins_with_expression for item in templates]
    stdin = None
    if planned.stdin is not None:
        stdin = text_of(_render(state, step.scope, planned.stdin, "stdin", step))
    env = {
        name: text_of(_render(state, step.scope, item, f"env.{name}", step))
        for name, item in planned.env.items()
    }
    return {"argv": argv, "tainted": tainted, "env": env, "stdin": stdin, "cwd": planned.cwd}


PREVIEW_CHARACTERS = 16_000
"""More than a person reads; the outputs themselves can be asked for."""


def preview(state: RunState, step: StepState) -> Json:
    """What the author wants an approver to see of earlier outputs; cut text when it is long."""
    approval = step.step.approval
    if approval is None or approval.preview is None:
        return None
    value = _render(state, step.scope, approval.preview, "approval.preview", step)
    text = text_of(value)
    if len(text) <= PREVIEW_CHARACTERS:
        return value
    return f"{text[:PREVIEW_CHARACTERS]}… (cut: {len(text)} characters in all)"


def choices(state: RunState, step: StepState) -> Json:
    """The choices of an `ask` step that are drawn from earlier outputs."""
    ask = step.step.ask
    if ask is None or ask.choices_from is None:
        return None
    return _render(state, step.scope, ask.choices_from, "ask.choices_from", step)


def answer_schema(state: RunState, step: StepState) -> Json:
    """What the answer to an `ask` step must meet: its schema, and the choices where it has some."""
    ask = step.step.ask
    if ask is None or ask.choices_from is None:
        return ask.schema if ask is not None else None
    schema, given = ask.schema, choices(state, step)
    if schema.get("type") != "object":
        return _narrowed(schema, given, step)
    properties = schema.get("properties", {})
    by_name = given if isinstance(given, dict) else dict.fromkeys(properties, given)
    narrowed = {
        name: _narrowed(properties[name], some, step)
        for name, some in by_name.items()
        if name in properties
    }
    return {**schema, "properties": {**properties, **narrowed}}


def _narrowed(schema: Json, given: Json, step: StepState) -> Json:
    if not isinstance(given, list) or not given:
        what = "an empty list" if given == [] else f"{_kind(given)}, not a list"
        raise RenderError(
            "step.expression",
            f"`ask.choices_from` of step {step.path} gives {what} to choose from.",
        )
    schema = schema if isinstance(schema, dict) else {}
    if schema.get("type") != "array":
        own = schema.get("enum", given)
        return {**schema, "enum": [choice for choice in given if choice in own]}
    items = schema.get("items")
    return {**schema, "items": {**(items if isinstance(items, dict) else {}), "enum": given}}


MAX_QUESTION_BYTES = 128 * 1024
"""Of the JSON of a question to a model, its schema included: room for a large patch, in a frame of
4 MiB that holds `MAX_JUDGEMENTS` of them, twice in a dialect that repeats a result as text."""


def question(state: RunState, step: StepState) -> str:
    """What an `llm` step asks."""
    asked = step.step.judgement
    if asked is None:
        return ""
    prompt = text_of(_render(state, step.scope, asked.prompt, "prompt", step))
    size = len(canonical_json([prompt, asked.system, asked.schema]).encode(errors="surrogatepass"))
    if size > MAX_QUESTION_BYTES:
        raise RenderError(
            "step.expression",
            f"`prompt` of step {step.path} makes a question of {size} bytes; at most "
            f"{MAX_QUESTION_BYTES} are asked, `system` and `schema` included. Pick what the model "
            "needs, or ask in parts with `for_each`.",
        )
    return prompt


def sub_inputs(state: RunState, step: StepState, plan: Plan) -> dict[str, Json]:
    """The inputs of a sub-workflow step, defaults applied."""
    given = _render(state, step.scope, step.step.arguments or {}, "with", step)
    defaults = {
        name: schema["default"]
        for name, schema in plan.inputs.items()
        if isinstance(schema, dict) and "default" in schema
    }
    return {**dict.fromkeys(plan.inputs), **defaults, **given}


def outputs(state: RunState, scope: Scope) -> dict[str, Json]:
    """The outputs that the workflow declares."""
    return {
        name: _render(state, scope, template, f"outputs.{name}", None)
        for name, template in scope.plan.outputs.items()
    }


def _kind(value: Json) -> str:
    names = {bool: "a bool", int: "an int", float: "a double", str: "a string"}
    if value is None:
        return "null"
    return names.get(type(value), "a list" if isinstance(value, list) else "a map")


def _evaluate(
    state: RunState,
    scope: Scope,
    source: str,
    field: str,
    step: StepState | None,
    extra: dict[str, Any] | None = None,
) -> Json:
    try:
        expression = parse_expression(source)
        values = _values(state, scope, expression.references, step)
        return expression.evaluate({**values, **(extra or {})})
    except ExpressionError as error:
        raise _located(error.message, field, step) from None


def _render(
    state: RunState, scope: Scope, template: Json, field: str, step: StepState | None
) -> Json:
    if template is None:
        return None
    parsed = parse_template(template)
    if parsed.is_constant:
        return parsed.render({})
    try:
        return parsed.render(_values(state, scope, parsed.references, step))
    except ExpressionError as error:
        raise _located(error.message, field, step) from None


def _located(message: str, field: str, step: StepState | None) -> RenderError:
    where = f"`{field}` of step {step.path}" if step is not None else f"`{field}`"
    return RenderError("step.expression", f"{where} cannot be evaluated: {message}")


_CUT_FIELDS = {"stdout": "stdout", "text": "stdout", "json": "stdout", "stderr": "stderr"}


def _values(
    state: RunState, scope: Scope, references: Iterable[Reference], step: StepState | None
) -> dict[str, Any]:
    """The roots that the references can reach, holding no more steps than they name."""
    steps: dict[str, Json] = {}
    for reference in references:
        if reference.root != "steps":
            continue
        if not reference.path:
            steps = {name: view(other) for name, other in scope.steps.items()}
            continue
        name = str(reference.path[0])
        other = scope.steps.get(name)
        if other is None:
            steps[name] = {"status": "pending"}
            continue
        _refuse_cut(other, reference)
        if name not in steps:
            steps[name] = view(other)
    values: dict[str, Any] = {
        "inputs": scope.inputs,
        "steps": steps,
        "secrets": scope.plan.secrets,
        "run": {
            "id": state.run_id,
            "status": _run_status(state, scope),
            "error": scope.error,
        },
    }
    if step is not None:
        values["step"] = {"idempotency_key": state.key_of(step)}
        if step.parent is not None and step.step.for_each is not None:
            values["item"] = step.item
            values[step.step.for_each.item_name] = step.item
            values["index"] = step.item_index
    return values


def _run_status(state: RunState, scope: Scope) -> str:
    """What `run.status` is within `finally`, and before."""
    if scope.phase == "main":
        return "running"
    if state.timed_out or scope.error is not None:
        return "failed"
    return "canceled" if state.cancels else "succeeded"


def _refuse_cut(step: StepState, reference: Reference) -> None:
    """Cut output can be shown, never consumed (engine.md §3)."""
    cut = step.result.get("truncated")
    if not cut or len(reference.path) < 2:
        return
    channel = _CUT_FIELDS.get(str(reference.path[1]))
    if channel in cut:
        total = cut[channel].get("bytes")
        raise RenderError(
            "output.truncated",
            f"The {channel} of step {step.path} was cut: it wrote {total} bytes. "
            "Raise its max_output_bytes, or have the program write less.",
        )
