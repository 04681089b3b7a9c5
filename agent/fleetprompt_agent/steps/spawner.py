"""How the agent starts programs: the asyncio side of the supervisor and its keepers.

A keeper serves one program at a time, so there are as many keepers as programs have run at once;
they are used again, and a few stay when idle. All of it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from fleetprompt_agent.steps import orders
from fleetprompt_agent.steps.keeper import GIVE_UP_S
from fleetprompt_agent.steps.process_tree import SUBREAPER, children_of, kill_children
from fleetprompt_protocol.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fleetprompt_agent.steps.supervisor import Supervisor

IDLE_KEEPERS = 8
"""Keepers kept for the next steps: the default of `max_parallel`."""

CLOSE_S = 5.0
"""SIGKILL takes milliseconds; what outlives it this long is stuck in the kernel or not ours."""

LATE_S = GIVE_UP_S + 2.0
"""Past its grace and its patience with survivors, a keeper is being held up by somebody."""


def _lost() -> OperatorError:
    return OperatorError(
        "supervisor.lost",
        "The process that starts the steps has ended, so no step can start. Restart the agent; "
        "unfinished runs can be resumed.",
    )


class Process:
    """One program that was handed to a keeper."""

    def __init__(self, keeper: _Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self._keeper = keeper
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._report: orders.Report | None = None
        self._is_over = False

    async def wait(self) -> orders.Report:
        """How it ended, once nothing of it is left. Cancelling the wait leaves it running.

        For one waiter at a time.

        Raises:
            OperatorError: `supervisor.lost`: its keeper was killed. The program was killed too, and
                nobody saw how far it came.
        """
        if not self._is_over:
            self._waiter = self._loop.create_future()
            await self._waiter
        if self._report is None:
            raise _lost()
        return self._report

    def stop(self, grace_s: float) -> None:
        """SIGTERM to all of it, SIGKILL after the grace; `wait` tells when it is over.

        Stopping again can shorten the grace; 0 kills at once. Without effect when it has ended.
        """
        if not self._is_over:
            self._keeper.stop(grace_s)

    def end(self, report: orders.Report | None) -> None:
        """For the keeper: it is over; no report means that nobody saw how."""
        if not self._is_over:
            self._is_over = True
            self._report = report
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)


class Spawner:
    """Starts programs through the supervisor, for the running event loop.

    Args:
        supervisor: From `start_supervisor`; the spawner owns it from now on.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._loop = asyncio.get_running_loop()
        self._idle: list[_Keeper] = []
        self._busy: set[_Keeper] = set()
        self._lost = asyncio.Event()
        self._is_closing = False
        self._orphan_timer: asyncio.TimerHandle | None = None
        supervisor.sock.setblocking(False)
        self._loop.add_reader(supervisor.sock.fileno(), self._supervisor_ended)

    @property
    def is_lost(self) -> bool:
        """Whether the supervisor has ended. Steps that run go on; none can start."""
        return self._lost.is_set()

    @property
    def reaches_every_descendant(self) -> bool:
        """False on a system where a step's process can leave the step (see `Supervisor`)."""
        return self._supervisor.reaches_every_descendant

    def spawn(self, program: orders.Spawn, descriptors: tuple[int, int, int, int]) -> Process:
        """Starts a program; whether it could be executed is part of its report.

        Args:
            program: What to execute.
            descriptors: Its stdin, stdout and stderr, and the directory it starts in. They stay the
                caller's, who may close them when this returns.

        Raises:
            OperatorError: `supervisor.lost`.
        """
        order = program.encode()
        while True:
            if self.is_lost or self._is_closing:
                raise _lost()
            keeper = self._idle.pop() if self._idle else self._new_keeper()
            process = keeper.run(order, descriptors)
            if process is not None:
                self._busy.add(keeper)
                return process

    async def close(self) -> None:
        """Kills every step and waits until no process of them, nor the supervisor, is left.

        A process that cannot be killed is not waited for longer than `CLOSE_S`; the supervisor
        stays with it.
        """
        self._is_closing = True
        if self._orphan_timer is not None:
            self._orphan_timer.cancel()
        for keeper in [*self._idle, *self._busy]:
            keeper.close()
        if not self.is_lost:
            self._supervisor.sock.shutdown(socket.SHUT_WR)
            self._supervisor.wake()
            try:
                async with asyncio.timeout(CLOSE_S):
                    await self._lost.wait()
            except TimeoutError:
                self._loop.remove_reader(self._supervisor.sock.fileno())
                self._supervisor.sock.close()
                return
        self._supervisor.close()

    def _new_keeper(self) -> _Keeper:
        ours, theirs = socket.socketpair()
        try:
            self._supervisor.start_keeper(theirs)
        except OSError as error:
            ours.close()
            self._supervisor_ended()
            raise _lost() from error
        finally:
            theirs.close()
        return _Keeper(ours, self._loop, self._keeper_is_free, self._supervisor.wake)

    def _keeper_is_free(self, keeper: _Keeper) -> None:
        self._busy.discard(keeper)
        if keeper.is_closed:
            if keeper in self._idle:
                self._idle.remove(keeper)
            if self.is_lost:
                self._watch_for_orphans()
        elif len(self._idle) < IDLE_KEEPERS and not self.is_lost:
            self._idle.append(keeper)
        else:
            keeper.close()

    def _supervisor_ended(self) -> None:
        if not self.is_lost:
            self._lost.set()
            self._loop.remove_reader(self._supervisor.sock.fileno())
            self._watch_for_orphans()

    def _watch_for_orphans(self) -> None:
        """From now on kills what comes to this process because supervisor and keeper are gone.

        A dying process closes its socket before it hands its children over, so one look is not
        enough; and any keeper may die later. The looks become rarer, to one a second.
        """
        if self._is_closing or not SUBREAPER:
            return
        if self._orphan_timer is not None:
            self._orphan_timer.cancel()
        self._look_for_orphans(0.01)

    def _look_for_orphans(self, pause_s: float) -> None:
        """Steps live in sessions of their own.

        A child in our session we started ourselves, and one in the supervisor's is a keeper or the
        supervisor; so nothing else that this process starts may lead a session.
        """
        ours, theirs = os.getsid(0), self._supervisor.pid
        for pid in children_of(os.getpid()):
            with suppress(OSError):
                session = os.getsid(pid)
                if session not in (ours, theirs):
                    kill_children([pid])
                if session != ours:
                    os.waitpid(pid, os.WNOHANG)
        next_pause_s = min(2 * pause_s, 1.0)
        self._orphan_timer = self._loop.call_later(pause_s, self._look_for_orphans, next_pause_s)


class _Keeper:
    """The agent's end of one keeper's socket.

    Args:
        sock: The agent's end.
        loop: The spawner's loop.
        on_free: Called when a program has ended and when the keeper is gone.
        wake_supervisor: Called with a stop: whoever held up the keeper may have held up both.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        on_free: Callable[[_Keeper], None],
        wake_supervisor: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = loop
        self._on_free = on_free
        self._wake_supervisor = wake_supervisor
        self._overdue: asyncio.TimerHandle | None = None
        self._pid: int | None = None
        self._process: Process | None = None
        self._unsent = bytearray()
        self._received = b""
        self.is_closed = False
        loop.add_reader(sock.fileno(), self._readable)

    def run(self, order: bytes, descriptors: tuple[int, int, int, int]) -> Process | None:
        """Hands a program to the keeper, which must be idle. None when the keeper is gone."""
        try:
            # Nothing is under way on this socket, so at least one byte and the descriptors go out.
            sent = socket.send_fds(self._sock, [order], descriptors)
        except OSError:
            self.close()
            return None
        self._process = process = Process(self, self._loop)
        if sent < len(order):
            self.send(order[sent:])
        return process

    def stop(self, grace_s: float) -> None:
        """Ends the program; also when it has stopped its own keeper with a signal."""
        self.send(orders.encode_stop(grace_s))
        self._signal(signal.SIGCONT)
        if self._overdue is not None:
            self._overdue.cancel()
        # A keeper that does not answer is killed; its supervisor then ends what is below it.
        self._overdue = self._loop.call_later(grace_s + LATE_S, self._signal, signal.SIGKILL)

    def _signal(self, signum: int) -> None:
        self._wake_supervisor()
        if self._pid is not None and not self.is_closed:
            with suppress(OSError):
                os.kill(self._pid, signum)

    def send(self, data: bytes) -> None:
        """Writes what can be written now and the rest when it can."""
        self._unsent += data
        self._flush()

    def close(self) -> None:
        """Lets the keeper go: it kills what it runs, and ends."""
        if self.is_closed:
            return
        self.is_closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._end_process(None)
        self._on_free(self)

    def _flush(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._unsent:
            self._loop.add_writer(self._sock.fileno(), self._flush)
        else:
            self._loop.remove_writer(self._sock.fileno())

    def _readable(self) -> None:
        wanted = orders.HELLO_BYTES if self._pid is None else orders.REPORT_BYTES
        try:
            data = self._sock.recv(wanted - len(self._received))
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        if not data:
            self.close()
        elif len(self._received) == wanted:
            whole, self._received = self._received, b""
            if self._pid is None:
                self._pid = orders.decode_hello(whole)
            else:
                self._take(orders.Report.decode(whole))

    def _take(self, report: orders.Report) -> None:
        self._end_process(report)
        if report.survivors:
            self.close()  # it is not free for another step: it goes on killing
        else:
            self._on_free(self)

    def _end_process(self, report: orders.Report | None) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        process, self._process = self._process, None
        if process is not None:
            process.end(report)
