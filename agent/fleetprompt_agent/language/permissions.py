"""What the text of a workflow says it will use, as permissions.

They are read off the plan, which is data: nothing is looked up or resolved. What a program does
beyond being started is not in the text; where that can be anything, the entry says so.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from fleetprompt_agent.language.actions.http import origin
from fleetprompt_agent.language.plan import Permission
from fleetprompt_agent.language.templates import parse_template

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.plan import Plan, PlanStep

RUNS_OTHER_CODE = frozenset(
    """sh bash dash zsh ksh ash fish csh tcsh busybox
    python pypy node nodejs deno bun ruby perl php lua luajit java dotnet Rscript osascript pwsh
    powershell awk gawk sed env xargs find sudo doas nice nohup time timeout ssh parallel
    make gmake cmake ninja just task npm npx pnpm yarn pip pipx uv uvx poetry cargo go gradle
    gradlew mvn bazel rake bundle gem composer tox nox pytest pre-commit git docker podman kubectl
    helm terraform ansible ansible-playbook vim ed""".split()  # noqa: SIM905 - a list of words
)
"""Interpreters, builders, and programs that start others as their files or arguments tell them."""

UNSEEN = "runs code that this plan cannot see"

_SENSITIVE_VARIABLE = re.compile(
    r"PATH|LD_.*|DYLD_.*|PYTHON.*|NODE_OPTIONS|NODE_PATH|GIT_.*|BASH_ENV|ENV|PERL5?LIB|PERL5OPT"
    r"|RUBY(OPT|LIB)|JAVA_TOOL_OPTIONS|IFS|SHELL|EDITOR|PAGER"
)


_CHOOSES_CODE = re.compile(
    r"PATH|LD_.*|DYLD_.*|PYTHON.*|NODE_OPTIONS|GIT_.*|BASH_ENV|FLEETPROMPT_.*"
)
"""These choose what code runs inside a program whose name the plan shows, or are set by us."""


def permissions(plan: Plan) -> tuple[Permission, ...]:
    """Every permission that the plan's text asks for, each once, in a stable order."""
    found: dict[str, Permission] = {}
    for permission in _of_plan(plan):
        known = found.setdefault(permission.permission, permission)
        if known.enforced and not permission.enforced:  # it is as strong as its weakest use
            found[permission.permission] = permission
    return tuple(sorted(found.values(), key=lambda permission: permission.permission))


def is_sensitive_variable(name: str) -> bool:
    """Whether a variable changes what a program does beyond its own settings."""
    return _SENSITIVE_VARIABLE.fullmatch(name) is not None


def may_not_be_set(name: str) -> bool:
    """Whether a variable is refused: it needs a permission (`env:set:NAME`) nobody can give yet."""
    return _CHOOSES_CODE.fullmatch(name) is not None


def runs_other_code(program: str) -> bool:
    """Whether a program is an interpreter, a builder, or starts what its arguments name."""
    base = posixpath.basename(program.replace("\\", "/")).removesuffix(".exe")
    return base in RUNS_OTHER_CODE or re.sub(r"[0-9.]+$", "", base) in RUNS_OTHER_CODE


def refuse_variable(name: str, location: Location, report: Report) -> None:
    """Report a variable that may not be set."""
    if may_not_be_set(name):
        message = f"`{name}` cannot be set yet: it chooses what code a program loads, or is ours"
        hint = f"write `cli env {name}=VALUE PROGRAM …`, which a plan shows"
        report.add("field.not_supported", message, location, hint=hint, on_key=True)


def _of_plan(plan: Plan) -> Iterator[Permission]:
    for step in (*plan.steps, *plan.finally_steps):
        yield from _of_step(step, plan)
    for workflow in plan.workflows.values():
        yield from _of_plan(workflow)


def _of_step(step: PlanStep, plan: Plan) -> Iterator[Permission]:
    if step.kind == "judgement":
        target = step.tool_id.partition(":")[2]
        why = f"step {step.id} asks the calling agent, which decides what model answers"
        yield Permission(f"model:invoke:{target}", False, why)
    if step.kind != "action":
        return
    kind, _, target = step.tool_id.partition(":")
    match step.namespace:
        case "flow":
            return
        case "cli":
            yield from _of_program(step, target)
        case "http":
            yield from _of_request(step)
        case _:
            yield Permission(f"tool:invoke:{step.tool_id}", True, f"step {step.id} calls it")
    yield from _of_secrets(step, plan, f"{kind}:{target}" if target else kind)
    if step.namespace != "cli":
        return
    for host in step.allow.network:
        yield Permission(f"network:egress:{host}", False, f"step {step.id} says that it goes there")
    for access, paths in (("read", step.allow.read), ("write", step.allow.write)):
        for path in paths:
            why = f"step {step.id} says that it {access}s there"
            yield Permission(f"filesystem:{access}:{path}", False, why)


def _of_program(step: PlanStep, program: str) -> Iterator[Permission]:
    why = f"step {step.id} runs it"
    if runs_other_code(program):
        why += f"; it {UNSEEN}"
    yield Permission(f"process:exec:{program}", True, why)
    for name in step.env:
        if is_sensitive_variable(name):
            why = f"step {step.id} sets it; it changes how programs run"
            yield Permission(f"env:set:{name}", True, why)


def _of_request(step: PlanStep) -> Iterator[Permission]:
    arguments = step.arguments if isinstance(step.arguments, dict) else {}
    found = origin(str(arguments.get("url", "")))
    if found is not None:
        scheme, host, port = found
        usual = (scheme, port) in (("https", 443), ("http", 80))
        place = host if usual else f"{host}:{port}"
        yield Permission(f"network:egress:{place}", True, f"step {step.id} sends a request there")


def _of_secrets(step: PlanStep, plan: Plan, destination: str) -> Iterator[Permission]:
    if not plan.secrets:
        return
    for template in (step.stdin, step.env, step.arguments):
        for reference in parse_template(template).references:
            handle = plan.secrets.get(str(reference.path[0])) if reference.path else None
            if reference.root == "secrets" and handle is not None:
                why = f"step {step.id} is given it"
                yield Permission(f"secret:use:{handle}→{destination}", True, why)
