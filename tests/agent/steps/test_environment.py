"""What may be set for a program, and what needs a permission of its own."""

from __future__ import annotations

import pytest

from fleetprompt_agent.language.permissions import may_not_be_set
from fleetprompt_agent.steps.environment import inherited_environment


@pytest.mark.parametrize(
    "name",
    [
        "PATH",
        "LD_PRELOAD",
        "DYLD_INSERT_LIBRARIES",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "NODE_OPTIONS",
        "GIT_SSH_COMMAND",
        "BASH_ENV",
        "FLEETPROMPT_RUN_ID",
    ],
)
def test_what_decides_which_code_is_loaded_is_guarded(name: str) -> None:
    assert may_not_be_set(name)


@pytest.mark.parametrize("name", ["MY_PATH", "PATHS", "GITHUB_TOKEN", "NODE_ENV", "LANG", "LD"])
def test_other_names_are_free(name: str) -> None:
    assert not may_not_be_set(name)


def test_only_listed_names_are_inherited() -> None:
    agent = {
        "HOME": "/h",
        "LC_ALL": "C",
        "LC_X Y": "bad",
        "PATH": "/bin",
        "SSH_AUTH_SOCK": "/s",
        "TOKEN": "t",
        "TZ": "UTC",
    }

    assert inherited_environment(agent) == {"HOME": "/h", "LC_ALL": "C", "TZ": "UTC"}
