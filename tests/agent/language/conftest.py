from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest

from fleetprompt_agent.language.loader import Compiled, load_workflow
from fleetprompt_indexer.vocabulary import NAMESPACES, STEP_FIELDS, WORKFLOW_FIELDS

LATER = (
    *("roles", "phases", "preconditions", "acceptance", "required_evidence", "runtime_defaults"),
    *("scopes", "match", "triggers", "approvers"),
)
"""Fields that have no model yet; all others are tested, whether they are enforced now or not."""

Load = Callable[[str], Compiled]


@pytest.fixture(scope="session")
def every_field() -> frozenset[str]:
    """The names of everything that the language can read, supported or not."""
    fields = {*WORKFLOW_FIELDS, *STEP_FIELDS} - set(LATER)
    return frozenset(fields | {f"{name}:" for name in (*NAMESPACES, "agent")})


@pytest.fixture
def load(every_field: frozenset[str]) -> Load:
    """Loads a workflow from indented text."""

    def loaded(text: str) -> Compiled:
        data = textwrap.dedent(text).encode()
        return load_workflow(data, format="yaml", file="test.yaml", also_supported=every_field)

    return loaded
