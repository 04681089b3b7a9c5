"""Workflows and runs as resources: `workflow://<id>` and `run://<id>`, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fleetprompt_agent.dialects.mcp.paging import page_of
from fleetprompt_agent.dialects.mcp.results import without_authority
from fleetprompt_agent.tools.registry import TOOLS, Call, call_tool
from fleetprompt_protocol.errors import FleetPromptError, RequestError
from fleetprompt_protocol.log import get_logger
from fleetprompt_protocol.redaction import escape_controls
from fleetprompt_protocol.wire import dumps

if TYPE_CHECKING:
    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.dialects.mcp.caller import Caller
    from fleetprompt_agent.dialects.workflow_tools import Workflows

Json = Any

log = get_logger("mcp")

WORKFLOW = "workflow://"
RUN = "run://"
RECENT_RUNS = 20
"""Runs that the list names; any other can be read by its id."""

_MIME = "application/json"
_TEMPLATES: list[dict[str, Json]] = [
    {
        "uriTemplate": f"{WORKFLOW}{{workflow_id}}",
        "name": "workflow",
        "title": "Workflow",
        "description": "What a workflow takes, does and gives, and the permissions it asks for.",
        "mimeType": _MIME,
    },
    {
        "uriTemplate": f"{RUN}{{run_id}}",
        "name": "run",
        "title": "Run",
        "description": "How a run stands: status, steps, open gates, outputs.",
        "mimeType": _MIME,
    },
]


class Resources:
    """Answers `resources/*`, and completes ids in the templates."""

    def __init__(self, agent: Agent, workflows: Workflows, *, may_elicit: bool) -> None:
        self._agent = agent
        self._may_elicit = may_elicit
        self._workflows = workflows

    def page(self, params: dict[str, Json]) -> dict[str, Json]:
        """Every workflow, then the latest runs."""
        found: list[dict[str, Json]] = [
            {
                "uri": WORKFLOW + entry.workflow_id,
                "name": entry.workflow_id,
                "title": entry.name,
                "mimeType": _MIME,
                **({"description": entry.description} if entry.description else {}),
            }
            for entry in self._workflows.entries()
        ]
        found += [
            {
                "uri": RUN + run_id,
                "name": run_id,
                "title": f"Run of {escape_controls(workflow_id)}",
                "mimeType": _MIME,
            }
            for run_id, workflow_id in self._runs()
        ]
        return page_of(params, "resources", found, dict)

    def templates(self, params: dict[str, Json]) -> dict[str, Json]:
        """Both kinds of resources."""
        return page_of(params, "resourceTemplates", _TEMPLATES, dict)

    async def read(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        """The content of one resource.

        Raises:
            FleetPromptError: `workflow.*` or `run.*`: there is no such resource.
        """
        uri: str = params["uri"]
        if uri.startswith(WORKFLOW):
            name, given = "fp_describe_workflow", {"workflow": uri.removeprefix(WORKFLOW)}
        elif uri.startswith(RUN) and len(uri) > len(RUN):
            name, given = "fp_get_run", {"run_id": uri.removeprefix(RUN)}
        else:
            raise _not_found(uri)
        call = Call(self._agent, caller.call_meta().correlation, actor_id=caller.client)
        try:
            output = await call_tool(TOOLS[name], call, given)
        except FleetPromptError as error:
            if error.code == "tool.invalid_input":
                raise _not_found(uri) from None
            error.details = {**(error.details or {}), "uri": uri}
            raise
        shown = without_authority(output, self._agent.root, may_elicit=self._may_elicit)
        text = dumps(shown).decode()
        return {"contents": [{"uri": uri, "mimeType": _MIME, "text": text}]}

    def complete(self, template: str, begun: str) -> list[str]:
        """Ids that begin so."""
        if template.startswith(WORKFLOW):
            ids = [entry.workflow_id for entry in self._workflows.entries()]
        elif template.startswith(RUN):
            ids = [run_id for run_id, _ in self._runs()]
        else:
            raise _not_found(template)
        return [found for found in ids if found.startswith(begun)]

    def _runs(self) -> list[tuple[str, str]]:
        """The latest runs, as run id and workflow id; none when the journal cannot be read."""
        try:
            engine = self._agent.engine
            rows = engine.journal.list_runs(engine.project, limit=RECENT_RUNS, before=None)
        except FleetPromptError as error:
            log.warning("mcp.no_runs", code=error.code)
            return []
        return [(row.run_id, row.workflow_id) for row in rows]


def _not_found(uri: str) -> RequestError:
    return RequestError(
        "workflow.not_found",
        f"There is no resource {uri[:200]}. There are {WORKFLOW}ID and {RUN}ID.",
        details={"uri": uri[:200]},
    )
