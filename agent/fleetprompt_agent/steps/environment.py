"""What a program finds in its environment, and which names a workflow may not set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fleetprompt_agent.language.permissions import may_not_be_set
from fleetprompt_protocol.errors import PolicyError, RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleetprompt_agent.steps.contract import StepRequest

INHERITED = frozenset(
    {"HOME", "LANG", "LANGUAGE", "LOGNAME", "SHELL", "TERM", "TMPDIR", "TZ", "USER"}
)
"""What every program gets from the agent's own environment, besides `LC_*` and a cleaned `PATH`."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def inherited_environment(agent: Mapping[str, str]) -> dict[str, str]:
    """The part of the agent's environment that programs may see, without `PATH`."""
    return {
        name: value
        for name, value in agent.items()
        if name in INHERITED or (name.startswith("LC_") and _NAME.match(name))
    }


def step_environment(
    inherited: Mapping[str, str], path: str, request: StepRequest
) -> dict[str, str]:
    """The whole environment of a step.

    Args:
        inherited: From `inherited_environment`.
        path: The search path, cleaned.
        request: Its declared variables win over inherited ones.

    Raises:
        PolicyError: `tool.denied`: a declared variable needs a permission.
        RequestError: `cli.argument`: a variable cannot be passed to a program.
    """
    env = {**inherited, "PATH": path}
    for name, value in (request.action.get("env") or {}).items():
        if not _NAME.match(name):
            raise RequestError("cli.argument", f"`{name}` cannot be the name of a variable.")
        if may_not_be_set(name):
            raise PolicyError(
                "tool.denied",
                f"Setting `{name}` needs the permission `env:set:{name}`, which cannot be granted "
                "yet: it decides what code a program loads. Remove it from `env`.",
                details={"permission": f"env:set:{name}"},
            )
        env[name] = value
    ids = request.correlation
    env["FLEETPROMPT_RUN_ID"] = request.run_id
    env["FLEETPROMPT_IDEMPOTENCY_KEY"] = request.idempotency_key
    env["FLEETPROMPT_REQUEST_ID"] = ids.request_id
    env["FLEETPROMPT_CORRELATION_ID"] = ids.correlation_id
    if ids.causation_id is not None:
        env["FLEETPROMPT_CAUSATION_ID"] = ids.causation_id
    return env
