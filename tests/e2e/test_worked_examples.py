"""The workflows of docs/workflows.md run as they stand, through a real agent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import Workspace

PAGE = (Path(__file__).parents[2] / "docs" / "workflows.md").read_text(encoding="utf-8")
SECTION = PAGE.split("## Worked examples")[1].split("\n## ")[0]
EXAMPLES = {
    re.findall(r"^id: (\S+)", text, re.MULTILINE)[0]: text
    for text in re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
}
GIVES: dict[str, Any] = {
    "sizes": {"long": ["three", "fifteen"]},
    "outer": {"long": ["abcdef"]},
    "robust": {"slow": "step.timeout", "ended": "succeeded"},
    "build": {"page": "<h1>Hello</h1>"},
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_worked_example_runs_as_it_stands(workspace: Workspace, name: str) -> None:
    for other, text in EXAMPLES.items():
        workspace.write(f"{other}.yaml", text)
    agent = workspace.agent("--allow-side-effects")
    assert agent.call("fp_validate_workflow", {"workflow": name})["diagnostics"] == []
    run = agent.call("fp_run_workflow", {"workflow": name})
    assert (run["status"], run.get("error")) == ("succeeded", None)
    if name in GIVES:
        assert run["outputs"] == GIVES[name]
    else:
        assert re.match(r"\d+ entries\n", run["outputs"]["report"])


def test_what_people_are_asked_reads_as_documented(workspace: Workspace) -> None:
    section = PAGE.split("## Asking a person")[1].split("\n## ")[0]
    (text,) = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    workspace.write("ask.yaml", text)
    agent = workspace.agent()
    run = agent.call("fp_run_workflow", {"workflow": "ask"})
    for answer in ({"response": {"pod": "web-2"}}, {"complete": True}, {"approve": True}):
        given = {"token": run["gates"][0]["token"], **answer}
        run = agent.call("fp_resume_run", given)
    assert (run["status"], run["outputs"]) == ("succeeded", {"pod": "web-2"})
    assert run["output"] == {"pod": "web-2"}
