"""An agent that kills itself at a write of its journal: run as a script, with the agent's flags.

`FATAL_WRITE` is `before:WHICH` or `after:WHICH`: SIGKILL just before that transaction of the agent
is committed (its rows are written), or just after. WHICH is its number, from 1, or names an event
that it holds: `gate.opened`, `step.started@deploy`. `FATAL_LOG` names a file that gets a line for
each transaction: the events in it. `FATAL_LEASE_S` shortens the leases.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fleetprompt_agent.engine.journal import Journal
from fleetprompt_agent.engine.journal_port import LEASE_S
from fleetprompt_agent.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fleetprompt_agent.engine.core.events import Event


class FatalJournal(Journal):
    """The real journal, in a process that does not survive one of its writes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, lease_s=float(os.environ.get("FATAL_LEASE_S", LEASE_S)))
        self._moment, _, self._which = os.environ.get("FATAL_WRITE", "never").partition(":")
        self._writes = 0
        self._depth = 0
        self._names: list[str] = []
        self._is_fatal = False

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        self._depth += 1
        is_outer = self._depth == 1
        try:
            with super().transaction(durable=durable):
                yield
                if is_outer:
                    self._writes += 1
                    self._note()
                    self._die("before")
            if is_outer:
                self._die("after")
        finally:
            self._depth -= 1

    def append(self, run_id: str, epoch: int, events: list[Event]) -> None:
        super().append(run_id, epoch, events)
        for event in events:
            path = getattr(event.body, "step_path", None)
            self._names.append(event.body.type + (f"@{path}" if path else ""))

    def _note(self) -> None:
        names, self._names = self._names, []
        known = {*names, *(name.partition("@")[0] for name in names), str(self._writes)}
        self._is_fatal = self._which in known
        if "FATAL_LOG" in os.environ:
            with open(os.environ["FATAL_LOG"], "a", encoding="ascii") as log:
                log.write(" ".join(names) + "\n")

    def _die(self, moment: str) -> None:
        if self._is_fatal and moment == self._moment:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], open_journal=FatalJournal))
