"""A run that is killed at chosen writes of its journal and brought to its end by a person.

The workflow has parallel branches, a retry, a loop, a sub-workflow, a gate, a question to a model,
two steps with side effects that may not be repeated, and a `finally`. Every step leaves a line in
the file `world`: what really happened, whoever remembers it.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt_testing import fatal_agent
from fleetprompt_testing.workspace import AgentEndedError, Workspace

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import AgentProcess

WORKFLOW = """\
name: Ordeal
steps:
  - id: numbers
    needs: []
    tool: flow:set
    with: {list: [1, 2]}
  - id: read
    needs: []
    command: cli sh -c 'echo read >> WORLD; echo R'
    idempotent: true
  - id: flaky
    needs: []
    command: cli sh -c 'echo flaky >> WORLD; echo F; test $(grep -c flaky WORLD) -ge 2'
    idempotent: true
    retry: {max_attempts: 5, initial: 1ms, jitter: 0}
  - id: each
    needs: [numbers]
    for_each: steps.numbers.json.list
    command: cli sh -c 'echo each$0 >> WORLD; echo $0' ${{ item }}
    idempotent: true
  - id: sub
    needs: [numbers]
    workflow: part
  - id: deploy
    needs: [read]
    command: cli sh -c 'echo deploy >> WORLD; echo D'
    approval: {prompt: "Deploy?"}
  - id: judge
    needs: [read]
    tool: llm
    with: {prompt: "Is ${{ steps.read.text }} good?", schema: {type: boolean}}
  - id: notify
    needs: [deploy, judge, flaky, each, sub]
    command: cli sh -c 'echo notify >> WORLD; echo N'
finally:
  - id: tidy
    command: cli sh -c 'echo tidy >> WORLD'
    idempotent: true
outputs:
  texts: ${{ [steps.read.text, steps.flaky.text, steps.deploy.text, steps.notify.text] }}
  each: $each.json
  part: $sub.json.inner
  good: $judge.json
"""
PART = """\
steps:
  - {id: inner, command: cli sh -c 'echo inner >> WORLD; echo I', idempotent: true}
outputs:
  inner: $inner.text
"""
LINES = {
    "read": "read", "flaky": "flaky", "each[0]": "each1", "each[1]": "each2",
    "sub/inner": "inner", "deploy": "deploy", "notify": "notify", "tidy": "tidy",
}  # fmt: skip
"""Step path to the line that the step leaves."""
ONCE = {"deploy": "D", "notify": "N"}
"""The steps that must not be repeated without a person's word, and what they print."""


@dataclass
class Ordeal:
    """One run and whoever sees it through."""

    folder: Path
    kills: tuple[str, ...] = ()
    """For the first agent, the second …: a `FATAL_WRITE` of `fatal_agent`."""
    questions: list[str] = field(default_factory=list)
    """The steps whose outcome a person was asked about."""
    deaths: int = 0
    settled: dict[str, int] = field(default_factory=dict)
    """Step path to number of its lines, for steps that had settled when an agent died."""

    def __post_init__(self) -> None:
        root = self.folder / "project"
        root.mkdir(parents=True)
        self.workspace = Workspace(root, self.folder / "home")
        for name, text in (("ordeal.yaml", WORKFLOW), ("part.yaml", PART)):
            self.workspace.write(name, text.replace("WORLD", str(self.world)))

    @property
    def world(self) -> Path:
        return self.folder / "world"

    @property
    def writes(self) -> list[list[str]]:
        """The events, as `step.started@deploy`, in each transaction of the first agent."""
        log = self.folder / "writes-0"
        return [line.split() for line in log.read_text().splitlines()]

    def lines(self) -> Counter[str]:
        """How often each step has left its line."""
        return Counter(self.world.read_text().split() if self.world.exists() else ())

    def agent(self) -> AgentProcess:
        number = len(self.workspace.agents)
        env = {"FATAL_LOG": str(self.folder / f"writes-{number}")}
        env["PYTHONPATH"] = str(Path(fatal_agent.__file__).parents[1])
        if number < len(self.kills):
            env["FATAL_WRITE"] = self.kills[number]
        script = ("-m", "fleetprompt_testing.fatal_agent")
        return self.workspace.trusted(env=env, program=script)

    def see_through(self) -> dict[str, Any]:
        """The result of the run at its end.

        Raises:
            AssertionError: something was repeated, forgotten or hidden.
        """
        try:
            result = self._see_through()
        finally:
            for agent in self.workspace.agents:
                agent.dispose()
        self._check_end(result)
        return result

    def _see_through(self) -> dict[str, Any]:
        agent = self.agent()
        while True:
            try:
                # The same key gives the same run, whether or not the first call was survived.
                given = {"workflow": "ordeal", "idempotency_key": "k"}
                result: dict[str, Any] = agent.call("fp_run_workflow", given)
                while result["status"] in ("interrupted", "waiting"):
                    result = self._go_on(agent, result)
                return result
            except AgentEndedError:
                self.deaths += 1
                assert self.deaths <= len(self.kills), agent.log
                self._remember()
                agent = self.agent()

    def _go_on(self, agent: AgentProcess, result: dict[str, Any]) -> dict[str, Any]:
        """Do what the person does next."""
        run_id = result["run_id"]
        answer: dict[str, Any]
        if result["status"] == "interrupted":
            answer = agent.call("fp_resume_run", {"run_id": run_id})
            return answer
        for step in ONCE:
            assert self.lines()[step] <= 1, f"{step} was repeated and nobody asked for it"
        shown = agent.call("fp_get_run", {"run_id": run_id, "reissue": True})
        if not shown["gates"]:  # an answer of the time before the death has been found
            answer = agent.call("fp_resume_run", {"run_id": run_id})
            return answer
        gate = shown["gates"][0]
        step = gate["step_path"]
        decision: dict[str, Any] = {"approve": True}
        if gate["kind"] == "unknown_outcome":
            self.questions.append(step)
            happened = self.lines()[LINES[step]] > 0
            decision = {"succeed_with": ONCE[step]} if happened else {"retry": True}
        elif gate["kind"] == "judgement":
            assert (gate["prompt"], step) == ("Is R good?", "judge")
            decision = {"response": True}
        else:
            assert (gate["kind"], step) == ("approval", "deploy")
        answer = agent.call("fp_resume_run", {"token": gate["token"], **decision})
        return answer

    def _remember(self) -> None:
        """What the journal holds as done, now that nobody writes."""
        lines = self.lines()
        for path in self._journaled("step.succeeded"):
            if path in LINES:
                self.settled[path] = lines[LINES[path]]

    def _journaled(self, type_: str) -> list[str]:
        database = self.workspace.home / "journal.db"
        if not database.exists():
            return []
        with closing(sqlite3.connect(database)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
                return []
            rows = db.execute("SELECT step_path FROM events WHERE type = ?", (type_,)).fetchall()
        return [row[0] for row in rows]

    def _check_end(self, result: dict[str, Any]) -> None:
        lines = self.lines()
        assert result["status"] == "succeeded", json.dumps(result, indent=1)
        for step in ONCE:
            assert lines[step] == 1, f"{step} acted {lines[step]} times"
        for path, count in self.settled.items():
            assert lines[LINES[path]] == count, f"{path} had finished and acted again"
        started = Counter(self._journaled("step.started"))
        for path, line in LINES.items():
            assert 1 <= lines[line] <= started[path], f"{path}: {lines[line]} of {started[path]}"
        assert set(self.questions) <= set(ONCE)


def picture(result: dict[str, Any]) -> dict[str, Any]:
    """What has to be the same however often the agent died."""
    return {
        "status": result["status"],
        "outputs": result["outputs"],
        "steps": {step["step_path"]: step["status"] for step in result["steps"]},
    }
