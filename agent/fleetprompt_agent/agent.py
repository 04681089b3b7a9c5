"""One agent: its root, its engine, and how it finds and loads workflows."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Literal, TypeAlias

from fleetprompt_agent.tools.output_pages import OutputPages
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fleetprompt_agent.engine.active import Listener
    from fleetprompt_agent.engine.engine import Engine
    from fleetprompt_agent.engine.journal_port import JournalPort
    from fleetprompt_agent.language.loader import Compiled
    from fleetprompt_agent.steps.routed import Route
    from fleetprompt_agent.steps.spawner import Spawner
    from fleetprompt_agent.steps.supervisor import Supervisor
    from fleetprompt_indexer.entry import Entry
    from fleetprompt_indexer.scan import ScanReport

OpenJournal: TypeAlias = "Callable[[Path], JournalPort]"
"""Gives the journal that is kept at a path in the state directory."""

AGENT_ID = "com.fleetprompt.core"
"""Who this agent is to a router; its tools are `com.fleetprompt.core/fp_…`."""


def open_sqlite_journal(path: Path) -> JournalPort:
    """The journal in the SQLite file at the path."""
    from fleetprompt_agent.engine.journal import Journal

    return Journal(path)


class Agent:
    """What the tools act on.

    Args:
        root: The workspace, a real path.
        supervisor: From `start_supervisor`; the agent owns it.
        allow_side_effects: The spawner's intent for every run of this process.
        may_run: Whether the host keeps up with what is sent to it.
        open_journal: Opens the journal when a run is first asked for.
    """

    def __init__(
        self,
        root: Path,
        supervisor: Supervisor,
        *,
        allow_side_effects: bool = False,
        may_run: Callable[[], bool] = lambda: True,
        open_journal: OpenJournal = open_sqlite_journal,
    ) -> None:
        self.root = root
        self.allow_side_effects = allow_side_effects
        self.route: Route | None = None
        """The way to tools of other agents, once a router host has welcomed this one."""
        self._supervisor = supervisor
        self._may_run = may_run
        self._open_journal = open_journal
        self._engine: Engine | None = None
        self._spawner: Spawner | None = None
        self._interrupting: asyncio.Future[None] | None = None
        self._observers: list[Listener] = []
        self.output_pages = OutputPages()
        """Long output that is being read page by page."""

    def observe_runs(self, listener: Listener) -> None:
        """Have the listener hear of every run that this process drives from now on."""
        self._observers.append(listener)
        if self._engine is not None:
            self._engine.observe(listener)

    @property
    def can_run_programs(self) -> bool:
        """Whether `cli` steps can be started: false once the supervisor has ended."""
        return self._spawner is None or not self._spawner.is_lost

    @property
    def engine(self) -> Engine:
        """The engine; the journal is opened when a run is first asked for.

        Raises:
            OperatorError: the state directory or the journal cannot be used.
        """
        if self._engine is None:
            self._engine = self._open_engine()
        return self._engine

    @property
    def has_engine(self) -> bool:
        """Whether a run was ever asked for."""
        return self._engine is not None

    def _open_engine(self) -> Engine:
        from fleetprompt_agent.engine.engine import Engine
        from fleetprompt_agent.engine.owner import Owner
        from fleetprompt_agent.state_dir import open_state_dir
        from fleetprompt_agent.steps.artifacts import ArtifactStore
        from fleetprompt_agent.steps.cli import CliRunner
        from fleetprompt_agent.steps.flow import FlowRunner
        from fleetprompt_agent.steps.routed import RoutedRunner
        from fleetprompt_agent.steps.spawner import Spawner

        state_dir = open_state_dir(self.root)
        journal = self._open_journal(state_dir / "journal.db")
        spawner = Spawner(self._supervisor)
        self._spawner = spawner
        engine = Engine(
            journal,
            str(self.root),
            Owner.of_this_process(self._supervisor.pid),
            {
                "cli": CliRunner(spawner),
                "flow": FlowRunner(),
                "agent": RoutedRunner(lambda: self.route),
            },
            self._may_run,
            ArtifactStore(state_dir / "artifacts"),
        )
        for listener in self._observers:
            engine.observe(listener)
        # What has been imported stays; a full collection need not look through it each time
        # (measured: 4 of the 12 ms of a fan-out of 100).
        gc.freeze()
        return engine

    async def interrupt(self) -> None:
        """Stop what runs and leave it resumable. May be called twice, and at the same time."""
        if self._engine is None:
            return
        if self._interrupting is None:
            self._interrupting = asyncio.ensure_future(self._engine.stop())
        await asyncio.shield(self._interrupting)

    async def close(self) -> None:
        """Interrupt what runs and end the supervisor; nothing of a step is left behind."""
        await self.interrupt()
        if self._spawner is not None:
            await self._spawner.close()
        else:
            self._supervisor.close()
        if self._engine is not None:
            self._engine.journal.close()

    def scan(self) -> ScanReport:
        """Every workflow of the root, without running anything."""
        from fleetprompt_indexer.scan import scan_root

        return scan_root(self.root)

    def check_root(self, project_root: str | None) -> None:
        """Refuse a caller's path that lies outside this agent's root.

        Raises:
            RequestError: `root.denied`.
        """
        if project_root is None:
            return
        from pathlib import Path

        try:
            inside = Path(project_root).resolve().is_relative_to(self.root)
        except (OSError, ValueError):
            inside = False
        if not inside:
            raise RequestError(
                "root.denied",
                f"This agent serves {self.root} only, not {project_root[:200]}. Spawn another one "
                "for other projects.",
            )

    def load(self, reference: str) -> Compiled:
        """The workflow with this id or relative path: read once, compiled, whatever its faults.

        Raises:
            WorkflowError: `workflow.not_found`, `.ambiguous`, `.unreadable`.
        """
        return self.load_entry(self.scan().find(reference))

    def load_entry(self, entry: Entry) -> Compiled:
        """The workflow of an entry of `scan`: read once, compiled, whatever its faults.

        Raises:
            WorkflowError: `workflow.unreadable`.
        """
        from fleetprompt_agent.language.loader import load_workflow
        from fleetprompt_indexer.reader import read_file

        content = read_file(self.root, entry.relative)
        kind: Literal["yaml", "json"] = "json" if entry.file_path.endswith(".json") else "yaml"
        return load_workflow(content.data, format=kind, file=entry.file_path, root=self.root)
