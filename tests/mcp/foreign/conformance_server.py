"""Our own server over loopback HTTP, with what the conformance suite asks a server to offer.

The suite speaks HTTP only and wants tools, prompts and resources of fixed names. They are added to
the real surface and go the same way as it does: through the adapter, with JSON in and JSON out.
Prints its port when it serves. Arguments: the project's root.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.agent import Agent
from fleetprompt_agent.dialects.mcp.request_state import Asked, RequestStates
from fleetprompt_agent.dialects.mcp.sdk import McpServer
from fleetprompt_agent.dialects.mcp.surface import Surface
from fleetprompt_agent.dialects.options import Options
from fleetprompt_agent.steps.supervisor import start_supervisor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetprompt_agent.dialects.mcp.caller import Caller

Json = Any

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAE"
    "hQGAhKmMIQAAAABJRU5ErkJggg=="
)
SOUND = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAESsAACJWAAACABAAZGF0YQAAAAA="


def text(words: str) -> dict[str, Json]:
    return {"type": "text", "text": words}


IMAGE = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
EMBEDDED = {
    "type": "resource",
    "resource": {"uri": "test://embedded-resource", "mimeType": "text/plain", "text": "embedded"},
}
CONTENT: dict[str, list[dict[str, Json]]] = {
    "test_simple_text": [text("This is a simple text response for testing.")],
    "test_image_content": [IMAGE],
    "test_audio_content": [{"type": "audio", "data": SOUND, "mimeType": "audio/wav"}],
    "test_embedded_resource": [EMBEDDED],
    "test_multiple_content_types": [text("Multiple content types test:"), IMAGE, EMBEDDED],
}


def form(message: str, **fields: Json) -> dict[str, Json]:
    """A question of the stateless era."""
    schema = {"type": "object", "properties": fields, "required": list(fields)}
    params = {"mode": "form", "message": message, "requestedSchema": schema}
    return {"method": "elicitation/create", "params": params}


def sampling(words: str) -> dict[str, Json]:
    messages = [{"role": "user", "content": text(words)}]
    return {"method": "sampling/createMessage", "params": {"messages": messages, "maxTokens": 50}}


STRING = {"type": "string"}
NAME = form("What is your name?", name=STRING)
ROOTS = {"method": "roots/list", "params": {}}
ROUNDS: dict[str, list[dict[str, Json]]] = {
    "elicitation": [{"user_name": NAME}],
    "sampling": [{"capital_question": sampling("What is the capital of France?")}],
    "list_roots": [{"client_roots": ROOTS}],
    "request_state": [{"confirm": form("Please confirm", ok={"type": "boolean"})}],
    "multiple_inputs": [
        {"user_name": NAME, "greeting": sampling("Generate a greeting"), "client_roots": ROOTS}
    ],
    "multi_round": [
        {"step1": form("Step 1: What is your name?", name=STRING)},
        {"step2": form("Step 2: What is your favorite color?", color=STRING)},
    ],
    "tampered_state": [{"confirm": form("Please confirm", ok={"type": "boolean"})}],
    "capabilities": [{"user_name": NAME, "greeting": sampling("Generate a greeting")}],
}
"""What each `test_input_required_result_*` asks, round by round."""
NEEDS = {"elicitation/create": "elicitation", "sampling/createMessage": "sampling"}
DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {
        "type": "string", "enum": ["active", "inactive", "pending"], "default": "active",
    },
    "verified": {"type": "boolean", "default": True},
}  # fmt: skip
TITLED = [{"const": f"value{n}", "title": f"Option {n}"} for n in (1, 2, 3)]
OPTIONS = ["option1", "option2", "option3"]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": OPTIONS},
    "titledSingle": {"type": "string", "oneOf": TITLED},
    "legacyEnum": {"type": "string", "enum": OPTIONS, "enumNames": ["One", "Two", "Three"]},
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": OPTIONS}},
    "titledMulti": {"type": "array", "items": {"anyOf": TITLED}},
}
FORMS: dict[str, dict[str, Json]] = {
    "test_elicitation": {"username": STRING, "email": STRING},
    "test_elicitation_sep1034_defaults": DEFAULTS,
    "test_elicitation_sep1330_enums": ENUMS,
}
CHANGES = ("test_trigger_tool_change", "test_trigger_prompt_change")
DIALECT = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": STRING, "city": STRING},
        }
    },
    "properties": {
        "name": STRING,
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": STRING,
        "email": STRING,
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}
MESSAGES: dict[str, list[dict[str, Json]]] = {
    "test_simple_prompt": [text("This is a simple prompt for testing.")],
    "test_prompt_with_image": [IMAGE, text("Please analyze the image above.")],
}


class FixtureSurface(Surface):
    """The real surface with the suite's fixtures beside it."""

    def __init__(self, agent: Agent, options: Options) -> None:
        super().__init__(agent, options)
        self._states = RequestStates()
        self.tell: Callable[[], Awaitable[None]] | None = None
        """Has clients told of a change."""

    async def list_tools(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        listed = await super().list_tools(caller, params)
        names = [*CONTENT, *FORMS, *CHANGES, "test_error_handling", "test_tool_with_progress"]
        names.append("test_sampling")
        names += [f"test_input_required_result_{name}" for name in ROUNDS]
        listed["tools"] += [
            {"name": name, "description": "A fixture.", "inputSchema": {"type": "object"}}
            for name in names
        ]
        listed["tools"].append(
            {
                "name": "json_schema_2020_12_tool",
                "description": "A fixture.",
                "inputSchema": DIALECT,
            }
        )
        return listed

    async def call_tool(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        name: str = params["name"]
        if name in CONTENT:
            return {"content": CONTENT[name]}
        if name in CHANGES:
            if self.tell is not None:
                await self.tell()
            return {"content": [text("changed")]}
        if name == "test_error_handling":
            return {"content": [text("This tool intentionally fails.")], "isError": True}
        if name == "test_tool_with_progress":
            for done in (0, 50, 100):
                if caller.report is not None:
                    await caller.report(done, 100, f"{done} of 100")
            return {"content": [text("done")]}
        if name in FORMS:
            return await self._elicit(caller, params)
        if name == "test_sampling":
            return await self._sample(caller, params)
        rounds = ROUNDS.get(name.removeprefix("test_input_required_result_"))
        if rounds is not None and name.startswith("test_input_required_result_"):
            return self._rounds(caller, params, rounds)
        return await super().call_tool(caller, params)

    async def _elicit(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        if caller.elicit is None:
            return {"content": [text("This client shows no forms.")], "isError": True}
        fields = FORMS[params["name"]]
        required = ["username", "email"] if "username" in fields else []
        schema = {"type": "object", "properties": fields, "required": required}
        message = (params.get("arguments") or {}).get("message", "Please fill in")
        answer = await caller.elicit(message, schema, 20)
        return {"content": [text(f"User response: {json.dumps(answer)}")]}

    async def _sample(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        if caller.sample is None:
            return {"content": [text("This client samples nothing.")], "isError": True}
        asked = sampling((params.get("arguments") or {}).get("prompt", "Hello"))["params"]
        answer = await caller.sample(asked, 20)
        words = answer["content"]["text"] if answer is not None else "nothing"
        return {"content": [text(f"LLM response: {words}")]}

    def _rounds(
        self, caller: Caller, params: dict[str, Json], rounds: list[dict[str, Json]]
    ) -> dict[str, Json]:
        """Asks, round by round, until all that was asked is there."""
        name, state = params["name"], params.get("requestState")
        number = 0
        if state is not None:
            number = int(self._states.open(state, name, {}).run_id)
        responses = params.get("inputResponses") or {}
        wanted = {
            key: question
            for key, question in rounds[number].items()
            if name != "test_input_required_result_capabilities" or _can(caller, question)
        }
        if all(isinstance(responses.get(key), dict) for key in wanted):
            number += 1
            if number == len(rounds):
                return {"content": [text(f"state-ok {json.dumps(responses)}")]}
            wanted = rounds[number]
        asked: dict[str, Json] = {"resultType": "input_required", "inputRequests": wanted}
        if not name.endswith(("elicitation", "sampling", "roots", "capabilities")):
            asked["requestState"] = self._states.seal(Asked(str(number), []), name, {})
        return asked

    async def list_prompts(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        listed = await super().list_prompts(caller, params)
        arguments = {
            "test_prompt_with_arguments": ["arg1", "arg2"],
            "test_prompt_with_embedded_resource": ["resourceUri"],
        }
        names = [*MESSAGES, *arguments, "test_input_required_result_prompt"]
        listed["prompts"] += [
            {
                "name": name,
                "description": "A fixture.",
                "arguments": [{"name": a, "required": True} for a in arguments.get(name, [])],
            }
            for name in names
        ]
        return listed

    async def get_prompt(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        name, given = params["name"], params.get("arguments") or {}
        if name in MESSAGES:
            blocks = MESSAGES[name]
        elif name == "test_prompt_with_arguments":
            words = f"Prompt with arguments: arg1='{given['arg1']}', arg2='{given['arg2']}'"
            blocks = [text(words)]
        elif name == "test_prompt_with_embedded_resource":
            resource = {"uri": given["resourceUri"], "mimeType": "text/plain", "text": "embedded"}
            blocks = [{"type": "resource", "resource": resource}, text("Please process it.")]
        elif name == "test_input_required_result_prompt":
            question = form("What context should the prompt use?", context=STRING)
            if "user_context" not in (params.get("inputResponses") or {}):
                return {
                    "resultType": "input_required",
                    "inputRequests": {"user_context": question},
                }
            blocks = [text("With context.")]
        else:
            return await super().get_prompt(caller, params)
        return {"messages": [{"role": "user", "content": block} for block in blocks]}

    async def read_resource(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        uri: str = params["uri"]
        content: dict[str, Json]
        if uri == "test://static-text":
            content = {"mimeType": "text/plain", "text": "This is a static text resource."}
        elif uri == "test://static-binary":
            content = {"mimeType": "image/png", "blob": PIXEL}
        elif uri.startswith("test://template/"):
            found = uri.removeprefix("test://template/").removesuffix("/data")
            data = {"id": found, "templateTest": True, "data": f"Data for ID: {found}"}
            content = {"mimeType": "application/json", "text": json.dumps(data)}
        else:
            return await super().read_resource(caller, params)
        return {"contents": [{"uri": uri, **content}]}

    async def complete(self, caller: Caller, params: dict[str, Json]) -> dict[str, Json]:
        if params["ref"].get("name", "").startswith("test_"):
            return {"completion": {"values": ["paris", "park"], "total": 2, "hasMore": False}}
        return await super().complete(caller, params)


def _can(caller: Caller, question: dict[str, Json]) -> bool:
    declared = caller.meta.get("io.modelcontextprotocol/clientCapabilities") or {}
    if not isinstance(declared, dict):
        declared = declared.model_dump(exclude_none=True)
    return NEEDS[question["method"]] in declared


async def serve(root: Path) -> None:
    import uvicorn

    agent = Agent(root, start_supervisor())
    options = Options(workflow_tools=True)
    surface = FixtureSurface(agent, options)
    mcp = McpServer(agent, options, surface)
    surface.tell = mcp.tell_of_changes
    listening = socket.create_server(("127.0.0.1", 0))
    sys.stdout.write(f"{listening.getsockname()[1]}\n")
    sys.stdout.flush()
    config = uvicorn.Config(mcp.server.streamable_http_app(), log_level="warning")
    await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
