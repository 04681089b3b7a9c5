"""The words of the workflow language: its fields and its namespaces, each once.

The indexer, the language, the schema and the documentation read these tables, so that a word
cannot mean one thing here and another there. A word that is known but not enforced yet has
`supported=False`: the language refuses it by name. What a field's value must look like in detail
belongs to the language; `shape` is only what a message says is expected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Level = Literal["workflow", "step"]
"""Where a field stands: at the top of the file, or in a step."""


@dataclass(frozen=True, slots=True)
class Field:
    """One word that may stand as a key."""

    name: str
    description: str
    """One line, without a final full stop."""
    shape: str
    """What kind of value is expected, in words for a message."""
    supported: bool = True
    """False: known, planned, and refused until it is enforced."""
    canonical: str = ""
    """The field that this one is an alias of; empty for a field in its own right."""
    example: str = ""
    """A value as it would be written."""


@dataclass(frozen=True, slots=True)
class Namespace:
    """One kind of action: the first word of `command`, or what stands before `:` in `tool`."""

    name: str
    meaning: str
    side_effects: str
    """`yes`, `no`, or the condition under which there are none."""
    result: tuple[str, ...]
    """Fields of the step's result beside `RESULT_FIELDS`; a final `?`: not always there."""
    supported: bool = True
    form: str = ""
    """A `command` as it would be written."""


def _table(*fields: Field) -> dict[str, Field]:
    return {field.name: field for field in fields}


WORKFLOW_FIELDS: Mapping[str, Field] = _table(
    Field("id", "Name by which the workflow is called; default: the file's stem", "a short name"),
    Field("name", "Title for people", "text"),
    Field("description", "What the workflow is for", "text"),
    Field("version", "Version of the workflow, kept as it is written", "text", example="1.2.0"),
    Field("type", "How steps are ordered", "`chain` or `graph`", example="chain"),
    Field(
        "inputs",
        "What a caller passes: a JSON Schema property for each name, plus `required: true`",
        "a map of names to schemas",
        example="{tag: {type: string, default: family}}",
    ),
    Field("args", "Alias of `inputs`", "a map of names to schemas", canonical="inputs"),
    Field("outputs", "What the run gives back", "a map of names to templates"),
    Field("secrets", "Handles of secrets, never values", "a map of names to handles", False),
    Field("env", "Environment variables for every step", "a map of names to text"),
    Field("allow", "What steps may reach: network, read, write", "a map of lists", False),
    Field("defaults", "Values for steps that do not set them", "a map"),
    Field("limits", "Limits of a whole run", "a map", example="{timeout: 10m}"),
    Field("concurrency", "Which runs exclude each other", "a map"),
    Field("tools", "Tools that steps may and may not use", "a map"),
    Field("sandbox", "Isolation", "`required`, `preferred` or `off`", False),
    Field("steps", "The steps, in order", "a list of steps"),
    Field("finally", "Steps that run whatever happened before", "a list of steps"),
    Field("roles", "Who does what", "a map", False),
    Field("phases", "Groups of steps", "a list", False),
    Field("preconditions", "What must hold before a run", "a list", False),
    Field("acceptance", "What must hold after a run", "a list", False),
    Field("required_evidence", "What a run must leave behind", "a list", False),
    Field("runtime_defaults", "Values for the host", "a map", False),
    Field("scopes", "Scopes of capabilities and credentials", "a map", False),
    Field("match", "When the workflow applies", "a map", False),
    Field("triggers", "What starts the workflow", "a list", False),
    Field("approvers", "Who may approve", "a list", False),
)
"""Every key at the top of a workflow file."""

STEP_FIELDS: Mapping[str, Field] = _table(
    Field("id", "Name by which other steps refer to this one", "a short name", example="collect"),
    Field("name", "Title for people", "text"),
    Field("command", "The action as one line: a namespace and its words", "text"),
    Field("tool", "The action as a tool id", "text", example="cli:gh"),
    Field("with", "Arguments of the tool", "a map", example="{args: [pr, list]}"),
    Field("needs", "Steps that must end before this one starts", "a list of step ids"),
    Field("if", "Run the step only when this holds", "an expression"),
    Field("condition", "Alias of `if`", "an expression", canonical="if"),
    Field("stdin", "What the program reads", "text or a reference", example="$collect.stdout"),
    Field("env", "Environment variables of the step", "a map of names to text"),
    Field("cwd", "Directory in which the program runs", "a relative path"),
    Field("output", "How the program's output is read", "`text`, `json` or `none`, or a map"),
    Field("ok_exit_codes", "Exit codes that mean success", "a list of integers"),
    Field("timeout", "Longest time of one attempt", "a duration", example="30s"),
    Field("total_timeout", "Longest time of all attempts", "a duration", example="5m"),
    Field("retry", "When and how often to try again", "a map", example="{max_attempts: 3}"),
    Field("approval", "A person must agree before the step acts", "`required`, or a map"),
    Field("for_each", "Run the step once for each item", "an expression that gives a list"),
    Field("as", "Name of the item in `for_each`", "a short name", example="item"),
    Field("max_parallel", "How many items run at once", "an integer", example="4"),
    Field("side_effects", "False: the step changes nothing", "true or false"),
    Field("idempotent", "True: doing it twice is the same as once", "true or false"),
    Field("postcondition", "What must hold after the step", "an expression"),
    Field("on_error", "What a failure does", "`fail`, `continue` or `skip_rest`"),
    Field("artifacts", "Files that the step makes", "a list of paths"),
    Field("uses", "Files that belong to what is approved", "a list of paths"),
    Field("allow", "What the step may reach: network, read, write", "a map of lists", False),
    Field("max_output_bytes", "Longest output that is kept", "an integer"),
    Field("ask", "Data wanted from a person", "a map with `prompt` and `schema`"),
    Field("manual", "Work that a person does by hand", "text"),
    Field("workflow", "Another workflow, run as this step", "a workflow id"),
)
"""Every key of a step."""

ACTION_FIELDS = ("command", "tool", "workflow", "manual", "ask")
"""A step has exactly one of these, or a bare `approval`."""

_LIST_OF_STEPS = "write a flat list under `steps:`; steps without an edge between them run at once"
_PLANNED_TRIGGER = "a workflow is started by its caller; triggers are not supported"
_CLI = "write `command: cli PROGRAM ARGUMENT …`; nothing is handed to a shell"

FOREIGN_WORKFLOW_FIELDS: Mapping[str, str] = {
    "jobs": _LIST_OF_STEPS,
    "stages": _LIST_OF_STEPS,
    "tasks": _LIST_OF_STEPS,
    "nodes": _LIST_OF_STEPS,
    "pipeline": _LIST_OF_STEPS,
    "edges": "write the edges as `needs: [step_id]` in the steps",
    "on": _PLANNED_TRIGGER,
    "schedule": _PLANNED_TRIGGER,
    "cron": _PLANNED_TRIGGER,
    "params": "write `inputs:`",
    "parameters": "write `inputs:`",
    "input": "write `inputs:`",
    "arguments": "write `inputs:`",
    "vars": "write `inputs:` for what a caller sets, `env:` for the environment",
    "variables": "write `inputs:` for what a caller sets, `env:` for the environment",
    "environment": "write `env:`",
    "output": "write `outputs:` with a name for each",
    "title": "write `name:`",
    "timeout": "write `limits: {timeout: 10m}` for the run, `timeout:` in a step for one attempt",
    "timeoutMs": "write `timeout:` in the steps, such as `timeout: 30s`",
    "timeout_sec": "write `limits: {timeout: 10m}`",
    "handler_on": "write `finally:`",
    "handlerOn": "write `finally:`",
    "queue": "write `concurrency: {group: NAME}`",
    "max_active_runs": "write `concurrency: {group: NAME}`",
    "maxActiveRuns": "write `concurrency: {group: NAME}`",
    "max_active_steps": "write `limits: {max_parallel: 4}`",
    "retry_policy": "write `retry:` in the steps, or in `defaults:`",
    "working_dir": "write `defaults: {cwd: sub/dir}`",
    "shell": "nothing is handed to a shell; write `cli bash -c …` when you mean one",
    "permissions": "nothing is to be granted here; `fleetprompt plan` shows what a run may do",
    "services": "containers are not supported",
    "image": "containers are not supported",
    "runs-on": "steps run where the agent runs",
    "parallel": "write `limits: {max_parallel: 4}`",
    "max_parallel": "write `limits: {max_parallel: 4}`",
    "on_failure": "write `finally:` and look at `run.status`",
    "cleanup": "write `finally:`",
    "returns": "write `outputs:`",
    "$schema": "name it in a comment: `# yaml-language-server: $schema=…`",
}
"""Keys of other workflow languages, and what to write instead."""

FOREIGN_STEP_FIELDS: Mapping[str, str] = {
    "run": _CLI,
    "shell": _CLI,
    "script": _CLI,
    "cmd": _CLI,
    "exec": _CLI,
    "action": "write `command:` or `tool:`",
    "call": "write `tool:`",
    "tool_id": "write `tool:`",
    "args": "write `with: {args: […]}`, or the arguments in `command:`",
    "inputs": "write `with:`",
    "input": "write `stdin:` for a program, `with:` for a tool",
    "params": "write `with:`",
    "parameters": "write `with:`",
    "workflow_args": "write `with:`",
    "depends": "write `needs:`",
    "depends_on": "write `needs:`",
    "depends-on": "write `needs:`",
    "dependsOn": "write `needs:`",
    "dependencies": "write `needs:`",
    "after": "write `needs:`",
    "when": "write `if:`",
    "preconditions": "write `if:`",
    "only_if": "write `if:`",
    "unless": "write `if: '!(…)'`",
    "parallel": "write `needs: []`; steps without an edge between them run at once",
    "environment": "write `env:`",
    "working-directory": "write `cwd:`",
    "working_directory": "write `cwd:`",
    "working_dir": "write `cwd:`",
    "workdir": "write `cwd:`",
    "dir": "write `cwd:`",
    "timeout-minutes": "write `timeout:`, such as `timeout: 5m`",
    "timeout_minutes": "write `timeout:`, such as `timeout: 5m`",
    "timeout_seconds": "write `timeout:`, such as `timeout: 30s`",
    "timeout_sec": "write `timeout:`, such as `timeout: 30s`",
    "timeoutSec": "write `timeout:`, such as `timeout: 30s`",
    "timeout_ms": "write `timeout:`, such as `timeout: 30s`",
    "timeoutMs": "write `timeout:`, such as `timeout: 30s`",
    "retries": "write `retry: {max_attempts: 3}`",
    "max_retries": "write `retry: {max_attempts: 3}`",
    "retry_policy": "write `retry: {max_attempts: 3}`",
    "retryPolicy": "write `retry: {max_attempts: 3}`",
    "continue-on-error": "write `on_error: continue`",
    "continue_on_error": "write `on_error: continue`",
    "continue_on": "write `on_error: continue`",
    "continueOn": "write `on_error: continue`",
    "ignore_errors": "write `on_error: continue`",
    "foreach": "write `for_each:`",
    "loop": "write `for_each:`",
    "while": "loops have their items beforehand: write `for_each:`, or `retry:`",
    "switch": "write `if:` in each of the steps",
    "catch": "write `on_error: continue`, and `if:` in the step that deals with it",
    "on_failure": "write `on_error: continue`, and `if:` in the step that deals with it",
    "always": "write the step under `finally:`",
    "assert": "write `postcondition:`, or a step with `tool: flow:assert`",
    "expect": "write `postcondition:`",
    "capture": "every result is found at `steps.STEP_ID` already",
    "enabled": "write `if: false`",
    "user": "programs run as the user of the agent",
    "with_items": "write `for_each:`",
    "item_var": "write `as:`",
    "matrix": "write `for_each:`",
    "strategy": "write `for_each:`",
    "output_schema": "write `output: {type: json, schema: {…}}`",
    "pipeline": "make a step of each stage, with `stdin: $before.stdout`",
    "register": "every result is found at `steps.STEP_ID` already",
    "outputs": "write `output: json` here and `outputs:` at the top of the file",
    "requires_approval": "write `approval: required`",
    "requiresApproval": "write `approval: required`",
    "confirm": "write `approval: required`",
    "approve": "write `approval: required`",
    "prompt": "write `approval: {prompt: …}`",
    "description": "write `name:`",
    "title": "write `name:`",
    "type": "the kind of a step follows from `command:` or `tool:`",
    "agent": "write `tool: AGENT_ID/TOOL`",
    "container": "containers are not supported",
    "image": "containers are not supported",
}
"""Keys of other workflow languages, and what to write instead."""

RESULT_FIELDS = ("status", "error", "duration_ms", "attempt", "effect")
"""What every step's result has, whatever its namespace."""

GATE_RESULT_FIELDS = ("approved", "response", "reason", "actor")
"""What the result of a step with a gate has besides."""

NAMESPACES: Mapping[str, Namespace] = {
    namespace.name: namespace
    for namespace in (
        Namespace(
            "cli",
            "one program with its arguments, never a shell",
            "yes",
            ("stdout", "stderr", "exit_code", "json?", "text"),
            form="cli gh pr list --json number",
        ),
        Namespace(
            "flow",
            "built in: noop, set, wait, assert, fail",
            "no",
            ("json",),
            form="flow noop",
        ),
        Namespace(
            "http",
            "one HTTP request",
            "not for GET and HEAD of a literal URL",
            ("http_status", "headers", "body", "json?"),
            supported=False,
            form="http GET https://example.com/status",
        ),
        Namespace(
            "mcp",
            "a tool of a configured MCP server",
            "yes, unless a grant pins the tool's annotation",
            ("json", "text"),
            supported=False,
            form="mcp github.create_issue title=Hello",
        ),
        Namespace(
            "web",
            "the browser: navigate, click, fill, snapshot, screenshot, text",
            "yes",
            ("text", "json?", "artifacts"),
            supported=False,
            form="web navigate https://example.com",
        ),
        Namespace(
            "node",
            "an action of a configured process",
            "yes",
            ("json",),
            supported=False,
            form="node camera snap quality:=80",
        ),
        Namespace(
            "llm",
            "a question to the calling agent's model, answered in JSON",
            "no",
            ("json", "usage"),
            form='llm prompt="Is this spam? ${{ inputs.mail }}"',
        ),
    )
}
"""Every namespace that has a name of its own."""

AGENT_TOOLS = Namespace(
    "<agent_id>/<tool>",
    "a tool of another agent, called through the host",
    "as the agent registered it",
    ("json",),
    form="com.example.reviewer/review",
)
"""Tools of other agents: named by `<agent_id>/<tool>` in place of a namespace."""


def fields_of(level: Level) -> Mapping[str, Field]:
    """The table of the level."""
    return WORKFLOW_FIELDS if level == "workflow" else STEP_FIELDS


def canonical_name(level: Level, key: str) -> str:
    """The field that the key stands for: itself, unless it is an alias."""
    field = fields_of(level).get(key)
    return field.canonical or key if field else key


def hint_for_key(level: Level, key: str) -> str | None:
    """What to write in place of a key that the level does not know; None when nothing is close."""
    foreign = FOREIGN_WORKFLOW_FIELDS if level == "workflow" else FOREIGN_STEP_FIELDS
    hint = foreign.get(key)
    if hint is not None:
        return hint
    other: Level = "step" if level == "workflow" else "workflow"
    close = closest(key, (f.name for f in fields_of(level).values() if not f.canonical))
    if close is not None:
        return f"did you mean `{close}`?"
    if key in fields_of(other):
        place = "in a step" if other == "step" else "at the top of the file"
        return f"`{key}` stands {place}"
    return None


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that the word was probably meant to be, or None."""
    if not word or len(word) > 64:
        return None
    import difflib

    by_fold = {name.casefold().replace("-", "_"): name for name in known}
    found = difflib.get_close_matches(word.casefold().replace("-", "_"), by_fold, n=1, cutoff=0.75)
    return by_fold[found[0]] if found else None


def namespace_names(*, supported_only: bool = True) -> tuple[str, ...]:
    """The names of the namespaces, in the order of the table."""
    return tuple(n.name for n in NAMESPACES.values() if n.supported or not supported_only)
