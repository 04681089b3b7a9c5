"""A keeper: the process that runs one step at a time and answers for all that the step starts.

Theory of operation. A keeper is a subreaper, so `process_tree` holds for the step below it. A step
goes through at most four phases:

    RUN     the program runs                       → until it ends, or a stop comes
    LINGER  it ended and left processes behind     → they may finish (a `tee`, a pipe's reader)
    TERM    SIGTERM to every one of them           → until the grace is over
    KILL    SIGKILL, again and again               → until there is no child

The report goes out when there is no child. When the agent's end of the socket closes, however that
happened, the step goes to KILL at once and the keeper ends with it.
"""

from __future__ import annotations

import enum
import errno
import math
import os
import select
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from fleetprompt_agent.steps import orders
from fleetprompt_agent.steps.process_tree import (
    SUBREAPER,
    Usage,
    children_of,
    kill_children,
    reap,
    signal_descendants,
)

if TYPE_CHECKING:
    import socket

LINGER_S = 0.25
"""How long what a program leaves behind may take to end by itself. `cmd > >(tee log)` leaves a
`tee` that has a few milliseconds to go; a daemon costs its step this long."""

KILL_AGAIN_S = 0.02
"""A killed parent hands its children over: look again even when no signal tells of it."""

GIVE_UP_S = 3.0
"""A process of another user, or one stuck in the kernel, outlives SIGKILL: report a survivor."""

_ALL_SIGNALS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


class _Phase(enum.IntEnum):
    RUN = 0
    LINGER = 1
    TERM = 2
    KILL = 3


class Wakeup:
    """A descriptor that becomes readable when a child ends."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._write_fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _signum, _frame: None)

    def clear(self) -> None:
        """Forgets the wake-ups so far. Call before reaping, not after."""
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)  # one byte a signal: what is beyond wakes once more

    def close(self) -> None:
        """Gives the descriptors back, in a fork that wants its own."""
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._write_fd)


class Keeper:
    """Serves one socket to the agent.

    Args:
        agent: The keeper's end of the socket, blocking.
        wakeup: Where the end of a child is seen.
    """

    def __init__(self, agent: socket.socket, wakeup: Wakeup) -> None:
        self._agent = agent
        self._wakeup = wakeup
        self.agent_is_gone = False
        """The socket was closed from the other side."""
        self._poll = select.poll()
        self._poll.register(agent.fileno(), select.POLLIN)
        self._poll.register(wakeup.fd, select.POLLIN)
        self._home = os.open("/", os.O_RDONLY | os.O_DIRECTORY)

    def serve(self) -> None:
        """Runs steps until the agent closes its end. Returns when nothing is left below."""
        with suppress(OSError):  # the agent has gone already: the next read tells
            self._agent.sendall(orders.encode_hello(os.getpid()))
        while not self.agent_is_gone:
            order = orders.read_order(self._agent)
            if order is None:
                return
            if order.kind == orders.SPAWN:
                report = self._run(orders.Spawn.decode(order.payload), order.descriptors)
                try:
                    self._agent.sendall(report.encode())
                except OSError:
                    return
            # A stop that crossed with the report is for a step that is over.

    def _run(self, spawn: orders.Spawn, descriptors: list[int]) -> orders.Report:
        try:
            pid = self._spawn(spawn, descriptors)
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) else None
            return orders.Report(False, False, number or errno.EINVAL, 0, 0, 0)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return _Watch(self, pid, spawn.grace_s).until_empty()

    def _spawn(self, spawn: orders.Spawn, descriptors: list[int]) -> int:
        """Starts the program with nothing of ours: three descriptors, default signals, a session.

        posix_spawn costs 0.10 ms of ours, fork and exec 0.38 ms; that it cannot change directory
        does not matter to a process that runs one step at a time.
        """
        stdin, stdout, stderr, directory = descriptors
        os.fchdir(directory)
        try:
            return os.posix_spawn(
                spawn.path,
                spawn.argv,
                dict(entry.split(b"=", 1) for entry in spawn.env),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, stdout, 1),
                    (os.POSIX_SPAWN_DUP2, stderr, 2),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=_ALL_SIGNALS,
            )
        finally:
            os.fchdir(self._home)

    def wait(self, timeout_s: float) -> float | None:
        """Waits for the end of a child, a stop, or the agent's end.

        Returns:
            The grace of a stop that came, 0 when the agent is gone, None otherwise.
        """
        timeout_ms = None if timeout_s == math.inf else math.ceil(timeout_s * 1000)
        for fd, _ in self._poll.poll(timeout_ms):
            if fd == self._wakeup.fd:
                self._wakeup.clear()
            else:
                order = orders.read_order(self._agent)
                if order is None:
                    self.agent_is_gone = True
                    self._poll.unregister(self._agent.fileno())
                    return 0.0
                if order.kind == orders.STOP:
                    return orders.decode_stop(order.payload)
        return None


class _Watch:
    """One step, from its first process to the death of its last."""

    def __init__(self, keeper: Keeper, main: int, grace_s: float) -> None:
        self._keeper = keeper
        self._main = main
        self._grace_s = grace_s
        self._usage = Usage()
        self._status: int | None = None
        self._stopped = False
        self._phase = _Phase.RUN
        self._deadline = math.inf
        self._kill_again_s = KILL_AGAIN_S
        self._give_up_at = math.inf

    def until_empty(self) -> orders.Report:
        survivors = 0
        while not self._reap():
            if self._status is not None and self._phase is _Phase.RUN:
                self._enter(_Phase.LINGER)
            now = time.monotonic()
            if now < self._deadline:
                self._obey(self._keeper.wait(self._deadline - now))
            elif now < self._give_up_at or self._keeper.agent_is_gone:
                self._enter(_Phase(min(self._phase + 1, _Phase.KILL)))
            else:
                survivors = len(children_of(os.getpid()))
                break
        if not SUBREAPER:
            _signal_group(self._main, signal.SIGKILL)
        status = -1 if self._status is None else self._status
        usage = self._usage
        return orders.Report(True, self._stopped, status, usage.cpu_us, usage.max_rss_kb, survivors)

    def _reap(self) -> bool:
        ended, is_empty = reap(self._usage)
        if self._main in ended:
            self._status = ended[self._main]
        return is_empty

    def _obey(self, grace_s: float | None) -> None:
        """Takes in what `Keeper.wait` gave: a stop shortens what is left, it never lengthens it."""
        if grace_s is None:
            return
        self._reap()  # it may have ended while the stop was on its way
        self._stopped |= self._status is None
        if grace_s <= 0:
            self._enter(_Phase.KILL)
        elif self._phase < _Phase.TERM:
            self._grace_s = grace_s
            self._enter(_Phase.TERM)
        elif self._phase is _Phase.TERM:
            self._deadline = min(self._deadline, time.monotonic() + grace_s)

    def _enter(self, phase: _Phase) -> None:
        now = time.monotonic()
        if phase is _Phase.LINGER:
            self._deadline = now + LINGER_S
        elif phase is _Phase.TERM:
            # A stopped process can act on a signal only when it goes on.
            self._signal(signal.SIGTERM, signal.SIGCONT)
            self._deadline = now + self._grace_s
        else:
            if self._phase is _Phase.KILL:
                self._kill_again_s = min(2 * self._kill_again_s, 1.0)
            else:
                self._give_up_at = now + GIVE_UP_S
            self._kill()
            self._deadline = now + self._kill_again_s
        self._phase = phase

    def _signal(self, *signums: int) -> None:
        if SUBREAPER:
            signal_descendants(signums)
        else:
            for signum in signums:
                _signal_group(self._main, signum)

    def _kill(self) -> None:
        if SUBREAPER:
            kill_children(children_of(os.getpid()))
        else:
            _signal_group(self._main, signal.SIGKILL)


def _signal_group(group: int, signum: int) -> None:
    with suppress(OSError):
        os.killpg(group, signum)
