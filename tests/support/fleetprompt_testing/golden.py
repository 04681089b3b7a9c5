"""Golden journals: runs as they were once written, kept as text, and what must be read in them.

A file holds one event row to a line, as JSON by column name. Its last line says what the fold of
them gives: the `picture` of the run, and the `decisions`, the commands that stand after each event.

    PYTHONPATH=tests/support python -m fleetprompt_testing.golden FOLDER [SCENARIO]

performs every scenario, or the one, with a real agent and writes its file. Do that for a *new*
folder when the format or the semantics change, and for a new file when the language grows; what
lies there already has to be read as it is.
"""

from __future__ import annotations

import json
import sqlite3
import sys
import tempfile
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.core.apply import apply, begin
from fleetprompt_agent.engine.core.decide import decide
from fleetprompt_agent.engine.event_rows import COLUMNS, from_row
from fleetprompt_agent.language.plan import plan_from_json
from fleetprompt_testing.ordeal import Ordeal
from fleetprompt_testing.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.engine.core.commands import Command
    from fleetprompt_agent.engine.core.events import Event
    from fleetprompt_agent.engine.core.state import RunState

RUN_ID = "golden"


def read(path: Path) -> tuple[list[Event], dict[str, Any]]:
    """The events of a file, and what was read in them when it was written."""
    *rows, expected = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [event_of(row) for row in rows], expected


def event_of(row: dict[str, Any]) -> Event:
    """The event of one line."""
    values = [json.dumps(row[name]) if name == "data" else row[name] for name in COLUMNS]
    return from_row(RUN_ID, tuple(values))


def told(events: list[Event]) -> dict[str, Any]:
    """What the events say now."""
    state = begin(RUN_ID, events[0])
    decisions = [_shown(decide(state))]
    for event in events[1:]:
        apply(state, event)
        decisions.append(_shown(decide(state)))
    return {"picture": _picture(state), "decisions": decisions}


def _shown(commands: tuple[Command, ...]) -> str:
    return "; ".join(map(_name, commands))


def _name(command: Command) -> str:
    """A command without what an engine may come to say beside it."""
    about = getattr(command, "body", command)
    kind = getattr(about, "type", type(command).__name__)
    path = getattr(about, "step_path", None)
    extra = getattr(command, "attempt", getattr(command, "kind", None))
    return " ".join(str(part) for part in (kind, path, extra) if part is not None)


def _picture(state: RunState) -> dict[str, Any]:
    return {
        "ended": state.ended,
        "outputs": state.outputs,
        "output": state.output,
        "error": state.error,
        "waiting": state.is_waiting,
        "active_ms": state.active_ms,
        "steps": {
            path: [step.status, step.attempt, step.failures, step.effect, step.result.get("json")]
            for path, step in state.steps.items()
        },
        "gates": {
            gate.gate_id: [gate.kind, gate.step_path, gate.decision]
            for gate in state.gates.values()
        },
    }


# Writing


def rows_of(workspace: Workspace) -> list[dict[str, Any]]:
    """The rows of the only run of a workspace."""
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db:
        found = db.execute(f"SELECT {', '.join(COLUMNS)} FROM events ORDER BY seq").fetchall()
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in found]
    for row in rows:
        row["data"] = json.loads(row["data"].replace(str(workspace.home.parent), "/here"))
    return rows


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """A golden file of these rows."""
    expected = told([event_of(row) for row in rows])
    lines = [json.dumps(item, ensure_ascii=False) for item in (*rows, expected)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def spelled_out(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows as the first version wrote them: plans with every default, fewer fields."""
    first = json.loads(json.dumps(rows[0]))
    plan = asdict(plan_from_json(first["data"]["plan"]))
    first["data"]["plan"] = json.loads(json.dumps(_without(plan)))
    return [first, *rows[1:]]


def _without(plan: dict[str, Any]) -> dict[str, Any]:
    del plan["sandbox"]
    for step in (*plan["steps"], *plan["finally_steps"]):
        for name in ("allow", "uses", "claims_no_effect"):
            del step[name]
    plan["workflows"] = {name: _without(sub) for name, sub in plan["workflows"].items()}
    return plan


def killed(folder: Path) -> list[dict[str, Any]]:
    """Two agents died; the outcomes of both side effects were told by a person."""
    ordeal = Ordeal(folder, ("before:step.succeeded@deploy", "before:step.succeeded@notify"))
    ordeal.see_through()
    return rows_of(ordeal.workspace)


def _run(folder: Path, text: str, *answers: dict[str, Any], trusted: bool = True) -> Workspace:
    """A run of the text; each answer resolves the first open gate, or resumes without one."""
    (folder / "project").mkdir(parents=True)
    workspace = Workspace(folder / "project", folder / "home")
    workspace.write("w.yaml", text)
    agent = workspace.trusted() if trusted else workspace.agent()
    result = agent.call("fp_run_workflow", {"workflow": "w"})
    for answer in answers:
        place = {"run_id": result["run_id"]}
        if result["gates"]:
            place = {"token": result["gates"][0]["token"]}
        result = agent.call("fp_resume_run", {**place, **answer})
    agent.close()
    agent.dispose()
    return workspace


def failed(folder: Path) -> list[dict[str, Any]]:
    """Retries that did not help; a step that may fail; `finally`."""
    text = """\
steps:
  - {id: may, command: cli sh -c 'exit 7', on_error: continue}
  - {id: bad, command: cli sh -c 'echo no >&2; exit 3', retry: {max_attempts: 2, initial: 1ms}}
  - {id: never, tool: flow:noop}
finally:
  - {id: tidy, tool: flow:set, with: {why: $run.error.code}}
"""
    return rows_of(_run(folder, text))


def denied(folder: Path) -> list[dict[str, Any]]:
    """The run's effects were allowed, then its approval was denied."""
    text = """\
steps:
  - {id: first, command: cli echo one}
  - {id: act, command: cli echo two, approval: {prompt: "Sure?", preview: $first.text}}
"""
    return rows_of(_run(folder, text, {"approve": True}, {"approve": False}, trusted=False))


def asked(folder: Path) -> list[dict[str, Any]]:
    """Data from a person, a step that a person does, a condition, a skip."""
    text = """\
steps:
  - {id: who, ask: {prompt: Who?, schema: {type: string}}}
  - {id: call, manual: Call them}
  - {id: some, tool: flow:noop, if: steps.who.response == "nobody"}
  - {id: after, tool: flow:noop, needs: [some]}
outputs:
  who: $who.response
"""
    return rows_of(_run(folder, text, {"response": "me"}, {"complete": True, "reason": "done"}))


def judged(folder: Path) -> list[dict[str, Any]]:
    """A model's answers: to one question, and to those of a list, two of them open at once."""
    text = """\
steps:
  - id: sort
    tool: llm:big
    with: {prompt: "${{ run.id }} spam?", system: Be terse., schema: {enum: [spam, ham]}}
  - {id: each, for_each: "[1, 2, 3]", max_parallel: 2, command: 'llm prompt="${{ item }}?"'}
outputs:
  label: $sort.json
  sizes: $each.json
"""
    sizes = ({"response": {"n": number}} for number in range(3))
    return rows_of(_run(folder, text, {"response": "ham"}, *sizes))


def reopened(folder: Path) -> list[dict[str, Any]]:
    """A failed run that went on from the step that failed."""
    text = """\
steps:
  - {id: first, command: cli echo one}
  - {id: bad, command: cli sh -c 'test -e ok || exec sh -c "touch ok; exit 1"'}
finally:
  - {id: tidy, tool: flow:noop}
"""
    return rows_of(_run(folder, text, {"from_step": "bad"}))


SCENARIOS: dict[str, Callable[[Path], list[dict[str, Any]]]] = {
    scenario.__name__: scenario for scenario in (killed, failed, denied, asked, judged, reopened)
}


def main() -> None:
    target = Path(sys.argv[1])
    wanted = [name for name in sys.argv[2:] if name in SCENARIOS]
    target.mkdir(parents=True, exist_ok=bool(wanted))
    for name, scenario in SCENARIOS.items():
        if wanted and name not in wanted:
            continue
        with tempfile.TemporaryDirectory() as folder:
            rows = scenario(Path(folder) / name)
        write(target / f"{name}.jsonl", rows)
        if "--spelled-out" in sys.argv:
            write(target / f"{name}.jsonl", spelled_out(rows))


if __name__ == "__main__":
    main()
