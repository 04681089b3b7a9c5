"""An agent that says what a script tells it to: for the host's tests, standard library only.

The one argument is a JSON object:

    token       what the hello shows in place of the token that the host gave
    versions    protocol versions that it offers; by default ["1"]
    early       requests to the host before the first hello: [{method, params}]
    hellos      how many times it says hello; by default 1
    end_at      "start" or "welcome": where it exits, with code 7
    asks        requests to the host after the handshake: [{method, params}]
    answers     by tool name: {chunks: [params …], result: {…}} or {error: {…}} or {exit: code}
    heard       a file to which every message of the host is appended, one JSON line each
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

SCRIPT: dict[str, Any] = json.loads(sys.argv[1])
next_id = 0


def send(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def receive() -> dict[str, Any] | None:
    line = sys.stdin.readline()
    if not line:
        return None
    message: dict[str, Any] = json.loads(line)
    if "heard" in SCRIPT:
        with open(SCRIPT["heard"], "a", encoding="utf-8") as file:
            file.write(line)
    return message


def ask(method: str, params: dict[str, Any]) -> dict[str, Any]:
    global next_id
    next_id += 1
    send({"id": next_id, "method": method, "params": params})
    while (message := receive()) is not None:
        if message.get("id") == next_id and "method" not in message:
            return message
    sys.exit(0)


def hello() -> dict[str, Any]:
    given = os.environ["FLEETPROMPT_SESSION_TOKEN"]
    return ask(
        "agent.hello",
        {
            "session_token": SCRIPT.get("token", given),
            "agent_id": "com.fleetprompt.core",
            "agent_version": "0",
            "protocol": {"supported_versions": SCRIPT.get("versions", ["1"])},
        },
    )


def answer(message: dict[str, Any]) -> None:
    params = message.get("params", {})
    if message["method"] == "core.tool.cancel":
        send({"id": message["id"], "result": {"call_id": params["call_id"], "accepted": True}})
        return
    call_id = params["call_id"]
    told = SCRIPT.get("answers", {}).get(params["tool_id"].rpartition("/")[2], {})
    for chunk in told.get("chunks", ()):
        send({"method": "agent.tool.stream", "params": {"call_id": call_id, **chunk}})
    if "exit" in told:
        sys.exit(told["exit"])
    if "error" in told:
        send({"id": message["id"], "error": told["error"]})
    elif "result" in told:
        send({"id": message["id"], "result": {"call_id": call_id, **told["result"]}})


def main() -> None:
    if SCRIPT.get("end_at") == "start":
        sys.exit(7)
    for request in SCRIPT.get("early", ()):
        ask(request["method"], request["params"])
    for _ in range(SCRIPT.get("hellos", 1)):
        hello()
    if SCRIPT.get("end_at") == "welcome":
        sys.exit(7)
    for request in SCRIPT.get("asks", ()):
        ask(request["method"], request["params"])
    name = "com.fleetprompt.core/fp_get_run"
    ask("agent.tools.register", {"tools": [{"tool_id": name, "name": "fp_get_run"}]})
    while (message := receive()) is not None:
        if "method" in message and "id" in message:
            answer(message)


main()
