"""Every broken workflow has its diagnostics next to it.

`FLEETPROMPT_WRITE_GOLDEN=1` writes them anew; read the difference before you keep it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from fleetprompt_agent.language.diagnostics import DIAGNOSTICS
from fleetprompt_agent.language.loader import load_workflow
from fleetprompt_indexer.problem import PROBLEMS

CORPUS = Path(__file__).with_name("corpus")
FILES = sorted(path for path in CORPUS.iterdir() if not path.name.endswith(".golden.json"))

NOT_IN_THE_CORPUS = {
    "internal": "no content causes it",
    "command.json": "see flow_arguments: YAML's flow braces reach it only in quotes",
    "step.too_many": "a file of a thousand steps",
    "workflow.cycle": "needs two files: test_subworkflows",
    "workflow.has_errors": "needs two files: test_subworkflows",
    "workflow.too_deep": "needs nine files: test_subworkflows",
    "tool.not_supported": "depends on what is supported: test_loader",
    "graph.effect_at_start": "a warning beside a plan: test_edges",
    "value.handle": "see secret_values",
}


def diagnose(path: Path, every_field: frozenset[str]) -> list[dict[str, Any]]:
    compiled = load_workflow(
        path.read_bytes(),
        format="json" if path.suffix == ".json" else "yaml",
        file=path.name,
        also_supported=every_field,
    )
    assert (compiled.plan is None) == any(d.severity == "error" for d in compiled.diagnostics)
    return [diagnostic.to_json() for diagnostic in compiled.diagnostics]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_broken_workflow_has_the_diagnostics_that_were_written_down(
    path: Path, every_field: frozenset[str]
) -> None:
    found = diagnose(path, every_field)
    golden = path.with_name(path.name + ".golden.json")
    if os.environ.get("FLEETPROMPT_WRITE_GOLDEN"):
        lines = ",\n".join(json.dumps(item, ensure_ascii=False) for item in found)
        golden.write_text(f"[\n{lines}\n]\n")
    assert found == json.loads(golden.read_text())
    assert any(item["severity"] == "error" for item in found)


def test_there_are_a_hundred_broken_workflows() -> None:
    assert len(FILES) >= 100


def test_every_diagnostic_points_into_its_file(every_field: frozenset[str]) -> None:
    for path in FILES:
        lines = path.read_bytes().decode("utf-8", "replace").split("\n")
        for item in diagnose(path, every_field):
            if item["line"] is None:
                continue
            assert 1 <= item["line"] <= len(lines) + 1, item
            assert item["column"] >= 1, item
            if item["end_line"] is not None:
                end = (item["end_line"], item["end_column"])
                assert end >= (item["line"], item["column"]), item


def test_the_corpus_shows_every_code_of_the_language(every_field: frozenset[str]) -> None:
    shown = {item["code"] for path in FILES for item in diagnose(path, every_field)}
    assert shown <= {*DIAGNOSTICS, *PROBLEMS}
    assert set(DIAGNOSTICS) - shown - set(NOT_IN_THE_CORPUS) == set()
