"""The tools that say what would happen, and check every workflow; none of them runs anything."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.diagnostics import docs_anchor
from fleetprompt_agent.tools.paging import decode_cursor, encode_cursor
from fleetprompt_agent.tools.validations import keep_validations
from fleetprompt_agent.tools.workflows import validity
from fleetprompt_protocol.errors import RequestError, WorkflowError

if TYPE_CHECKING:
    from fleetprompt_agent.language.loader import Compiled
    from fleetprompt_agent.language.plan import Plan
    from fleetprompt_agent.tools.inputs import PlanWorkflowInput, ValidateProjectInput
    from fleetprompt_agent.tools.registry import Call
    from fleetprompt_indexer.entry import Entry
    from fleetprompt_indexer.problem import Problem

Json = Any

_MOST_DIAGNOSTICS = 200
"""Of one workflow among all; `fp_validate_workflow` gives the rest."""
_PAGE_DIAGNOSTICS = 1_000
"""About 400 KB of JSON."""


async def fp_plan_workflow(call: Call, given: PlanWorkflowInput) -> dict[str, Json]:
    """What a run of the workflow would do; of an invalid one, its problems."""
    loaded = call.agent.load(given.workflow)
    head: dict[str, Json] = {
        "workflow_id": loaded.workflow_id,
        "file_path": loaded.file,
        "sha256": loaded.sha256,
        "valid": loaded.plan is not None,
    }
    problems: list[dict[str, Json]] = [item.to_json() for item in loaded.diagnostics]
    if loaded.plan is None:
        return head | {
            "digest": None,
            "closure": None,
            "steps": [],
            "permissions": [],
            "problems": problems,
        }
    from fleetprompt_agent.language.planview import view_plan

    plan = loaded.plan
    inputs, missing = _known_inputs(plan, given, call)
    problems += [_missing(name, loaded) for name in missing]
    planned = view_plan(plan, inputs) | head
    planned["closure"] = await asyncio.to_thread(_closure, plan, call)
    planned["problems"] = problems
    if given.against is not None:
        planned["against"] = _against(call, plan, given)
    if given.graph is not None:
        from fleetprompt_agent.language import plangraph

        planned["graph"] = getattr(plangraph, given.graph)(plan)
    return planned


def _closure(plan: Plan, call: Call) -> dict[str, Json]:
    """What the plan finds on this machine, looked up and read, and none of it run."""
    import os

    from fleetprompt_agent.language.closure import close_plan
    from fleetprompt_agent.language.surroundings import Machine

    closure = close_plan(plan, Machine(call.agent.root, os.environ.get("PATH", os.defpath)))
    parts = [
        {"kind": part.kind, "name": part.name, "value": part.value}
        for part in closure.parts
        if part.kind != "plan"
    ]
    return {"digest": closure.digest, "parts": parts}


def _known_inputs(
    plan: Plan, given: PlanWorkflowInput, call: Call
) -> tuple[dict[str, Json], list[str]]:
    """The inputs that are known, and the names of those that a run would need besides.

    Raises:
        RequestError: `inputs.invalid`: what is given does not fit.
    """
    from fleetprompt_agent.language.inputs import check_inputs

    known = dict(given.inputs)
    if given.against is not None and not known:
        recorded = call.agent.engine.load(_recorded(call, plan, given)).inputs
        known = {name: value for name, value in recorded.items() if name in plan.inputs}
    missing = [name for name in plan.required_inputs if name not in known]
    if not missing:
        return check_inputs(plan, known), []
    from dataclasses import replace

    rest = {name: schema for name, schema in plan.inputs.items() if name not in missing}
    present = tuple(name for name in plan.required_inputs if name not in missing)
    return check_inputs(replace(plan, inputs=rest, required_inputs=present), known), missing


def _missing(name: str, loaded: Compiled) -> dict[str, Json]:
    return {
        "code": "inputs.invalid",
        "severity": "warning",
        "message": f"input `{name}` is required; a placeholder stands for it",
        "file": loaded.file,
        "line": None,
        "column": None,
        "end_line": None,
        "end_column": None,
        "path": f"inputs.{name}",
        "hint": f"give it: --input {name}=…",
        "docs": docs_anchor("field.missing"),
    }


def _against(call: Call, plan: Plan, given: PlanWorkflowInput) -> dict[str, Json]:
    """What the recorded outcomes of a run would have led to under this plan."""
    from fleetprompt_agent.engine.rehearsal import rehearse
    from fleetprompt_agent.engine.run_difference import difference

    run_id = _recorded(call, plan, given)
    inputs, missing = _known_inputs(plan, given, call)
    if missing:
        names = ", ".join(f"`{name}`" for name in missing)
        raise RequestError(
            "inputs.invalid",
            f"Run {run_id} has no value for {names}, which the workflow now requires. "
            "Give all inputs.",
        )
    return difference(rehearse(run_id, call.agent.engine.journal.load(run_id), plan, inputs))


def _recorded(call: Call, plan: Plan, given: PlanWorkflowInput) -> str:
    """The id of the run that is compared with: the one that is named, else the latest.

    Raises:
        RequestError: `run.not_found`.
    """
    engine = call.agent.engine
    if given.against:
        return engine.find(given.against)
    before: tuple[int, str] | None = None
    while rows := engine.journal.list_runs(engine.project, limit=50, before=before):
        for row in rows:
            before = (row.created_ms, row.run_id)
            if row.workflow_id == plan.workflow_id:
                return row.run_id
    raise RequestError(
        "run.not_found", f"Workflow {plan.workflow_id} has no run to compare with yet."
    )


async def fp_validate_project_resources(call: Call, given: ValidateProjectInput) -> dict[str, Json]:
    """Workflows of the root with their diagnostics, and what is wrong with the root itself.

    A page ends early when its diagnostics are many: an answer has to fit into one message.
    """
    report = call.agent.scan()
    skip = decode_cursor(given.cursor, (int,))[0] if given.cursor else 0
    workflows: list[dict[str, Json]] = []
    kept: list[tuple[bytes, dict[str, Json]]] = []
    room = _PAGE_DIAGNOSTICS
    for entry in report.entries[skip:]:
        checked, rests_on_others = _checked(call, entry)
        workflows.append(checked)
        if not rests_on_others:
            kept.append((entry.relative, checked))
        room -= len(checked["diagnostics"])
        if room <= 0:
            break
        await asyncio.sleep(0)  # others are answered in between
    await keep_validations(call.agent.root, kept)
    named = {entry.file_path for entry in report.entries}
    problems = [_finding(item) for item in report.refusals if item.file not in named]
    is_valid = all(checked["valid"] for checked in workflows) and not any(
        problem["severity"] == "error" for problem in problems
    )
    result: dict[str, Json] = {"valid": is_valid, "workflows": workflows, "problems": problems}
    if skip + len(workflows) < len(report.entries):
        result["next_cursor"] = encode_cursor((skip + len(workflows),))
    return result


def _checked(call: Call, entry: Entry) -> tuple[dict[str, Json], bool]:
    """One workflow's validity, and whether that rests on more than the bytes of its file.

    A file that cannot be read, or whose id is taken, is not valid.
    """
    checked: dict[str, Json] = {
        "workflow_id": entry.workflow_id,
        "file_path": entry.file_path,
        "valid": False,
        "sha256": None,
        "digest": None,
    }
    rests_on_others = True
    try:
        loaded = call.agent.load_entry(entry)
    except WorkflowError:
        found = [_finding(problem) for problem in entry.problems]
    else:
        checked |= validity(loaded)
        found = checked["diagnostics"]
        twins = [_finding(one) for one in entry.problems if one.code == "workflow.ambiguous"]
        if twins:
            checked["valid"] = False
            found += twins
        rests_on_others = loaded.rests_on_others or bool(twins)
    checked["diagnostics"] = found[:_MOST_DIAGNOSTICS]
    if len(found) > _MOST_DIAGNOSTICS:
        checked["omitted"] = len(found) - _MOST_DIAGNOSTICS
    return checked, rests_on_others


def _finding(problem: Problem) -> dict[str, Json]:
    """A finding of the indexer as a diagnostic."""
    return problem.to_json() | {"docs": docs_anchor(problem.code)}
