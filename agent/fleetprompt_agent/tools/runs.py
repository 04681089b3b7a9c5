"""The tools that start, continue, cancel and show runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, get_args

from fleetprompt_agent.engine.core.state import RunEnd
from fleetprompt_agent.engine.custody import NewRun
from fleetprompt_agent.engine.fitting import fit_entry, fit_run
from fleetprompt_agent.engine.projection import instant, run_result, timeline_entry
from fleetprompt_agent.engine.requests import Decide
from fleetprompt_agent.tools.paging import decode_cursor, encode_cursor
from fleetprompt_agent.tools.run_calls import (
    asker_of,
    cancel_with_call,
    check_cwd,
    gate_place,
    seconds,
)
from fleetprompt_protocol.errors import JournalError, RequestError

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Decision
    from fleetprompt_agent.engine.engine import Engine
    from fleetprompt_agent.engine.journal_port import RunRow
    from fleetprompt_agent.engine.snapshots import Snapshot
    from fleetprompt_agent.tools.inputs import (
        CancelExecutionInput,
        GetRunInput,
        GetTimelineInput,
        ListRunsInput,
        ResumeRunInput,
        RunWorkflowInput,
    )
    from fleetprompt_agent.tools.registry import Call

Json = Any

_ENDS = get_args(RunEnd)
_RUNS_AT_ONCE = 50
"""Looked at before others are answered."""
_PAGE_BYTES = 1024 * 1024
"""Of a timeline's page: one that is full ends early."""


def _result(call: Call, snapshot: Snapshot) -> dict[str, Json]:
    result = run_result(snapshot, request_id=call.correlation.request_id)
    return fit_run(result, call.result_bytes)


async def fp_run_workflow(call: Call, given: RunWorkflowInput) -> dict[str, Json]:
    """The run, when it has ended or waits, or after `wait_ms`."""
    from fleetprompt_agent.language.inputs import check_inputs
    from fleetprompt_agent.language.secrets_in_text import refuse_secrets

    plan = call.agent.load(given.workflow).raise_if_invalid()
    inputs = check_inputs(plan, given.inputs)
    refuse_secrets("The metadata", given.metadata)
    check_cwd(call, given.cwd)
    intent = "spawner" if call.agent.allow_side_effects else None
    if intent is None and call.intent is not None:
        intent = await call.intent(plan)
    new = NewRun(
        plan=plan,
        inputs=inputs,
        cwd=given.cwd,
        intent=intent,
        timeout_s=seconds(given.timeout_ms),
        max_output_bytes=given.max_output_bytes,
        metadata=given.metadata,
        caller=call.caller,
        idempotency_key=given.idempotency_key,
    )
    engine = call.agent.engine
    started: list[str] = []
    cancel_with_call(call, started)
    snapshot = await engine.start(
        new, asker_of(call), call.listener, seconds(given.wait_ms), started.append
    )
    return _result(call, snapshot)


async def fp_resume_run(call: Call, given: ResumeRunInput) -> dict[str, Json]:
    """The run, continued or with one gate decided, when it has ended or waits."""
    engine = call.agent.engine
    wait_s = seconds(given.wait_ms)
    if given.token is None:
        run_id = engine.find(given.run_id or "")
        cancel_with_call(call, [run_id])
        if given.from_step is not None:
            return _result(
                call,
                await engine.reopen(run_id, given.from_step, asker_of(call), call.listener, wait_s),
            )
        return _result(call, await engine.resume(run_id, asker_of(call), call.listener, wait_s))
    run_id, gate_id = gate_place(call, given.token)
    decision, response = _decision(given)
    request = Decide(
        gate_id=gate_id,
        decision=decision,
        channel=call.channel,
        token=given.token,
        reason=given.reason,
        response=response,
    )
    cancel_with_call(call, [run_id])
    return _result(
        call, await engine.decide(run_id, request, asker_of(call), call.listener, wait_s)
    )


def _decision(given: ResumeRunInput) -> tuple[Decision, Json]:
    (name,) = given.decisions
    match name:
        case "approve":
            return ("approve" if given.approve else "deny"), None
        case "response":
            return "respond", given.response
        case "succeed_with":
            return "succeed_with", given.succeed_with
        case "retry" | "fail" | "complete" | "skip":
            if getattr(given, name) is not True:
                raise RequestError("tool.invalid_input", f"`{name}` can only be true.")
            return name, None
        case _:
            raise RequestError("tool.invalid_input", f"There is no decision `{name}`.")


async def fp_get_run(call: Call, given: GetRunInput) -> dict[str, Json]:
    """The run as it is now."""
    engine = call.agent.engine
    run_id = engine.find(given.run_id)
    if given.reissue:
        return _result(call, await engine.reissue(run_id, asker_of(call)))
    return _result(call, engine.get(run_id))


async def fp_cancel_execution(call: Call, given: CancelExecutionInput) -> dict[str, Json]:
    """Whether the cancel was accepted."""
    engine = call.agent.engine
    run_id = engine.find(given.run_id)
    accepted, status = await engine.cancel(run_id, given.reason, asker_of(call))
    return {"run_id": run_id, "accepted": accepted, "status": status}


async def fp_list_runs(call: Call, given: ListRunsInput) -> dict[str, Json]:
    """The project's runs, newest first; a run that cannot be read is listed with its error."""
    engine = call.agent.engine
    before = decode_cursor(given.cursor, (int, str)) if given.cursor else None
    found: list[dict[str, Json]] = []
    cursor: str | None = None
    while cursor is None:
        rows = engine.journal.list_runs(engine.project, limit=_RUNS_AT_ONCE, before=before)
        for row in rows:
            before = (row.created_ms, row.run_id)
            if given.workflow is not None and row.workflow_id != given.workflow:
                continue
            summary = await _summary(engine, row, given.status)
            if summary is None:
                continue
            found.append(summary)
            if len(found) == given.limit:
                cursor = encode_cursor(before)
                break
        if len(rows) < _RUNS_AT_ONCE:
            break
        await asyncio.sleep(0)  # others are answered in between
    result: dict[str, Json] = {"runs": found}
    if cursor is not None:
        result["next_cursor"] = cursor
    return result


async def _summary(engine: Engine, row: RunRow, wanted: str | None) -> dict[str, Json] | None:
    """The run in a list; None when it has another status than the wanted one.

    Only a run that has not ended is folded: it takes 60 ms for 1,000 events.
    """
    summary: dict[str, Json] = {
        "run_id": row.run_id,
        "workflow_id": row.workflow_id,
        "correlation_id": row.correlation_id,
        "started_at": instant(row.created_ms),
    }
    ending = engine.journal.ending(row.run_id)
    if ending is not None:
        status, ended_ms = ending
        summary |= {"status": status, "finished_at": instant(ended_ms), "open_gates": 0}
    elif wanted in _ENDS:
        return None
    else:
        await asyncio.sleep(0)
        try:
            snapshot = engine.get(row.run_id)
        except JournalError as error:
            summary |= {"status": "unreadable", "error": error.to_data()}
        else:
            state = snapshot.state
            summary |= {
                "status": snapshot.status,
                "finished_at": instant(state.ended_ms),
                "open_gates": len(state.open_gates),
            }
    return summary if wanted in (None, summary["status"]) else None


async def fp_get_timeline(call: Call, given: GetTimelineInput) -> dict[str, Json]:
    """Events in the order in which they happened, `limit` at a time."""
    engine = call.agent.engine
    journal = engine.journal
    if given.correlation_id is not None:
        rows = journal.runs_of(engine.project, given.correlation_id)
        if not rows:
            raise RequestError(
                "run.not_found", f"No run of this project belongs to {given.correlation_id}."
            )
        run_ids = [row.run_id for row in rows]
    else:
        run_ids = [engine.find(given.run_id or "")]
    skip = decode_cursor(given.cursor, (int,))[0] if given.cursor else 0
    found = journal.load_page(run_ids, skip, given.limit + 1)
    events: list[dict[str, Json]] = []
    room = _PAGE_BYTES
    for run_id, event in found[: given.limit]:
        entry, size = fit_entry({"run_id": run_id, **timeline_entry(event)})
        room -= size
        if events and room < 0:
            break
        events.append(entry)
    result: dict[str, Json] = {"events": events}
    if len(events) < len(found):
        result["next_cursor"] = encode_cursor((skip + len(events),))
    return result
