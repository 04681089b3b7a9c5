"""The document and the schema of the protocol say what the code does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from fleetprompt.conformance.transcript import transcripts
from fleetprompt.protocol_document import protocol_markdown, protocol_schema
from fleetprompt_agent.tools.registry import TOOLS
from fleetprompt_protocol.errors import CODES
from fleetprompt_protocol.messages import METHODS

DOCUMENT = Path(__file__).parents[2] / "docs/protocol.md"


def test_the_document_is_what_the_code_says_now() -> None:
    """Make it anew with `python -m fleetprompt.protocol_document > docs/protocol.md`."""
    assert protocol_markdown() == DOCUMENT.read_text(encoding="utf-8")


def test_every_method_model_tool_and_code_is_in_it() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    names = [*(method.name for method in METHODS), *TOOLS, *CODES]
    assert [name for name in names if f"`{name}`" not in text] == []
    for method in METHODS:
        assert f"### {method.params.__name__}\n" in text
    for tool in TOOLS:
        assert f"### {tool}\n" in text


def test_every_field_of_it_is_explained() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    bare = [line for line in text.splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert bare == []


def test_the_schema_takes_what_the_transcripts_say_and_refuses_what_is_wrong() -> None:
    validator = jsonschema_rs.Draft202012Validator(protocol_schema())
    known = {method.name for method in METHODS}
    said = [
        line["send"]
        for role in ("agent", "host")
        for transcript in transcripts(role)
        if transcript.name in ("welcome", "goodbye", "hello", "directive", "query", "batch")
        for line in transcript.lines
        if line.get("send", {}).get("method") in known
    ]
    assert len(said) > 5
    wrong = [message for message in said if not validator.is_valid({"jsonrpc": "2.0", **message})]
    assert [message["params"] for message in wrong] == [{"action": 7}]


@pytest.mark.parametrize(
    ("message", "is_valid"),
    [
        ({"id": 1, "method": "core.ping"}, True),
        ({"method": "core.ping"}, False),
        ({"id": 1, "method": "agent.heartbeat", "params": {}}, False),
        ({"id": 1, "result": {"anything": 1}}, True),
        ({"id": None, "error": {"code": -32700, "message": "no"}}, True),
        ({"id": 1, "result": 1, "error": {"code": 1, "message": "x"}}, False),
        ({"id": 1, "method": "core.tool.call", "params": {"call_id": "no spaces"}}, False),
        ({"id": 1, "method": "no.such.method", "params": {}}, False),
    ],
)
def test_the_schema_tells_messages_from_what_is_none(
    message: dict[str, Any], *, is_valid: bool
) -> None:
    validator = jsonschema_rs.Draft202012Validator(protocol_schema())
    assert validator.is_valid({"jsonrpc": "2.0", **message}) is is_valid


@pytest.mark.parametrize("flags", [[], ["--protocol"]])
def test_the_command_prints_a_schema(flags: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "fleetprompt", "schema", *flags],
        capture_output=True,
        timeout=60,
    )
    schema = json.loads(done.stdout)
    jsonschema_rs.meta.validate(schema)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
