"""The same methods behind the product's peer."""

import os
from typing import Any

from fleetprompt_protocol.stdio import StdioTransport, claim_stdio

descriptors = claim_stdio()

import asyncio  # noqa: E402 — the descriptors are claimed first

from fleetprompt_protocol.peer import MAX_IN_FLIGHT, CallContext, Peer  # noqa: E402 — same


async def echo(_context: CallContext, params: Any) -> Any:
    return params


async def sleep(_context: CallContext, params: Any) -> Any:
    await asyncio.sleep(params["seconds"])
    return params


async def main() -> None:
    peer = Peer(
        StdioTransport(*descriptors),
        {"echo": echo, "sleep": sleep},
        inline={"ping": lambda params: params},
        max_in_flight=int(os.environ.get("BENCH_IN_FLIGHT", MAX_IN_FLIGHT)),
    )
    await peer.run()


asyncio.run(main())
