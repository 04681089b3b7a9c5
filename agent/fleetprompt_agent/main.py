"""`fleetprompt agent`: the process that a host spawns.

What comes first matters: the supervisor is forked while the process is small, then stdin and
stdout are taken away from everybody but the protocol, then the rest is imported.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt_protocol.errors import FleetPromptError, OperatorError

if TYPE_CHECKING:
    from fleetprompt_agent.agent import OpenJournal
    from fleetprompt_agent.steps.supervisor import Supervisor

TOKEN_NAME = "FLEETPROMPT_SESSION_TOKEN"  # noqa: S105 (the name of the variable, not a token)
FRAMING_NAME = "FLEETPROMPT_FRAMING"
_FRAMINGS = ("auto", "newline", "content-length")


def main(argv: list[str], open_journal: OpenJournal | None = None) -> int:
    """Serve a host on stdin and stdout; gives the exit code.

    Args:
        argv: What follows `fleetprompt agent`.
        open_journal: Opens another journal than the SQLite file of the state directory.
    """
    options = _parse(argv)
    parent_pid = os.getppid()
    token = os.environ.pop(TOKEN_NAME, None) or None
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop takes it: no traceback
    from fleetprompt_protocol.stdio import claim_stdio

    try:
        descriptors = claim_stdio()
    except OSError:
        sys.stderr.write("fleetprompt: standard output is closed; it carries the protocol\n")
        return 2
    try:
        from fleetprompt_agent.steps.supervisor import start_supervisor

        supervisor = start_supervisor()
        root = _find_root(options.root)
        return _serve(options, root, supervisor, descriptors, token, parent_pid, open_journal)
    except FleetPromptError as error:
        sys.stderr.write(f"fleetprompt: {error.message} [{error.code}]\n")
        return 2


def _parse(argv: list[str]) -> Any:
    import argparse

    parser = argparse.ArgumentParser(
        prog="fleetprompt agent",
        description="Serve the workflows of a project on stdin and stdout.",
    )
    parser.add_argument("--root", type=Path, help="the project (default: nearest .fleetprompt/)")
    parser.add_argument(
        "--allow-side-effects",
        action="store_true",
        help="the runs of this process may have side effects without asking first",
    )
    parser.add_argument("--protocol", choices=("auto", "router", "mcp", "plain"), default="auto")
    parser.add_argument("--framing", choices=_FRAMINGS, help=f"default: {FRAMING_NAME}, or auto")
    parser.add_argument(
        "--auto-resume", action="store_true", help="continue interrupted runs at the start"
    )
    parser.add_argument(
        "--tools",
        choices=("few", "all"),
        default="few",
        help="how many of the fp_ tools an MCP client is shown (default: few)",
    )
    parser.add_argument(
        "--workflow-tools",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="offer each valid workflow as a tool of its own (MCP clients and router hosts)",
    )
    parser.add_argument(
        "--elicitation",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let a person decide in a form of the MCP client (default), or at a terminal only",
    )
    parser.add_argument(
        "--log-level", choices=("debug", "info", "warning", "error"), default="info"
    )
    options = parser.parse_args(argv)
    if options.framing is None:
        options.framing = os.environ.get(FRAMING_NAME) or "auto"
        if options.framing not in _FRAMINGS:
            parser.error(f"{FRAMING_NAME} must be one of {', '.join(_FRAMINGS)}")
    return options


def _find_root(given: Path | None) -> Path:
    from fleetprompt_indexer.root import find_root

    if given is not None:
        if not given.is_dir():
            raise OperatorError("root.not_found", f"{given} is not a directory.")
        return given.resolve()
    root = find_root(Path.cwd())
    if root is None:
        raise OperatorError(
            "root.not_found",
            f"Neither {Path.cwd()} nor a folder above it has .fleetprompt/. "
            "Go to a project, or name one with --root.",
        )
    return root.resolve()


def _serve(
    options: Any,
    root: Path,
    supervisor: Supervisor,
    descriptors: tuple[int, int],
    token: str | None,
    parent_pid: int,
    open_journal: OpenJournal | None,
) -> int:
    import asyncio

    from fleetprompt_agent.agent import Agent, open_sqlite_journal
    from fleetprompt_agent.dialects.options import Options
    from fleetprompt_agent.dialects.session import Session, resume_interrupted
    from fleetprompt_protocol.log import configure
    from fleetprompt_protocol.stdio import StdioTransport

    configure(options.log_level)

    async def serve() -> int:
        def may_run() -> bool:
            return session.may_run()

        agent = Agent(
            root,
            supervisor,
            allow_side_effects=options.allow_side_effects,
            may_run=may_run,
            open_journal=open_journal or open_sqlite_journal,
        )
        session = Session(
            agent,
            StdioTransport(*descriptors),
            protocol=options.protocol,
            framing=options.framing,
            token=token,
            parent_pid=parent_pid,
            options=Options(
                all_tools=options.tools == "all",
                workflow_tools=options.workflow_tools,
                elicitation=options.elicitation,
            ),
        )
        if options.auto_resume:
            await resume_interrupted(agent)
        return await session.run()

    return asyncio.run(serve())
