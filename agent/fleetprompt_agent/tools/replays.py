"""The tools that look back into a run: its steps' output, and the replay of its journal."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_agent.engine.core.events import (
    StepCanceled,
    StepFailed,
    StepStarted,
    StepSucceeded,
    StepUnknown,
)
from fleetprompt_agent.engine.projection import run_result, shown_status
from fleetprompt_agent.engine.snapshots import Snapshot
from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_agent.tools.inputs import RUN_CHANNELS
from fleetprompt_agent.tools.output_pages import KeptOutput
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunState, StepState
    from fleetprompt_agent.tools.inputs import GetOutputInput, ReplayRunInput
    from fleetprompt_agent.tools.registry import Call

Json = Any

_EVENTS_AT_ONCE = 200
"""Replayed before others are answered."""
_CHANNELS = ("stdout", "stderr", "json")


async def fp_get_output(call: Call, given: GetOutputInput) -> dict[str, Json]:
    """What an attempt of a step wrote, as far as it was kept; or a field of the run's result."""
    wanted = _CHANNELS if given.channel is None else (given.channel,)
    pages = call.agent.output_pages
    found = pages.take(given) if given.offset else None
    if found is None:
        found = _kept_output(call, given)
    channels = {
        name: _piece(text, found.result, name, given)
        for name in wanted
        if (text := found.text(name)) is not None
    }
    if any("next_offset" in piece for piece in channels.values()):
        pages.keep(found)
    answer = {**found.answer, "channels": channels}
    if isinstance(found.result.get("artifacts"), list):
        answer["artifacts"] = found.result["artifacts"]
    return answer


def _kept_output(call: Call, given: GetOutputInput) -> KeptOutput:
    """What the journal has.

    Raises:
        RequestError: `run.not_found`, `run.step_not_found` or `tool.invalid_input`.
    """
    engine = call.agent.engine
    run_id = engine.find(given.run_id)
    if given.channel in RUN_CHANNELS:
        return _field_of_run(engine.get(run_id), given.channel)
    events = engine.journal.load(run_id)
    state = fold(run_id, events)
    step = _step(state, given.step_path)
    attempts = _results(events, step.path)
    attempt = given.attempt if given.attempt is not None else max(attempts, default=0)
    if given.attempt is not None and given.attempt not in attempts:
        known = ", ".join(str(number) for number in attempts) or "none"
        raise RequestError(
            "tool.invalid_input",
            f"Attempt {given.attempt} of step {step.path} has left no output; attempts with "
            f"output: {known}.",
        )
    answer: dict[str, Json] = {
        "run_id": run_id,
        "step_path": step.path,
        "step_id": step.step.id,
        "status": shown_status(state, step),
        "attempt": attempt,
        "attempts": sorted(attempts),
    }
    return KeptOutput(answer, attempts.get(attempt, {}))


def _field_of_run(snapshot: Snapshot, name: str) -> KeptOutput:
    """A field of the run's result, as JSON text."""
    result = run_result(snapshot, request_id="")
    answer: dict[str, Json] = {
        "run_id": result["run_id"],
        "step_path": "",
        "step_id": "",
        "status": result["status"],
        "attempt": 0,
        "attempts": [],
    }
    return KeptOutput(answer, {name: json.dumps(result[name], ensure_ascii=False)})


def _step(state: RunState, reference: str) -> StepState:
    """The step of this path, or the only one of this id.

    Raises:
        RequestError: `run.step_not_found`.
    """
    step = state.steps.get(reference)
    if step is not None:
        return step
    named = [step for step in state.steps.values() if step.step.id == reference]
    if len(named) == 1:
        return named[0]
    from fleetprompt_indexer.vocabulary import closest

    if named:
        paths = ", ".join(step.path for step in named[:5])
        hint = f"It stands for {len(named)} steps: {paths}. Give one of these paths."
    else:
        near = closest(reference, list(state.steps))
        known = ", ".join(list(state.steps)[:10]) + (" …" if len(state.steps) > 10 else "")
        hint = f"Did you mean {near}?" if near else f"It has {known}."
    raise RequestError(
        "run.step_not_found", f"Run {state.run_id} has no step {reference[:120]}. {hint}"
    )


def _results(events: list[Event], path: str) -> dict[int, dict[str, Json]]:
    """What each attempt of the step left, by its number."""
    found: dict[int, dict[str, Json]] = {}
    for event in events:
        body = event.body
        if isinstance(body, StepSucceeded | StepFailed | StepCanceled | StepUnknown):
            if body.step_path == path and body.result:
                found[body.attempt] = body.result
        elif isinstance(body, StepStarted) and body.step_path == path:
            found.pop(body.attempt, None)  # after a reopening, the same number begins anew
    return found


def _piece(text: str, result: dict[str, Json], name: str, given: GetOutputInput) -> dict[str, Json]:
    """One channel's text from the offset on, and what became of the rest."""
    end = given.offset + given.limit
    piece: dict[str, Json] = {"text": text[given.offset : end], "truncated": False}
    if end < len(text):
        piece["next_offset"] = end
    cut = (result.get("truncated") or {}).get(name)
    if isinstance(cut, dict):
        # Only the beginning was kept; these are of everything the step wrote.
        piece |= {"truncated": True, "bytes": cut.get("bytes"), "sha256": cut.get("sha256")}
    return piece


async def fp_replay_run(call: Call, given: ReplayRunInput) -> dict[str, Json]:
    """Whether the core, given what came from outside, decides again as the journal says."""
    from fleetprompt_agent.engine.replay import Replay

    engine = call.agent.engine
    run_id = engine.find(given.run_id)
    events = engine.journal.load(run_id)
    replay = Replay(run_id)
    for number, event in enumerate(events, 1):
        if not replay.take(event):
            break
        if number % _EVENTS_AT_ONCE == 0:
            await asyncio.sleep(0)
    answer: dict[str, Json] = {
        "run_id": run_id,
        "ok": replay.difference is None,
        "events": len(events),
        "decided": replay.decided,
        "outside": replay.outside,
    }
    if replay.difference is not None:
        return answer | {"difference": replay.difference}
    # Asking the core at every event must not have changed what the events alone give.
    again = fold(run_id, engine.journal.load(run_id)[: len(events)])
    if replay.state is None or _digest(replay.state) != _digest(again):
        why = "the final state is not that of the journal folded at once"
        return answer | {"ok": False, "difference": {"seq": len(events), "type": "", "why": why}}
    from fleetprompt_agent.engine.attempts import digest_of

    return answer | {"status": _status(again), "state_sha256": digest_of(_shown(again))}


def _status(state: RunState) -> str:
    if state.ended is not None:
        return state.ended
    return "waiting" if state.is_waiting else "running"


def _shown(state: RunState) -> dict[str, Json]:
    return run_result(Snapshot(state, _status(state), {}), request_id="")


def _digest(state: RunState) -> str:
    queues = (
        state.settle, state.to_gate, state.judging, state.held, state.startable, state.running
    )  # fmt: skip
    return canonical_json([_shown(state), [list(queue) for queue in queues]])
