"""The host's end of a session as a program: whoever spawns it is the agent."""

from __future__ import annotations

import asyncio
import os

from fleetprompt.session import Session
from fleetprompt_protocol.errors import FleetPromptError
from fleetprompt_protocol.stdio import StdioTransport, claim_stdio


async def serve(token: str) -> None:
    session = Session(StdioTransport(*claim_stdio()), token)
    try:
        await session.open()
    except FleetPromptError:
        await session.close()
    else:
        await session.ended()


asyncio.run(serve(os.environ.pop("FLEETPROMPT_SESSION_TOKEN")))
