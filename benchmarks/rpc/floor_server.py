"""The least that an asyncio JSON-RPC server can do: parse, look up, a task a call, write."""

import asyncio
import os
import sys
from typing import Any

try:
    import orjson

    loads, dumps = orjson.loads, orjson.dumps
except ImportError:
    import json

    loads = json.loads

    def dumps(value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":")).encode()


async def echo(params: Any) -> Any:
    return params


async def sleep(params: Any) -> Any:
    await asyncio.sleep(params["seconds"])
    return params


METHODS = {"echo": echo, "sleep": sleep, "ping": echo}


async def main() -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(1, "wb", 0))
    tasks: set[asyncio.Task[None]] = set()

    async def answer(message: Any) -> None:
        result = await METHODS[message["method"]](message.get("params", {}))
        transport.write(dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}) + b"\n")

    while line := await reader.readline():
        task = asyncio.create_task(answer(loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(main())
