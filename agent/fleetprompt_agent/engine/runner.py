"""The runner: journals what comes of the runs that this process drives, and has their steps act.

Theory of operation. One *turn* handles every run that has something new. The performer carries each
of them on, in memory; then all events of the turn are committed in one transaction; only then do
steps act and listeners hear. So a `step.started` is durable before the act, and an outcome before
it is streamed or used. If the commit fails, the runs of the turn are let go: their memory is ahead
of the journal and worthless, and whoever resumes them continues from what is durable.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, cast

from fleetprompt_agent.engine.active import ActiveRun, Arrived, running_tasks
from fleetprompt_agent.engine.alarms import Alarms
from fleetprompt_agent.engine.attempts import Attempts
from fleetprompt_agent.engine.core.outcomes import AttemptEnd
from fleetprompt_agent.engine.heartbeat import Heartbeat
from fleetprompt_agent.engine.journal_port import EVERY_REQUEST
from fleetprompt_agent.engine.performer import Performer
from fleetprompt_agent.engine.slots import Slots
from fleetprompt_protocol.errors import FleetPromptError, InternalError, JournalError
from fleetprompt_protocol.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fleetprompt_agent.engine.active import Listener
    from fleetprompt_agent.engine.groups import ConcurrencyGroups
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.steps.artifacts import ArtifactStore
    from fleetprompt_agent.steps.contract import StepRequest, StepRunner

log = get_logger("engine")

STEPS_PER_TASK = 64
"""A task yields the loop after so many steps, should none of them wait for anything."""
STOP_LIMIT_S = 4.0
"""For every step to stop when the agent ends; it exits within 5 s (protocol.md §1)."""


class Runner:
    """Drives the runs that this process owns.

    Args:
        journal: Where every event goes.
        groups: The project's concurrency groups.
        step_runners: By namespace.
        may_run: Whether whoever listens can keep up; runs pause at their next event while not.
        artifacts: Where the files that steps make are kept.
    """

    def __init__(
        self,
        journal: JournalPort,
        groups: ConcurrencyGroups,
        step_runners: Mapping[str, StepRunner],
        may_run: Callable[[], bool] = lambda: True,
        artifacts: ArtifactStore | None = None,
    ) -> None:
        self._journal = journal
        self._groups = groups
        self._attempts = Attempts(step_runners, artifacts)
        self._may_run = may_run
        self._loop = asyncio.get_running_loop()
        self._dirty: dict[str, ActiveRun] = {}
        self._turn_due = False
        self._slots = Slots()
        self._is_stopping = False
        self.active: dict[str, ActiveRun] = {}
        self.observers: list[Listener] = []
        """Hear of every run of this process, before its own listeners do."""
        self._performer = Performer(journal, self._attempts, self._slots, self.observers)
        self._heartbeat = Heartbeat(journal, self.active, self)

    def adopt(self, run: ActiveRun) -> None:
        """Drive a run whose lease this process has just taken."""
        run.alarms = Alarms(run, self.wake)
        self.active[run.run_id] = run
        self.wake(run)
        self._heartbeat.start()

    def wake(self, run: ActiveRun) -> None:
        """Look at the run in the next turn."""
        self._dirty[run.run_id] = run
        self.wake_all()

    def wake_all(self) -> None:
        """Take the next turn soon: something can go on."""
        if self._dirty and not self._turn_due:
            self._turn_due = True
            self._loop.call_soon(self._turn)

    def wake_queued(self) -> None:
        """Look at the runs whose turn in their concurrency group may have come."""
        for run in self.active.values():
            if run.state.plan.concurrency is not None and not run.tasks:
                self.wake(run)

    def look_into_inbox(self, run: ActiveRun) -> None:
        """Somebody has left a request for the run."""
        run.inbox_checked = False
        self.wake(run)

    async def turned(self, run: ActiveRun) -> None:
        """Wait until the run has been through a turn, or was let go."""
        if run.parked.is_set():
            return
        run.turned.clear()
        await run.turned.wait()

    async def stop(self) -> None:
        """Interrupt what runs, journal it, give the leases back. Runs stay resumable."""
        self._is_stopping = True
        self._heartbeat.stop()
        runs = list(self.active.values())
        for run in runs:
            for path, task in run.tasks.items():
                run.stopped.setdefault(path, "interrupt")
                task.cancel()
        tasks = running_tasks(runs)
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_LIMIT_S)
        for run in runs:
            for path in [path for path, task in run.tasks.items() if task.done()]:
                # Cancelled before it had begun: nobody has told how it ended.
                del run.tasks[path]
                self._slots.taken -= 1
                end = AttemptEnd(False, {}, None, "none", 0.0, stopped="interrupt")
                run.arrived.append(Arrived(path, run.state.steps[path].attempt, end))
            self._dirty[run.run_id] = run
        self._turn()

    # One turn

    def _turn(self, heir: ActiveRun | None = None) -> None:
        """Take a turn. One step of the heir's is left to whoever asks, who has a task for it."""
        self._turn_due = False
        if not self._may_run() and not self._is_stopping:
            return
        self._feed_starved()
        runs, self._dirty = [run for run in self._dirty.values() if run.error is None], {}
        for run in runs:
            try:
                self._carry_on(run)
            except FleetPromptError as error:
                self.let_go(run, error)
            except Exception as error:
                log.error("run.not_folded", run_id=run.run_id, exc_info=error)
                self.let_go(run, _internal(run, error))
        self._commit([run for run in runs if run.error is None])
        for run in runs:
            if run.error is None:
                self._after_commit(run, keep=int(run is heir))
            run.turned.set()
        if self._feed_starved():
            self.wake_all()

    def _feed_starved(self) -> bool:
        """Whether runs that waited for a slot are looked at again."""
        fed = self._slots.feed()
        for run in fed:
            self._dirty[run.run_id] = run
        return bool(fed)

    def _carry_on(self, run: ActiveRun) -> None:
        self._performer.take_in(run)
        if self._is_stopping or (not run.state.cancels and self._groups.before(run.state)):
            return
        if self._performer.carry_on(run):
            self.wake(run)

    def _commit(self, runs: list[ActiveRun]) -> None:
        writing = [run for run in runs if run.pending or self._is_parking(run)]
        if not writing:
            return
        try:
            with self._journal.transaction(durable=any(run.must_survive for run in writing)):
                for run in writing:
                    self._write(run)
        except JournalError as error:
            log.error("journal.not_written", code=error.code, message=error.message)
            for run in writing:
                self.let_go(run, error)

    def _write(self, run: ActiveRun) -> None:
        try:
            # Refused before anything of this run is written: the others of the turn are not harmed.
            self._journal.append(run.run_id, run.epoch, run.pending)
        except JournalError as error:
            if error.code != "journal.fenced":
                raise
            self.let_go(run, error)
            return
        if run.state.is_terminal:
            # Whatever else was asked comes too late.
            self._journal.clear_inbox(run.run_id, EVERY_REQUEST)
        elif run.inbox_seen > run.inbox_cleared:
            self._journal.clear_inbox(run.run_id, run.inbox_seen)
            run.inbox_cleared = run.inbox_seen
        if self._is_parking(run):
            if not run.state.is_terminal and self._journal.has_requests(run.run_id, run.inbox_seen):
                self.look_into_inbox(run)
            else:
                self._journal.release(run.run_id, run.epoch)
                if run.state.is_terminal:
                    self._groups.leave(run.state)
                run.parked.set()

    def _is_parking(self, run: ActiveRun) -> bool:
        """Whether this process has nothing left to do for the run."""
        if run.tasks or run.to_launch or run.arrived or run.parked.is_set():
            return False
        return self._is_stopping or run.state.is_terminal or run.state.is_waiting

    # What may happen only after the commit

    def _after_commit(self, run: ActiveRun, keep: int) -> None:
        events, run.pending = run.pending, []
        progress, run.progress = run.progress, []
        run.must_survive = False
        if progress:
            for event, how_far in zip(events, progress, strict=True):
                for listener in (*self.observers, *run.listeners):
                    listener.on_event(run.state, event, how_far)
        if run.to_launch:
            self._launch(run, keep)
        if run.parked.is_set():
            self._forget(run)
            self.wake_queued()
        else:
            run.alarms.watch()

    def _launch(self, run: ActiveRun, keep: int) -> None:
        """Give a task to each step that is to act, but for the first `keep` of them."""
        launch, run.to_launch = run.to_launch[keep:], run.to_launch[:keep]
        for request, limit_s in launch:
            run.tasks[request.step_path] = self._loop.create_task(self._act(run, request, limit_s))

    async def _act(self, run: ActiveRun, request: StepRequest, limit_s: float | None) -> None:
        """Perform a step; and then the one that follows from it, as long as nothing else goes on.

        A chain so needs a task for every `STEPS_PER_TASK` of its steps (measured: a task, and the
        round of the loop that begins it, are 6 % of what a durable step costs).
        """
        task = cast("asyncio.Task[None]", asyncio.current_task())
        for left in reversed(range(STEPS_PER_TASK)):
            end = await self._attempts.perform(
                request,
                limit_s,
                partial(run.tell_output, request.step_path),
                partial(run.why_stopped, request.step_path),
            )
            run.stopped.pop(request.step_path, None)
            run.tasks.pop(request.step_path, None)
            run.arrived.append(Arrived(request.step_path, request.attempt, end))
            self._slots.taken -= 1
            if self._slots.taken or self._turn_due:
                self.wake(run)
                return
            # Nothing else is under way that the turn could be shared with.
            self._dirty[run.run_id] = run
            # A task that was cancelled stays marked so: what it performed next would be misled.
            self._turn(heir=run if left and not task.cancelling() else None)
            if not run.to_launch:
                return
            request, limit_s = run.to_launch.pop()
            run.tasks[request.step_path] = task

    # Losing and leaving runs

    def let_go(self, run: ActiveRun, error: FleetPromptError) -> None:
        """This process no longer knows the run's truth: stop its steps, tell its callers."""
        if run.error is not None:
            return
        run.error = error
        run.pending.clear()
        run.progress.clear()
        self._slots.taken -= len(run.to_launch)
        run.to_launch.clear()
        for path, task in run.tasks.items():
            run.stopped.setdefault(path, "interrupt")
            # One that was made just now begins first: it has to tell that it has ended.
            self._loop.call_soon(task.cancel)
        run.parked.set()
        run.turned.set()
        self._forget(run)

    def _forget(self, run: ActiveRun) -> None:
        run.alarms.cancel()
        self._dirty.pop(run.run_id, None)
        self._slots.forget(run)
        if self.active.get(run.run_id) is run:
            del self.active[run.run_id]


def _internal(run: ActiveRun, error: Exception) -> FleetPromptError:
    return InternalError(
        "protocol.internal",
        f"A fault of ours stopped run {run.run_id} ({type(error).__name__}); it can be resumed. "
        "The agent's log has the details.",
        details={"ref": run.run_id},
        rpc_code=-32603,
    )
