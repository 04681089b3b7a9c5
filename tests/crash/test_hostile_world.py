"""Agents whose neighbours, clock, disk or log are not as they should be."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing import fatal_agent
from fleetprompt_testing.workspace import AgentEndedError, Workspace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleetprompt_testing.workspace import AgentProcess

SCRIPT = ("-m", "fleetprompt_testing.fatal_agent")
SUPPORT = str(Path(fatal_agent.__file__).parents[1])


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    root = tmp_path / "project"
    root.mkdir()
    made = Workspace(root, tmp_path / "home")
    yield made
    for agent in made.agents:
        if agent.process.poll() is None:
            agent.process.send_signal(signal.SIGCONT)
        agent.dispose()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 2 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    options = ["-t", "tmpfs", "-o", "size=2m,mode=0700"]
    if subprocess.run(["mount", *options, "tmpfs", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def hasty(workspace: Workspace, lease_s: float) -> AgentProcess:
    """An agent whose leases are short."""
    return workspace.trusted(
        program=SCRIPT, env={"FATAL_LEASE_S": str(lease_s), "PYTHONPATH": SUPPORT}
    )


def started(agent: AgentProcess, step: str) -> tuple[int, str]:
    """A call whose run has come to act in this step, and the run's id."""
    call = agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    return call, agent.wait_for_state(step, "started")["run_id"]


def events(workspace: Workspace, run_id: str) -> list[tuple[Any, ...]]:
    """The rows of the run: sequence, instant, type, path."""
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db:
        return db.execute(
            "SELECT seq, at, type, step_path FROM events WHERE run_id = ? ORDER BY seq", (run_id,)
        ).fetchall()


def events_of_copy(workspace: Workspace, run_id: str, name: str) -> list[tuple[Any, ...]]:
    """The rows as they are found in a copy: whoever opens the log last, empties it."""
    home = workspace.home.with_name(name)
    shutil.copytree(workspace.home, home)
    return events(Workspace(home / "project", home), run_id)


def act_then_wait(workspace: Workspace) -> Path:
    """A workflow whose step acts and then waits for the pipe that is given."""
    pipe = workspace.root / "pipe"
    os.mkfifo(pipe)
    done = workspace.root / "done"
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: act, command: cli sh -c 'echo x >> {done}; echo acted; cat {pipe}'}}\n"
        "  - {id: after, tool: flow:noop}\n",
    )
    return pipe


def test_a_frozen_owner_that_wakes_up_is_fenced_out(workspace: Workspace) -> None:
    pipe = act_then_wait(workspace)
    frozen = hasty(workspace, 0.5)
    call, run_id = started(frozen, "act")
    held = pipe.open("w")  # waits until the step reads: woken up, it may end before we write
    frozen.process.send_signal(signal.SIGSTOP)
    heir = hasty(workspace, 60)
    while (result := heir.call("fp_resume_run", {"run_id": run_id}))["status"] == "interrupted":
        pass
    (gate,) = result["gates"]
    assert (gate["kind"], gate["step_path"]) == ("unknown_outcome", "act")
    before = events(workspace, run_id)
    frozen.process.send_signal(signal.SIGCONT)
    with suppress(BrokenPipeError), held:
        held.write("go\n")
    refused = frozen.answer(call)
    assert refused["error"]["data"]["code"] == "journal.fenced"
    assert events(workspace, run_id) == before
    given = {"token": gate["token"], "succeed_with": "x"}
    assert heir.call("fp_resume_run", given)["status"] == "succeeded"
    assert (workspace.root / "done").read_text() == "x\n"
    # The one that was fenced out serves on, and sees what became of the run.
    assert frozen.call("fp_get_run", {"run_id": run_id})["status"] == "succeeded"


def test_a_living_owner_keeps_its_run_however_short_the_lease(workspace: Workspace) -> None:
    pipe = act_then_wait(workspace)
    owner = hasty(workspace, 0.5)
    call, run_id = started(owner, "act")
    other = hasty(workspace, 0.5)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        looked = other.call("fp_resume_run", {"run_id": run_id, "wait_ms": 100})
        assert looked["status"] == "running"
    pipe.write_text("go\n")
    assert owner.answer(call)["result"]["status"] == "succeeded"
    assert [row[2] for row in events(workspace, run_id)].count("lease.taken") == 1


def test_of_agents_that_adopt_the_same_run_one_drives_it(workspace: Workspace) -> None:
    log, go = workspace.root / "log", workspace.root / "go"
    # A file, not a pipe: what is written to a pipe, the step of the killed owner could still read.
    wait = f"until test -e {go}; do sleep 0.02; done"
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: wait, command: \"cli sh -c '{wait}'\", idempotent: true}}\n"
        f"  - {{id: act, command: cli sh -c 'echo x >> {log}'}}\n",
    )
    owner = workspace.trusted()
    _, run_id = started(owner, "wait")
    heirs = [workspace.trusted() for _ in range(4)]
    for heir in heirs:
        heir.call("fp_list_workflows")
    owner.kill()
    calls = [heir.send("fp_resume_run", {"run_id": run_id}) for heir in heirs]
    go.touch()
    with ThreadPoolExecutor() as pool:
        answers = list(
            pool.map(lambda pair: pair[0].answer(pair[1]), zip(heirs, calls, strict=True))
        )
    results = [answer["result"]["status"] for answer in answers]
    while "interrupted" in results:  # somebody looked before the owner was known to be dead
        results = [heir.call("fp_resume_run", {"run_id": run_id})["status"] for heir in heirs]
    assert set(results) == {"succeeded"}
    assert log.read_text() == "x\n"
    assert [row[2] for row in events(workspace, run_id)].count("lease.taken") == 2


def test_a_clock_that_went_back_does_not_go_back_in_the_journal(workspace: Workspace) -> None:
    """The last owner's clock was a day ahead."""
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: ask, command: cli true, approval: required}\n"
        "  - id: again\n"
        "    command: cli sh -c 'test -e ok || exec sh -c \"touch ok; exit 1\"'\n"
        "    retry: {max_attempts: 2, initial: 1ms}\n",
    )
    agent = workspace.trusted()
    asked = agent.call("fp_run_workflow", {"workflow": "w"})
    run_id = asked["run_id"]
    agent.close()
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db, db:
        db.execute("UPDATE events SET at = at + 86400000 WHERE run_id = ? AND seq > 1", (run_id,))
    given = {"token": asked["gates"][0]["token"], "approve": True}
    assert workspace.trusted().call("fp_resume_run", given)["status"] == "succeeded"
    instants = [row[1] for row in events(workspace, run_id)]
    assert instants == sorted(instants)


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(
    workspace: Workspace, small_disk: Path
) -> None:
    workspace.home = small_disk
    log = workspace.root / "log"
    # What the first step prints is larger than what is left of the disk.
    workspace.write(
        "w.yaml",
        f"steps:\n  - {{id: big, command: cli sh -c 'echo x >> {log}; yes | head -c 400000'}}\n"
        f"  - {{id: after, command: cli sh -c 'echo y >> {log}'}}\n",
    )
    agent = workspace.trusted()
    assert agent.call("fp_list_runs")["runs"] == []
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk)
    ballast.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 250_000))
    refused = agent.error("fp_run_workflow", {"workflow": "w"})
    assert (refused["code"], refused["retryable"]) == ("journal.unavailable", True)
    (run,) = agent.call("fp_list_runs")["runs"]
    assert run["status"] == "interrupted"
    ballast.unlink()
    waiting = agent.call("fp_resume_run", {"run_id": run["run_id"]})
    (gate,) = waiting["gates"]
    assert (gate["kind"], gate["step_path"]) == ("unknown_outcome", "big")
    ended = agent.call("fp_resume_run", {"token": gate["token"], "succeed_with": "big"})
    assert ended["status"] == "succeeded"
    assert log.read_text() == "x\ny\n"


def test_a_state_directory_that_cannot_be_written_is_told(
    workspace: Workspace, small_disk: Path
) -> None:
    workspace.home = small_disk
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    agent = workspace.trusted()
    refused = agent.error("fp_run_workflow", {"workflow": "w"})
    assert (refused["code"], refused["retryable"]) == ("journal.unavailable", True)
    assert "Read-only file system" in refused["message"]
    assert agent.call("fp_list_workflows")["workflows"]
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    assert agent.call("fp_run_workflow", {"workflow": "w"})["status"] == "succeeded"


def test_a_log_torn_at_its_end_loses_no_more_than_that(workspace: Workspace) -> None:
    """As after a power loss: what was committed last without a sync may be gone."""
    pipe = workspace.root / "pipe"
    os.mkfifo(pipe)
    workspace.write(
        "w.yaml",
        "steps:\n  - {id: first, tool: flow:set, with: {n: 1}}\n"
        f"  - {{id: wait, command: cli cat {pipe}, idempotent: true}}\n"
        "outputs:\n  all: $wait.text\n",
    )
    agent = workspace.trusted()
    _, run_id = started(agent, "wait")
    agent.kill()
    whole = events_of_copy(workspace, run_id, "whole")
    log = workspace.home / "journal.db-wal"
    data = log.read_bytes()
    log.write_bytes(data[:-100] + bytes(100))
    left = events_of_copy(workspace, run_id, "torn")
    assert left == whole[: len(left)] != whole
    heir = workspace.trusted()
    call = heir.send("fp_resume_run", {"run_id": run_id})
    pipe.write_text("go\n")
    assert heir.answer(call)["result"]["outputs"] == {"all": "go"}


def test_a_run_that_cannot_be_read_is_told_and_the_others_live(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = workspace.trusted()
    ids = [agent.call("fp_run_workflow", {"workflow": "w"})["run_id"] for _ in range(3)]
    bad, ended, good = ids
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db, db:
        db.execute("UPDATE events SET data = '{}' WHERE run_id IN (?, ?) AND seq = 1", (bad, ended))
        db.execute("DELETE FROM events WHERE run_id = ? AND type = 'run.succeeded'", (bad,))
    for run_id in (bad, ended):
        refused = agent.error("fp_get_run", {"run_id": run_id})
        assert refused["code"] == "journal.corrupt"
        assert run_id in refused["message"]
    # How a run ended is known without the rest of it.
    listed = {run["run_id"]: run["status"] for run in agent.call("fp_list_runs")["runs"]}
    assert listed == {bad: "unreadable", ended: "succeeded", good: "succeeded"}
    assert agent.call("fp_get_run", {"run_id": good})["status"] == "succeeded"
    assert agent.call("fp_run_workflow", {"workflow": "w"})["status"] == "succeeded"


def test_a_newer_journal_is_left_alone(workspace: Workspace) -> None:
    workspace.write("w.yaml", "steps:\n  - {id: a, tool: flow:noop}\n")
    agent = workspace.trusted()
    agent.call("fp_run_workflow", {"workflow": "w"})
    agent.close()
    with closing(sqlite3.connect(workspace.home / "journal.db")) as db:
        db.execute("PRAGMA user_version=99")
    later = workspace.trusted()
    assert later.error("fp_run_workflow", {"workflow": "w"})["code"] == "journal.version"
    assert later.call("fp_list_workflows")["workflows"]


def test_a_call_on_a_dead_agent_is_known_as_such(workspace: Workspace) -> None:
    agent = workspace.trusted()
    agent.call("fp_list_workflows")
    agent.kill()
    with pytest.raises(AgentEndedError):
        agent.call("fp_list_workflows")
