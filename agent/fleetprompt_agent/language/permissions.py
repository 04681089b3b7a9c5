"""What the text of a workflow says it will use, as permissions.

They are read off the plan, which is data: nothing is looked up or resolved. What a program does
beyond being started is not in the text; where that can be anything, the entry says so.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING

from fleetprompt_agent.language.plan import Permission

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def permissions(plan: Plan) -> tuple[Permission, ...]:
    """Every permission that the plan's text asks for, each once, in a stable order."""
    found: dict[str, Permission] = {}
    for permission in _of_plan(plan):
        found.setdefault(permission.permission, permission)
    return tuple(sorted(found.values(), key=lambda permission: permission.permission))


def is_sensitive_variable(name: str) -> bool:
    """Whether a variable changes what a program does beyond its own settings."""
    return _SENSITIVE_VARIABLE.fullmatch(name) is not None


def runs_other_code(program: str) -> bool:
    """Whether a program is an interpreter, a builder, or starts what its arguments name."""
    base = posixpath.basename(program.replace("\\", "/")).removesuffix(".exe")
    return base in RUNS_OTHER_CODE or re.sub(r"[0-9.]+$", "", base) in RUNS_OTHER_CODE


def _of_plan(plan: Plan) -> Iterator[Permission]:
    for step in (*plan.steps, *plan.finally_steps):
        yield from _of_step(step)
    for workflow in plan.workflows.values():
        yield from _of_plan(workflow)


def _of_step(step: PlanStep) -> Iterator[Permission]:
    if step.kind != "action":
        return
    if step.namespace == "cli":
        program = step.tool_id.partition(":")[2]
        why = f"step {step.id} runs it"
        if runs_other_code(program):
            why += f"; it {UNSEEN}"
        yield Permission(f"process:exec:{program}", True, why)
        for name in step.env:
            if is_sensitive_variable(name):
                why = f"step {step.id} sets it; it changes how programs run"
                yield Permission(f"env:set:{name}", True, why)
    elif step.namespace != "flow":
        yield Permission(f"tool:invoke:{step.tool_id}", True, f"step {step.id} calls it")
