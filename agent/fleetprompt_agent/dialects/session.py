"""One session: serves the agent's tools over stdio, in one dialect or two, until it ends.

Plain and router share a peer. MCP takes the whole stream; whether it does, the first request says.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fleetprompt_agent.dialects.opening import read_opening
from fleetprompt_agent.dialects.plain import plain_methods
from fleetprompt_agent.dialects.router import RouterDialect
from fleetprompt_protocol.errors import FleetPromptError, OperatorError, ProtocolError
from fleetprompt_protocol.log import get_logger
from fleetprompt_protocol.peer import MARK_BYTES, Peer

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from fleetprompt_agent.agent import Agent
    from fleetprompt_agent.dialects.options import Options
    from fleetprompt_protocol.call import CallContext
    from fleetprompt_protocol.frames import FramingChoice
    from fleetprompt_protocol.transport import Transport

log = get_logger("session")

PARENT_POLL_S = 1.0
"""How often the agent looks whether its parent is still the process that spawned it."""

ProtocolChoice = Literal["auto", "router", "mcp", "plain"]


class Serving(Protocol):
    """Whoever has the stream: the peer of the plain and router dialects, or MCP."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that the host has not taken yet."""
        ...

    async def writable(self) -> None:
        """Returns when the host keeps up again."""
        ...

    async def run(self) -> str:
        """Serves until the end; gives why it ended."""
        ...

    def end(self) -> None:
        """Asks for the end; what is queued still goes out."""
        ...


class Session:
    """Serves one host.

    Args:
        agent: What the tools act on; the session closes it.
        transport: The private ends of stdin and stdout.
        protocol: Which dialects are served; with `auto` the first request decides.
        framing: How messages are told apart.
        token: The session token; with one, the agent speaks first and waits for the welcome.
        parent_pid: The spawner; when it is gone, so is the session.
        options: What the client is shown.
    """

    def __init__(
        self,
        agent: Agent,
        transport: Transport,
        *,
        protocol: ProtocolChoice,
        framing: FramingChoice,
        token: str | None,
        parent_pid: int,
        options: Options,
    ) -> None:
        self._agent = agent
        self._transport = transport
        self._framing = framing
        self._options = options
        self._protocol = protocol
        self._token = token
        self._parent_pid = parent_pid
        self._is_ready = token is None
        self._router = RouterDialect(agent, self._check_ready, options)
        self._greeting: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._room_task: asyncio.Task[None] | None = None
        self._exit_code = 0
        self._serving: Serving | None = None
        self._is_ending = False

    def may_run(self) -> bool:
        """Whether the host takes what is sent to it; runs pause while it does not."""
        serving = self._serving
        if serving is None or serving.queued_bytes <= MARK_BYTES:
            return True
        if self._room_task is None:
            self._room_task = self._spawn(self._wait_for_room(serving))
        return False

    async def _wait_for_room(self, serving: Serving) -> None:
        await serving.writable()
        self._room_task = None
        self._agent.engine.wake()

    async def run(self) -> int:
        """Serve until the stream ends or somebody ends it; gives the exit code."""
        loop = asyncio.get_running_loop()
        ends = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
            ends.append(signal.SIGHUP)
        for number in ends:
            loop.add_signal_handler(number, self._on_signal, number)
        self._spawn(self._watch_parent())
        self._serving = serving = await self._begin()
        if self._is_ending:
            serving.end()
        reason = await serving.run()
        for task in self._tasks:
            task.cancel()
        await self._agent.close()
        if reason in ("error", "stalled") and self._exit_code == 0:
            log.error("session.broken", reason=reason)
            return 1
        return self._exit_code

    async def _begin(self) -> Serving:
        """Whoever is to serve the stream."""
        received = b""
        dialect = "mcp" if self._protocol == "mcp" else "other"
        if self._protocol == "auto" and self._token is None:
            dialect, received = await read_opening(self._transport, self._framing)
        if dialect == "mcp":
            from fleetprompt_agent.dialects.mcp.connection import McpConnection

            return McpConnection(
                self._agent,
                self._transport,
                self._options,
                framing=self._framing,
                received=received,
            )
        peer = self._make_peer(received)
        if self._token is not None:
            self._greeting = self._spawn(self._greet(peer, self._token))
        return peer

    def _make_peer(self, received: bytes) -> Peer:
        methods: dict[str, Any] = {}
        inline: dict[str, Any] = {}
        if self._protocol in ("auto", "plain"):
            methods |= plain_methods(self._agent, self._check_ready)
        if self._protocol in ("auto", "router"):
            methods |= {name: self._greeted(h) for name, h in self._router.methods.items()}
            inline |= self._router.inline
        return Peer(
            self._transport,
            methods,
            on_notification=self._on_notification,
            inline=inline,
            on_eof=self._on_eof,
            framing=_first_framing(self._framing, self._token),
            received=received,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # The handshake

    def _check_ready(self) -> None:
        if not self._is_ready:
            raise ProtocolError(
                "protocol.not_ready",
                "The agent has said hello and waits for the welcome; answer `agent.hello` first.",
                retryable=True,
            )

    async def _greet(self, peer: Peer, token: str | None) -> None:
        try:
            await self._router.hello(peer, token)
        except FleetPromptError as error:
            if token is None:
                # A host that did not ask for the greeting may be a minimal one.
                log.info("session.no_welcome", code=error.code)
                return
            if error.code == "protocol.closed":
                return  # the session has ended in another way
            log.error("session.refused", code=error.code, message=error.message)
            self._exit_code = 3
            peer.end()
            return
        self._is_ready = True
        await self._router.serve(peer)

    def _greeted(self, handler: Any) -> Any:
        """The first request of a router host that gave no token is answered with a hello too."""

        async def first(context: CallContext, /, params: dict[str, Any]) -> Any:
            if self._greeting is None:
                self._greeting = self._spawn(self._greet(context.peer, None))
            return await handler(context, params)

        return first

    def _on_notification(self, method: str, params: dict[str, Any]) -> None:
        if method == "core.goodbye":
            log.info("session.goodbye", reason=params.get("reason"))
            self._spawn(self._end(None))

    # The end

    def _on_eof(self) -> None:
        """Runs are interrupted while their calls can still be answered."""
        if self._agent.has_engine:
            self._spawn(self._agent.interrupt())

    def _on_signal(self, number: int) -> None:
        self._exit_code = 128 + number
        self._spawn(self._end(signal.Signals(number).name))

    async def _end(self, reason: str | None) -> None:
        """End in good order; the host is told why, unless it is the one who said goodbye."""
        self._is_ending = True
        await self._agent.interrupt()
        # Calls whose runs have just been interrupted answer in the next rounds of the loop.
        for _ in range(3):
            await asyncio.sleep(0)
        if reason is not None:
            self._router.goodbye(reason)
        if self._serving is None:
            self._transport.close()  # nothing was asked yet: the wait for it ends
        else:
            self._serving.end()

    async def _watch_parent(self) -> None:
        while os.getppid() == self._parent_pid:  # noqa: ASYNC110 (the kernel tells nobody)
            await asyncio.sleep(PARENT_POLL_S)
        log.info("session.parent_gone")
        await self._end("the process that started the agent has ended")


def _first_framing(framing: FramingChoice, token: str | None) -> FramingChoice:
    """Who speaks first must know the framing; `auto` can only be found out by listening."""
    if framing == "auto" and token is not None:
        return "newline"
    return framing


async def resume_interrupted(agent: Agent) -> None:
    """Continue every run of the project that nobody drives (`--auto-resume`)."""
    from fleetprompt_agent.engine.requests import Asker
    from fleetprompt_protocol.ids import new_id

    engine = agent.engine
    before: tuple[int, str] | None = None
    while rows := engine.journal.list_runs(engine.project, limit=50, before=before):
        for row in rows:
            before = (row.created_ms, row.run_id)
            if engine.journal.ending(row.run_id) is not None:
                continue
            asker = Asker(new_id(), row.correlation_id, None, "system", "auto-resume")
            with suppress(OperatorError):  # a run that cannot be read is listed as such
                await engine.resume(row.run_id, asker, None, 0)
