"""The protocol as a document and as a JSON Schema, both made from the code that enforces it.

    python -m fleetprompt.protocol_document > docs/protocol.md

Only what code cannot say is written here as text; every limit in it is the constant itself.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.json_schema import models_json_schema

from fleetprompt_agent.agent import AGENT_ID
from fleetprompt_agent.dialects.router import CAPABILITIES, HELLO_TIMEOUT_S
from fleetprompt_agent.dialects.session import PARENT_POLL_S
from fleetprompt_agent.dialects.stream import BEHIND_BYTES
from fleetprompt_agent.tools.registry import TOOLS
from fleetprompt_protocol.errors import CODES
from fleetprompt_protocol.frames import MAX_FRAME_BYTES
from fleetprompt_protocol.inbound import (
    MAX_BATCH,
    MAX_PARKED,
    MAX_PARKED_BYTES,
    READ_STOP_FACTOR,
)
from fleetprompt_protocol.messages import (
    METHODS,
    PROTOCOL_VERSIONS,
    Goodbye,
    Message,
    Ping,
    StatusData,
)
from fleetprompt_protocol.peer import MARK_BYTES, MAX_IN_FLIGHT, STALL_S
from fleetprompt_protocol.rpc_error import RPC_NUMBERS

if TYPE_CHECKING:
    from fleetprompt_protocol.messages import MethodInfo

Json: TypeAlias = Any

SCHEMA_ID = "https://fleetprompt.dev/schema/protocol.json"
"""A name, not an address: nothing is fetched from it."""

_REF = "#/$defs/{model}"


def protocol_schema() -> dict[str, Json]:
    """A JSON Schema (2020-12) of every message of the router dialect.

    A document that meets it is one JSON-RPC message: a request or notification of the dialect, or
    an answer. `methods` names the schema of each method's params and of its result, which an answer
    does not tell by itself.
    """
    methods = {}
    for method in METHODS:
        told = {
            "kind": method.kind,
            "description": method.about,
            "params": {"$ref": f"#/$defs/{method.params.__name__}"},
        }
        if method.result is not None:
            told["result"] = {"$ref": f"#/$defs/{method.result.__name__}"}
        methods[method.name] = told
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "FleetPrompt router protocol",
        "protocol_versions": list(PROTOCOL_VERSIONS),
        "methods": methods,
        "oneOf": [*(_message(method) for method in METHODS), {"$ref": "#/$defs/Answer"}],
        "$defs": {**_definitions(), **_ENVELOPES},
    }


def _message(method: MethodInfo) -> dict[str, Json]:
    required = ["jsonrpc", "method", *(["id"] if method.kind == "request" else [])]
    return {
        "type": "object",
        "title": method.name,
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": False if method.kind == "notification" else {"$ref": "#/$defs/RequestId"},
            "method": {"const": method.name},
            "params": {"$ref": f"#/$defs/{method.params.__name__}"},
        },
        "required": required if method.params in (Ping, Goodbye) else [*required, "params"],
    }


_ENVELOPES: dict[str, Json] = {
    "RequestId": {"type": ["string", "integer"], "maxLength": 512},
    "Answer": {
        "type": "object",
        "description": "The one answer to a request.",
        "properties": {
            "jsonrpc": {"const": "2.0"},
            "id": {"anyOf": [{"$ref": "#/$defs/RequestId"}, {"type": "null"}]},
            "result": True,
            "error": {
                "type": "object",
                "properties": {
                    "code": {"type": "integer"},
                    "message": {"type": "string"},
                    "data": {"$ref": "#/$defs/ErrorInfo"},
                },
                "required": ["code", "message"],
            },
        },
        "required": ["jsonrpc", "id"],
        "oneOf": [{"required": ["result"]}, {"required": ["error"]}],
        "not": {"required": ["method"]},
    },
}


def _models() -> list[type[Message]]:
    """Every model of a message, in the order of the methods."""
    found: dict[type[Message], None] = {}
    for method in METHODS:
        found[method.params] = None
        if method.result is not None:
            found[method.result] = None
    found[StatusData] = None
    return list(found)


def _definitions() -> dict[str, Json]:
    models = _models()
    _, made = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    definitions: dict[str, Json] = made["$defs"]
    return definitions


def protocol_markdown() -> str:
    """`docs/protocol.md`."""
    parts = [_head(), _methods(), _messages(), _tools(), _codes()]
    return "\n".join(parts)


def _mib(size: int) -> str:
    return f"{size // (1024 * 1024)} MiB"


def _head() -> str:
    return f"""\
# The protocol

Made from the code by `python -m fleetprompt.protocol_document`; a test fails when it is stale. The
same as a JSON Schema: `fleetprompt schema --protocol`. Whether a program keeps to it:
`fleetprompt conformance -- COMMAND`.

The agent is `{AGENT_ID}`; its tools are `{AGENT_ID}/fp_…`. It speaks version
{" and ".join(PROTOCOL_VERSIONS)} of the router dialect.

## Transport

JSON-RPC 2.0 on the standard input and output of a subprocess. Standard output carries the protocol
and nothing else; logs are JSON lines on standard error.

* **Framing**: one message a line, or `Content-Length` headers; `--framing newline`,
  `content-length` or `auto`. `auto` looks at what comes first and answers in kind. An agent that
  has a session token speaks first, and so must be told: with `auto` it uses lines.
* **Limits**: a message has at most {_mib(MAX_FRAME_BYTES)} and 64 levels. A longer one is discarded
  as it streams and answered with `protocol.frame_too_large`, under its id where that can be read. A
  batch has at most {MAX_BATCH} members.
* **Many requests**: {MAX_IN_FLIGHT} are worked on at the same time. Further ones are *parked*, and
  the peer goes on reading, so that answers, cancels and goodbyes still arrive: two sides that wait
  for each other's answers never come to a standstill. A parked request is not refused, keeps its
  id, can be cancelled, and starts in its turn. Reading stops only when {MAX_PARKED} requests or
  {_mib(MAX_PARKED_BYTES)} of them are parked, or when {_mib(READ_STOP_FACTOR * MARK_BYTES)} of our
  own messages wait to be taken.
* **A reader that is slow**: above {BEHIND_BYTES // 1024} KiB that is not taken, of what a step
  prints only the newest piece of each channel waits, marked `coalesced`; above {_mib(MARK_BYTES)},
  runs pause at their next event. Transitions and results are never dropped. No room for
  a byte for {STALL_S:g} s: the other side is gone (a pipe makes room by the page, so that a reader
  of a byte a second looks so, too). A pipe that was closed is noticed when something is written.
* **The end**: end of input, SIGTERM, SIGINT, SIGHUP, a broken pipe, or the death of the parent
  (looked at every {PARENT_POLL_S:g} s). Steps are stopped with everything they have started, runs
  stay resumable, and the agent exits within 5 s.

## Order

* A request has exactly one answer, whatever happens. An id that is in flight is refused.
* All chunks of a call are written before its result, none after. `seq` counts from 1 without gaps.
* Cancels, answers and notifications are handled in the order in which they come.
* `$/cancelRequest {{id}}` cancels a request in either direction. `core.tool.cancel` and
  `agent.tool.cancel` do so by `call_id`. Cancelling the call of a run gives its result with
  `canceled`; a cancel of something unknown or finished is not accepted, and not remembered.
* Unknown fields are ignored; fields that are known must have their type. Tool inputs are strict.

## Who speaks first

With `FLEETPROMPT_SESSION_TOKEN` in its environment the agent sends `agent.hello` and waits
{HELLO_TIMEOUT_S:g} s for the welcome; until then every other request is answered
`protocol.not_ready`. The token is used once and never logged. A wrong token
(`protocol.unauthorized`) or no common version (`protocol.unsupported_version`) ends the session.
Without a token the agent serves at once and the first request decides the dialect: `core.*` is the
router's (the hello is sent then, and not waited for), a tool's name is the plain dialect's, MCP's
own methods are [MCP](mcp.md).

A host that answers -32601 to `agent.tools.register`, `agent.tools.query` or
`agent.directive.request` is a minimal one: the agent goes on, and directives become gates.

The hello offers {", ".join(f"`{name}`" for name in CAPABILITIES)}. A welcome whose `capabilities`
name `workflow_signals` is told of workflow files, too.

## Identifiers

Beside every message travels `meta`: `request_id` (one logical chain, end to end), `correlation_id`
(the timeline; the first run under it takes it as its id) and `causation_id` (what has caused this:
a directive, a call, an event). Whatever arrives is echoed on every chunk and result; what is absent
is made. A call that a step makes carries the ids of its run, and its `step.started` event as the
cause.

## Calls of tools of other agents

A step whose tool is `<agent_id>/<tool>` is an `agent.tool.call` of the agent to its host. The agent
asks for the tool first (`agent.tools.query`) and refuses input that its schema refuses. Then:

| what comes | the step |
|---|---|
| a result `succeeded` | succeeds; its value is the output |
| a result `failed` | has failed, and acted: the effect is known |
| a result `canceled` without having been asked for | has an outcome that nobody can tell |
| a JSON-RPC error | has failed without an effect: the call was not made |
| `protocol.internal`, a lost connection, no answer in time | has an outcome that nobody can tell |

A host routes such calls to the agent that has the tool, at most eight calls deep. Which agent may
call what, is the host's to say: at our own command line, steps may call the agents that `--agent`
brings in, and those may call nothing.

## Signals

`fleetprompt.execution.started`, `.resumed`, `.waiting` and `.finished` for every run that the agent
drives: `{{run_id, workflow_id, gate_id?, status?}}`. `fleetprompt.workflow.discovered`, `.changed`
and `.removed`: `{{root, file_path, workflow_id, sha256}}`.

## Plain dialect

The method is a tool's name and the params are its input, plus `meta`. With `meta.stream: true` the
same `agent.tool.stream` notifications come, whose `call_id` is the request's id as a text.
Whole hosts in Python, Node and bash: [examples/hosts](../examples/hosts).
"""


def _methods() -> str:
    rows = [
        f"| `{method.name}` | {method.kind} | `{method.params.__name__}` | "
        f"{f'`{method.result.__name__}`' if method.result is not None else '–'} | {method.about} |"
        for method in METHODS
    ]
    return "\n".join(
        [
            "## Methods of the router dialect",
            "",
            "`agent.*` is sent by the agent, `core.*` by the host; `core.ping` and `core.goodbye`",
            "by either.",
            "",
            "| method | kind | params | result | what |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )


def _messages() -> str:
    definitions = _definitions()
    lines = ["## Messages", ""]
    ordered = [model.__name__ for model in _models()]
    for name in (*ordered, *(name for name in definitions if name not in ordered)):
        schema = definitions[name]
        lines += [f"### {name}", "", str(schema.get("description", "")).strip(), ""]
        lines += _fields(schema)
    return "\n".join(lines)


def _fields(schema: dict[str, Json]) -> list[str]:
    required = schema.get("required", [])
    rows = [
        f"| `{name}` | {_type(field)} | {'yes' if name in required else _default(field)} | "
        f"{_cell(field.get('description', ''))} |"
        for name, field in schema.get("properties", {}).items()
    ]
    if not rows:
        return ["No fields.", ""]
    return ["| field | type | required | what |", "|---|---|---|---|", *rows, ""]


def _default(field: dict[str, Json]) -> str:
    default = field.get("default")
    return "no" if default in (None, "", [], {}) else f"no; `{json.dumps(default)}`"


def _type(schema: Json) -> str:
    """A type in a few words, with its bounds."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        kinds = [
            "null" if part.get("type") == "null" else _type(part)
            for part in schema["anyOf"]
            if part.get("type") != "null" or "default" not in schema
        ]
        return " or ".join(kinds)
    if "enum" in schema:
        return ", ".join(f"`{item}`" for item in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind: str = schema.get("type", "any JSON")
    if kind == "array":
        most = f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        return f"list of {_type(schema.get('items', {}))}{most}"
    words: dict[str, str] = {
        "string": "text",
        "integer": "whole number",
        "boolean": "true or false",
    }
    shown = words.get(kind, kind)
    if "pattern" in schema:
        return f"{shown} `{schema['pattern']}`".replace("|", "\\|")
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        shown += f" {low if low is not None else ''}…{high if high is not None else ''}"
    if "maxLength" in schema:
        shown += f" of at most {schema['maxLength']} characters"
    return shown


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


_TOOLS_HEAD = """\
## Tools

In the plain dialect a tool's name is the method and its input the params; in the router's the input
is `input` and the result is `output`. Inputs are strict: an unknown field and a value of another
type are `tool.invalid_input`. Results may have more fields than these.

A result whose run waits shows its `gates`. A gate's `token`, which decides it, stands in the result
of the call that opened it, and after `fp_get_run {reissue: true}`; not in MCP. To decide, call
`fp_resume_run` with the token and one of: `approve` (effects, approval), `response` (ask,
judgement; an ask may be refused with `approve: false`), `complete` or `skip` (manual), `retry`,
`succeed_with` or `fail` (unknown_outcome).

| tool | what | |
|---|---|---|"""


def _tools() -> str:
    lines = [_TOOLS_HEAD]
    for tool in TOOLS.values():
        marks = [
            word
            for word, has in (
                ("read-only", tool.read_only),
                ("streams", tool.streaming),
                ("can be cancelled", tool.cancellation),
            )
            if has
        ]
        what, name = _cell(tool.description), f"[`{tool.name}`](#{tool.name})"
        lines.append(f"| {name} | {what} | {', '.join(marks) or '–'} |")
    lines += ["", _LONG_RESULTS]
    shared: dict[str, Json] = {}
    described_at: dict[str, str] = {}
    for tool in TOOLS.values():
        lines += [f"### {tool.name}", "", tool.description, "", "Input:", ""]
        lines += _fields(tool.model().model_json_schema())
        output = tool.output_model_type()
        if output is not None:
            schema = output.model_json_schema()
            shared |= schema.get("$defs", {})
            described = described_at.setdefault(output.__name__, tool.name)
            if described == tool.name:
                lines += ["Result:", "", *_fields(schema)]
            else:
                lines += [f"Result: as of [`{described}`](#{described}).", ""]
    for name, schema in shared.items():
        lines += [f"### {name}", "", str(schema.get("description", "")), "", *_fields(schema)]
    return "\n".join(lines)


_LONG_RESULTS = """\
A run's result has at most about 1 MiB, less where the host takes shorter messages. What is too long
for it is named under `left_out`, with its size in bytes: first items of loops that need nobody's
attention (`metrics.steps` counts all steps by status), then `outputs` and `output`, which are null
then, then items of gates. `fp_get_output` with the `run_id` and a `channel` of that name, and no
`step_path`, gives each whole as JSON text, a page at a time. Outputs nested deeper than 48 levels
are left out as well, and such parts of a gate stand there as JSON text. An event of a timeline
names long fields of its data likewise.
"""


def _codes() -> str:
    rows = [
        f"| `{code}` | {RPC_NUMBERS.get(code, -32000)} | {_cell(meaning)} |"
        for code, meaning in CODES.items()
    ]
    return "\n".join(
        [
            "## Errors",
            "",
            "A JSON-RPC error means that the call could not be made: `{code, message, data}`,",
            "and `data` is `{code, message, details?, retryable, where?}`. A tool that fails is a",
            "result whose `error` is the same data. The dotted codes are stable; texts are not.",
            "",
            "| code | JSON-RPC | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(protocol_markdown())
