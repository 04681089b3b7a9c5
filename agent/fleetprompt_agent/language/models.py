"""The shapes of the workflow language as pydantic models.

They say what each field may hold, and nothing that needs two fields at once: that is checked where
the workflow is compiled. The JSON Schema of the file is made from them. Names, descriptions and
what is supported stand in `fleetprompt_indexer.vocabulary`.

This module imports pydantic; import it only where a workflow is loaded.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from fleetprompt_agent.language.durations import PATTERN, parse_duration

WORKFLOW_ID = r"^[a-z0-9][a-z0-9._-]{0,63}$"
STEP_ID = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
INPUT_NAME = r"^[A-Za-z_][A-Za-z0-9_-]{0,63}$"
VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"
HANDLE = r"^secret://[a-z]+/[^\s${}]{1,500}$"
TOOL_ID = r"^[A-Za-z][A-Za-z0-9._-]*[:/].+$"

MAX_STEPS = 1000
"""Of one workflow, `finally` included."""
MAX_NEEDS = 100
MAX_OUTPUT_BYTES = 64 << 20


def _duration(value: Any) -> float:
    seconds = parse_duration(value) if isinstance(value, str) else None
    if seconds is None:
        raise PydanticCustomError("value.duration", "a duration such as 30s, 5m or 1h30m")
    return seconds


def _name(pattern: str, what: str) -> BeforeValidator:
    compiled = re.compile(pattern.replace("$", r"\Z"))

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise PydanticCustomError("value.type", "{what}", {"what": what})
        if not compiled.match(value):
            raise PydanticCustomError("value.name", "{what}", {"what": what})
        return value

    return BeforeValidator(check)


def _text(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": pattern})


def _relative_path(value: Any) -> str:
    what = "a path inside the workspace, such as sub/dir"
    if not isinstance(value, str) or not value:
        raise PydanticCustomError("value.type", "{what}", {"what": what})
    if "${{" in value:
        raise PydanticCustomError("value.constant", "a literal path")
    parts = re.split(r"[/\\]", value)
    if value[0] in "/~\\" or ".." in parts or "\0" in value or re.match(r"[A-Za-z]:", value):
        raise PydanticCustomError("value.path", "{what}", {"what": what})
    return value


def _handle(value: Any) -> str:
    if not isinstance(value, str) or not re.match(HANDLE, value):
        raise PydanticCustomError("value.handle", "a handle such as secret://env/GITHUB_TOKEN")
    return value


def _constant(value: Any) -> Any:
    if isinstance(value, str) and "${{" in value:
        raise PydanticCustomError("value.constant", "constant text, without an expression")
    return value


_IDENTIFIER = "a letter or `_`, then letters, digits, `_` and `-`, at most 64 characters"
_SLUG = "lower-case letters, digits, `.`, `_` and `-`, at most 64 characters"
_VARIABLE = "letters, digits and `_`, not beginning with a digit"

Duration = Annotated[float, BeforeValidator(_duration), _text(PATTERN)]
"""Seconds, written as `30s`."""
StepId = Annotated[str, _name(STEP_ID, _IDENTIFIER), _text(STEP_ID)]
WorkflowId = Annotated[str, _name(WORKFLOW_ID, _SLUG), _text(WORKFLOW_ID)]
InputName = Annotated[str, _name(INPUT_NAME, _IDENTIFIER), _text(INPUT_NAME)]
VariableName = Annotated[str, _name(VARIABLE_NAME, _VARIABLE), _text(VARIABLE_NAME)]
Handle = Annotated[str, BeforeValidator(_handle), _text(HANDLE)]
RelativePath = Annotated[
    str, BeforeValidator(_relative_path), WithJsonSchema({"type": "string", "minLength": 1})
]
Title = Annotated[str, Field(min_length=1, max_length=120)]
ConstantText = Annotated[
    str,
    BeforeValidator(_constant),
    Field(min_length=1, max_length=2000),
]
Condition = Annotated[str | bool, Field(description="An expression that gives true or false")]


def _word_or_map(value: Any) -> str:
    return "map" if isinstance(value, dict) else "word"


class Shape(BaseModel):
    """What every model is: strict, closed, frozen."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, populate_by_name=False, serialize_by_alias=True
    )


class Approval(Shape):
    """A person must agree before the step acts."""

    prompt: ConstantText | None = None
    preview: Any = None
    expires: Duration = 7 * 86_400.0
    on_deny: Literal["cancel", "continue"] = "cancel"


class Output(Shape):
    """How a program's output is read."""

    type: Literal["text", "json", "none"] = "json"
    schema_: Any = Field(None, alias="schema")


class Retry(Shape):
    """When and how often a known failure is tried again."""

    max_attempts: Annotated[int, Field(ge=1, le=100)] = 1
    backoff: Literal["fixed", "exponential"] = "exponential"
    initial: Duration = 1.0
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    max: Duration = 30.0
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.1
    on: Annotated[list[str], Field(max_length=50)] = []


class Ask(Shape):
    """Data wanted from a person."""

    prompt: ConstantText
    schema_: dict[str, Any] = Field({"type": "string"}, alias="schema")
    choices_from: Any = None


class Allow(Shape):
    """What steps may reach beside their program."""

    network: Annotated[list[ConstantText], Field(max_length=100)] = []
    read: Annotated[list[ConstantText], Field(max_length=100)] = []
    write: Annotated[list[ConstantText], Field(max_length=100)] = []


class Defaults(Shape):
    """Values for steps that do not set them."""

    timeout: Duration | None = None
    retry: Retry | None = None
    max_output_bytes: Annotated[int, Field(ge=1, le=MAX_OUTPUT_BYTES)] | None = None
    cwd: RelativePath | None = None
    allow: Allow | None = None


class Limits(Shape):
    """Limits of a whole run."""

    timeout: Duration | None = None
    max_parallel: Annotated[int, Field(ge=1, le=64)] = 8


class Concurrency(Shape):
    """Which runs exclude each other."""

    group: Annotated[ConstantText, Field(max_length=120)]
    on_conflict: Literal["wait", "refuse", "cancel_running"] = "wait"


class Tools(Shape):
    """Tools that steps may and may not use."""

    allow: Annotated[list[ConstantText], Field(max_length=200)] | None = None
    deny: Annotated[list[ConstantText], Field(max_length=200)] = []
    enforce: bool = True


class Step(Shape):
    """One step."""

    id: StepId
    name: Title | None = None
    command: Annotated[str, Field(max_length=16_384)] | None = None
    tool: Annotated[str, Field(max_length=256)] | None = None
    with_: dict[str, Any] | None = Field(None, alias="with")
    needs: Annotated[list[str], Field(max_length=MAX_NEEDS)] | None = None
    if_: Condition | None = Field(None, alias="if")
    stdin: Any = None
    env: dict[VariableName, str] = {}
    cwd: RelativePath | None = None
    output: Annotated[
        Annotated[Literal["text", "json", "none"], Tag("word")] | Annotated[Output, Tag("map")],
        Discriminator(_word_or_map),
    ] = "text"
    ok_exit_codes: (
        Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=1, max_length=256)]
        | None
    ) = None
    timeout: Duration | None = None
    total_timeout: Duration | None = None
    retry: Retry | None = None
    approval: (
        Annotated[
            Annotated[Literal["required"], Tag("word")] | Annotated[Approval, Tag("map")],
            Discriminator(_word_or_map),
        ]
        | None
    ) = None
    for_each: str | None = None
    as_: StepId | None = Field(None, alias="as")
    max_parallel: Annotated[int, Field(ge=1, le=64)] | None = None
    side_effects: bool | None = None
    idempotent: bool = False
    postcondition: Condition | None = None
    on_error: Literal["fail", "continue", "skip_rest"] = "fail"
    artifacts: Annotated[list[RelativePath], Field(max_length=100)] = []
    uses: Annotated[list[RelativePath], Field(max_length=100)] = []
    allow: Allow | None = None
    max_output_bytes: Annotated[int, Field(ge=1, le=MAX_OUTPUT_BYTES)] | None = None
    ask: Ask | None = None
    manual: ConstantText | None = None
    workflow: WorkflowId | None = None


class Workflow(Shape):
    """One workflow file."""

    id: WorkflowId | None = None
    name: Title | None = None
    description: Annotated[str, Field(max_length=2000)] | None = None
    version: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    type: Literal["chain", "graph"] = "chain"
    inputs: Annotated[dict[InputName, dict[str, Any]], Field(max_length=200)] = {}
    outputs: Annotated[dict[InputName, Any], Field(max_length=200)] = {}
    secrets: Annotated[dict[VariableName, Handle], Field(max_length=100)] = {}
    env: dict[VariableName, str] = {}
    allow: Allow | None = None
    defaults: Defaults | None = None
    limits: Limits | None = None
    concurrency: Concurrency | None = None
    tools: Tools | None = None
    sandbox: Literal["required", "preferred", "off"] | None = None
    steps: Annotated[list[Step], Field(min_length=1, max_length=MAX_STEPS)]
    finally_: Annotated[list[Step], Field(max_length=MAX_STEPS)] = Field([], alias="finally")
