"""The small process that outlives the agent by as long as it takes to end every step.

Theory of operation. The agent forks the supervisor at its very start, before threads and heavy
imports. The supervisor is a zygote for *keepers* (`keeper.py`), each of which runs one step at a
time and ends the step's whole tree; a keeper's socket leads to the agent directly.

    agent ── socket ── supervisor
      └───── socket ──── keeper ── the step's processes

Who ends what when something dies, SIGKILL included:

* the agent: each keeper sees its socket close and kills its step; the supervisor does the same from
  above, keepers included, and ends when it has no child;
* a keeper: what was below it comes to the supervisor, which kills whatever is not a keeper;
* the supervisor: the keepers go on, the agent starts no further step (`supervisor.lost`);
* the supervisor and a keeper: the orphans come to the agent, a subreaper too, which kills them.

Left over: all of them killed at once. So that this takes more than a `pkill -f fleetprompt`,
supervisor and keepers show a name of their own.

This module is imported before anything heavy: only cheap modules of the standard library.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from contextlib import suppress

from fleetprompt_agent.steps import orders
from fleetprompt_agent.steps.keeper import Keeper, Wakeup
from fleetprompt_agent.steps.process_tree import SUBREAPER, Usage, children_of, kill_children, reap

KILL_AGAIN_MS = 20
"""As in a keeper: look again for what a killed process handed over."""

_OBEYED = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT, signal.SIGCHLD, signal.SIGABRT, signal.SIGBUS,
    signal.SIGFPE, signal.SIGILL, signal.SIGSEGV, signal.SIGSYS, signal.SIGTRAP,
}  # fmt: skip
"""Signals that keep their meaning: those that cannot be ignored, and those of faults. Every other
one ends or stops programs that do not expect it, and a step may well send it to its parent."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36


class Supervisor:
    """The agent's handle on its supervisor.

    Args:
        pid: The supervisor's process id.
        sock: The agent's end; closing it ends the supervisor and every step.
    """

    def __init__(self, pid: int, sock: socket.socket) -> None:
        self.pid = pid
        self.sock = sock

    @property
    def reaches_every_descendant(self) -> bool:
        """Whether a step's end is the end of all its processes.

        False where the system has no subreaper (macOS): there a process that starts a session of
        its own outlives the step, which is worth a notice to the user.
        """
        return SUBREAPER

    def start_keeper(self, keeper_end: socket.socket) -> None:
        """Asks for a keeper on this end of a socket pair. If none can be forked it is closed.

        Raises:
            OSError: the supervisor is gone.
        """
        socket.send_fds(self.sock, [orders.encode_keeper()], [keeper_end.fileno()])

    def wake(self) -> None:
        """Lets it go on when somebody has stopped it with a signal."""
        with suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)

    def close(self) -> None:
        """Ends every step and waits until the supervisor, and so all below it, is gone."""
        self.sock.close()
        self.wake()
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def start_supervisor() -> Supervisor:
    """Forks the supervisor. Call it first, while the process has one thread and little memory.

    From here on this process cannot be read by others of the same user (`PR_SET_DUMPABLE`: a step
    could otherwise reach the protocol's pipe through /proc) and inherits orphaned descendants.

    Raises:
        OperatorError: this system has no `fork`.
    """
    if not hasattr(os, "fork") or not hasattr(socket, "AF_UNIX"):
        from fleetprompt_protocol.errors import OperatorError

        raise OperatorError(
            "platform.unsupported",
            "FleetPrompt runs steps on Linux and macOS only; on Windows, use it inside WSL.",
        )
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    ours, theirs = socket.socketpair()
    # A Ctrl-C between fork and setsid must not end the supervisor with a traceback.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            try:
                _supervise(theirs.detach())
            finally:
                os._exit(1)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    theirs.close()
    return Supervisor(pid, ours)


def _supervise(sock_fd: int) -> None:
    """The supervisor's life. Never returns."""
    os.setsid()
    for signum in signal.valid_signals() - _OBEYED:
        signal.signal(signum, signal.SIG_IGN)
    sock_fd = _close_all_but(sock_fd)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    _show_as("fp-supervisor")
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    # A step may stop us with a signal; the agent's end starts us again.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    gc.disable()  # a collection would copy every page shared with the agent
    agent = socket.socket(fileno=sock_fd)
    wakeup = Wakeup()
    poll = select.poll()
    poll.register(agent.fileno(), select.POLLIN)
    poll.register(wakeup.fd, select.POLLIN)
    keepers: set[int] = set()
    pause_ms: int | None = None
    while True:
        for fd, _ in poll.poll(pause_ms):
            if fd == wakeup.fd:
                wakeup.clear()
                continue
            order = orders.read_order(agent)
            if order is None:
                _end_everything(wakeup)
            elif order.kind == orders.KEEPER and len(order.descriptors) == 1:
                pid = _fork_keeper(order.descriptors[0], agent, wakeup)
                if pid is not None:
                    keepers.add(pid)
        ended, is_empty = reap(Usage())
        keepers.difference_update(ended)
        # What a dead keeper left comes here, level by level.
        strangers = [] if is_empty else [p for p in children_of(os.getpid()) if p not in keepers]
        kill_children(strangers)
        pause_ms = _longer(pause_ms) if strangers else None


def _fork_keeper(keeper_fd: int, agent: socket.socket, wakeup: Wakeup) -> int | None:
    """The pid of a new keeper; None when there cannot be one, which its closed socket tells."""
    try:
        pid = os.fork()
    except OSError:
        os.close(keeper_fd)
        return None
    if pid == 0:
        try:
            agent.close()  # or the agent would not see that the supervisor has gone
            wakeup.close()
            _show_as("fp-keeper")
            _prctl(_PR_SET_CHILD_SUBREAPER, 1)
            Keeper(socket.socket(fileno=keeper_fd), Wakeup()).serve()
            os._exit(0)
        finally:
            os._exit(1)
    os.close(keeper_fd)
    return pid


def _end_everything(wakeup: Wakeup) -> None:
    """Ends every process below, then this one."""
    poll = select.poll()
    poll.register(wakeup.fd, select.POLLIN)
    pause_ms = None
    while not reap(Usage())[1]:
        kill_children(children_of(os.getpid()))
        pause_ms = _longer(pause_ms)
        poll.poll(pause_ms)
        wakeup.clear()
    os._exit(0)


def _longer(pause_ms: int | None) -> int:
    """The next pause before killing again: another user's process may outlive many tries."""
    return KILL_AGAIN_MS if pause_ms is None else min(2 * pause_ms, 1000)


def _close_all_but(keep_fd: int) -> int:
    """Closes every descriptor but one, which gets number 3; 0 to 2 are the null device.

    A pipe of the host's that stayed open here would keep the host from seeing the agent's end.
    """
    if keep_fd != 3:
        os.dup2(keep_fd, 3, inheritable=False)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208 - pathlib is not imported here
        if int(name) > 3:
            with suppress(OSError):  # one of them was the descriptor that listed them
                os.close(int(name))
    return 3


def _prctl(option: int, value: int | bytes) -> None:
    """Linux `prctl`; nothing elsewhere."""
    if sys.platform == "linux":
        import ctypes

        word = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
        zero = ctypes.c_ulong(0)
        ctypes.CDLL(None).prctl(option, word, zero, zero, zero)


def _show_as(name: str) -> None:
    """Gives this process a name of its own in `ps`, and so in what `pkill -f` matches."""
    if sys.platform != "linux":
        return
    import ctypes

    _prctl(_PR_SET_NAME, name.encode())
    with open("/proc/self/stat", "rb") as file:
        stat = file.read()
    fields = stat[stat.rindex(b")") + 2 :].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    if 0 < start < end:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, name.encode(), min(len(name), end - start - 1))
