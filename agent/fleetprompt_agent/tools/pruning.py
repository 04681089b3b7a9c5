"""The tool that forgets runs. It is the host's: no dialect that a model sees offers it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.engine.active import now_ms
from fleetprompt_agent.engine.projection import instant
from fleetprompt_agent.engine.pruning import prune

if TYPE_CHECKING:
    from fleetprompt_agent.engine.pruning import EndedRun
    from fleetprompt_agent.tools.inputs import PruneRunsInput
    from fleetprompt_agent.tools.registry import Call

Json = Any

_MOST_LISTED = 500
"""Runs that the answer names; their number is told in any case."""
_ARTIFACT_AGE_S = 3600.0
"""A file is kept before the event that refers to it is journaled; an hour is ample."""


async def fp_prune_runs(call: Call, given: PruneRunsInput) -> dict[str, Json]:
    """What was forgotten, or would be."""
    engine = call.agent.engine
    now = now_ms()
    pruned = await prune(
        engine,
        now,
        older_than_ms=round(given.older_than_s * 1000),
        max_bytes=given.max_bytes,
        dry_run=given.dry_run,
    )
    files = size = 0
    if engine.artifacts is not None and not given.dry_run:
        in_use = engine.journal.artifact_digests()
        files, size = engine.artifacts.sweep(in_use, now / 1000 - _ARTIFACT_AGE_S)
    return {
        "dry_run": given.dry_run,
        "pruned": len(pruned.runs),
        "pruned_bytes": sum(run.size for run in pruned.runs),
        "kept": pruned.kept,
        "kept_bytes": pruned.kept_bytes,
        "runs": [_shown(run) for run in pruned.runs[:_MOST_LISTED]],
        "unreadable": pruned.unreadable[:_MOST_LISTED],
        "artifacts": {"files": files, "bytes": size},
    }


def _shown(run: EndedRun) -> dict[str, Json]:
    return {
        "run_id": run.row.run_id,
        "workflow_id": run.row.workflow_id,
        "started_at": instant(run.row.created_ms),
        "finished_at": instant(run.ended_ms),
        "bytes": run.size,
    }
