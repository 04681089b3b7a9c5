from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetprompt_agent.language.diagnostics import (
    DIAGNOSTICS,
    DOCS_PAGE,
    Report,
    docs_anchor,
    path_text,
)
from fleetprompt_agent.language.loader import Compiled
from fleetprompt_indexer.document import compose
from fleetprompt_indexer.problem import PROBLEMS

Load = Callable[[str], Compiled]

ROOT = Path(__file__).parents[3]


def anchor_of(heading: str) -> str:
    """The anchor that a heading gets on a code host: lower case, no signs, hyphens for blanks."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_code_has_its_place_in_the_documentation() -> None:
    page = (ROOT / DOCS_PAGE).read_text()
    headings = re.findall(r"^### (.+)$", page, re.MULTILINE)
    assert sorted(headings) == sorted(f"`{code}`" for code in {*DIAGNOSTICS, *PROBLEMS})
    anchors = {anchor_of(heading) for heading in headings}
    for code in (*DIAGNOSTICS, *PROBLEMS):
        page_path, _, anchor = docs_anchor(code).partition("#")
        assert page_path == DOCS_PAGE
        assert anchor in anchors


def test_the_codes_of_two_rooms_do_not_collide() -> None:
    assert not set(DIAGNOSTICS) & set(PROBLEMS)


def test_what_the_documentation_recommends_is_taken(load: Load) -> None:
    page = (ROOT / DOCS_PAGE).read_text()
    examples = re.findall(r"^# write\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(examples) > 20
    for example in examples:
        compiled = load(_around(example))
        assert [d for d in compiled.diagnostics if d.severity == "error"] == [], example


def _around(example: str) -> str:
    """The example in a workflow where its names exist."""
    context = (
        "inputs: {tag: {type: string}, force: {type: boolean}, file: {}}\n"
        "steps:\n"
        "  - {id: collect, command: cli x}\n"
        "  - {id: list, command: cli x}\n"
        "  - {id: build, command: cli x}\n"
        "  - {id: a, command: cli x}\n"
        "  - {id: review, approval: required}\n"
    )
    first = example.split("\n", maxsplit=1)[0]
    key = first.split(":")[0]
    if key in ("id", "inputs", "secrets", "prompt"):
        if key == "prompt":
            return context + "  - id: z\n    approval:\n      " + example
        body = context.replace(
            "inputs: {tag: {type: string}, force: {type: boolean}, file: {}}\n", ""
        )
        return example + ("" if "steps:" in example else body)
    if first.startswith("- "):
        renamed = example.replace("id: a,", "id: z,")
        return context + "".join(f"  {line}\n" for line in renamed.splitlines())
    action = "" if key in ("command", "tool", "approval") else "    command: cli x\n"
    lines = "".join(f"    {line}\n" for line in example.splitlines())
    return context + "  - id: z\n" + action + lines


def test_paths_are_shown_as_people_write_them() -> None:
    assert path_text(("steps", 2, "env", "TOKEN")) == "steps[2].env.TOKEN"
    assert path_text(()) == ""


def test_a_finding_needs_a_documented_code() -> None:
    root = compose(b"a: 1\n", format="yaml", file="x.yaml")
    with pytest.raises(ValueError, match="undocumented"):
        Report("x.yaml", "a: 1\n", root).add("no.such.code", "x", ())


def test_findings_come_in_the_order_of_the_file_and_once(load: Load) -> None:
    compiled = load("steps:\n  - {id: b, command: x}\n  - {id: a, command: y}\nzzz: 1\naaa: 2\n")
    lines = [one.line for one in compiled.diagnostics]
    assert lines == sorted(line for line in lines if line is not None)
    assert len(set(compiled.diagnostics)) == len(compiled.diagnostics)
    assert compiled.diagnostics[0].to_json()["docs"] == "docs/diagnostics.md#commandnamespace"
