"""Pruning: which runs may be forgotten, and forgetting them.

Only runs that have ended are: one that waits, runs or was interrupted stays, however old or large.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fleetprompt_agent.engine.core.apply import fold
from fleetprompt_protocol.errors import JournalError

if TYPE_CHECKING:
    from fleetprompt_agent.engine.engine import Engine
    from fleetprompt_agent.engine.journal_port import RunRow

KEY_LIFE_MS = 30 * 86_400 * 1000
"""An idempotency key is kept at least so long, whatever becomes of its run (engine.md §3)."""


@dataclass(frozen=True, slots=True)
class EndedRun:
    """A run that may be forgotten."""

    row: RunRow
    ended_ms: int
    """Epoch milliseconds."""
    size: int
    """In bytes, about."""


@dataclass(slots=True)
class Pruned:
    """What was forgotten, or would be."""

    runs: list[EndedRun] = field(default_factory=list)
    """The one that ended first stands first."""
    kept: int = 0
    """Runs that stay."""
    kept_bytes: int = 0
    unreadable: list[str] = field(default_factory=list)
    """Ids of runs whose events cannot be read: they are left alone."""


async def prune(
    engine: Engine, now_ms: int, *, older_than_ms: int, max_bytes: int, dry_run: bool
) -> Pruned:
    """Forget the runs that ended so long ago, and then the oldest ones until the rest fits.

    Args:
        engine: Whose project's runs are looked at.
        now_ms: Epoch milliseconds.
        older_than_ms: Since the run ended.
        max_bytes: What the runs that stay may take together, about.
        dry_run: Only look.

    Raises:
        JournalError: the journal cannot be used; runs that were forgotten before stay so.
    """
    pruned = Pruned()
    sizes = engine.journal.run_sizes(engine.project)
    left = sum(sizes.values())
    limit_ms = now_ms - older_than_ms
    ended: list[EndedRun] = []
    before: tuple[int, str] | None = None
    while rows := engine.journal.list_runs(engine.project, limit=50, before=before):
        for row in rows:
            before = (row.created_ms, row.run_id)
            if row.created_ms > limit_ms and left <= max_bytes:
                continue  # too young, and there is room
            await asyncio.sleep(0)  # others are answered in between
            try:
                ended_ms = _ended_ms(engine, row.run_id)
            except JournalError as error:
                if error.code not in ("journal.corrupt", "journal.version"):
                    raise
                if engine.journal.get_run(row.run_id) is not None:
                    pruned.unreadable.append(row.run_id)
                continue
            if ended_ms is not None:
                ended.append(EndedRun(row, ended_ms, sizes.get(row.run_id, 0)))
    ended.sort(key=lambda run: (run.ended_ms, run.row.run_id))
    gone = 0
    for run in ended:
        if run.ended_ms > limit_ms and left <= max_bytes:
            continue
        if dry_run or _forget(engine, run):
            pruned.runs.append(run)
            left -= run.size
            gone += 1
        await asyncio.sleep(0)
    if not dry_run:
        with engine.journal.transaction():
            engine.journal.forget_keys(now_ms - KEY_LIFE_MS)
    pruned.kept, pruned.kept_bytes = len(sizes) - gone, left
    return pruned


def _ended_ms(engine: Engine, run_id: str) -> int | None:
    """When the run ended; None for one that has not, or that some process still drives."""
    if engine.journal.has_live_owner(run_id):
        return None
    return fold(run_id, engine.journal.load(run_id)).ended_ms


def _forget(engine: Engine, run: EndedRun) -> bool:
    """Whether it was: since it was looked at, others may have reopened or forgotten it."""
    run_id = run.row.run_id
    with engine.journal.transaction():
        if engine.journal.get_run(run_id) is None or _ended_ms(engine, run_id) != run.ended_ms:
            return False
        engine.journal.delete_run(run_id)
    return True
