"""What an entry says: bounded, printable, without secrets, and true to the head of the file."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_indexer.display import display
from fleetprompt_indexer.entry import Entry, describe
from fleetprompt_indexer.reader import FileContent, Signature
from fleetprompt_protocol.redaction import redact_text

SIGNATURE = Signature(0, 0, 0, 0, 0)
GITHUB = "ghp_" + "a1B2" * 9
AWS = "AKIA" + "ABCD1234" * 2


def entry(text: str | bytes, name: bytes = b".fleetprompt/workflows/w.yaml") -> Entry:
    data = text if isinstance(text, bytes) else text.encode()
    return describe(FileContent(data, "0" * 64, SIGNATURE), name)


@pytest.mark.parametrize(
    ("step", "tools"),
    [
        ("command: cli gh pr list", ["cli:gh"]),
        ("command: CLI   gh", ["cli:gh"]),
        ("command: cli 'my tool' x", ["cli:my"]),
        ("command: cli", ["cli"]),
        ("command: cli ${{ inputs.program }} x", ["cli"]),
        ("command: flow set", ["flow:set"]),
        ("command: http get https://example.com", ["http:GET"]),
        ("command: mcp github.create_issue title=x", ["mcp:github/create_issue"]),
        ("command: node camera snap quality:=80", ["node:camera/snap"]),
        ("command: web navigate https://example.com", ["web:navigate"]),
        ("command: llm prompt=hello", ["llm"]),
        ("tool: LLM", ["llm"]),
        ("tool: llm:claude-sonnet", ["llm:claude-sonnet"]),
        ("command: com.example.mail/list folder=inbox", ["com.example.mail/list"]),
        ("command: rm -rf /", []),
        ("command: ''", []),
        ("command: [cli, gh]", []),
        ("tool: cli:gh", ["cli:gh"]),
        ("tool: MCP:github/create_issue", ["mcp:github/create_issue"]),
        ("tool: com.example.mail/list", ["com.example.mail/list"]),
        ("tool: nonsense", []),
        ("tool: ${{ inputs.tool }}", []),
        ("tool: 3", []),
        ("approval: required", []),
    ],
)
def test_declared_tools_are_named_by_their_ids(step: str, tools: list[str]) -> None:
    found = entry(f"steps:\n- {step}\n- {step}\n")
    assert list(found.declared_tools) == tools
    assert list(found.declared_agents) == [t.split("/")[0] for t in tools if t.startswith("com.")]


def test_tools_of_the_last_steps_are_named_too() -> None:
    found = entry("steps:\n- command: cli a\nfinally:\n- command: cli b\n")
    assert found.declared_tools == ("cli:a", "cli:b")


def test_inputs_and_outputs_are_summed_up() -> None:
    found = entry(
        "inputs:\n"
        "  pr: {type: integer, required: true, description: Pull request}\n"
        "  tag: {default: family}\n"
        "  ratio: {default: 0.5}\n"
        "  flags: {type: [string, 'null'], default: [a, b]}\n"
        "  bare:\n"
        "outputs:\n"
        "  summary: ${{ steps.a.json.text }}\n"
        "  count: 3\n"
    )
    assert found.inputs_schema_summary == {
        "pr": {"type": "integer", "required": True, "description": "Pull request"},
        "tag": {"type": "string", "required": False, "default": "family"},
        "ratio": {"type": "number", "required": False, "default": 0.5},
        "flags": {"type": '["string","null"]', "required": False, "default": '["a","b"]'},
        "bare": {"type": "any", "required": False},
    }
    assert found.outputs_schema_summary == {
        "summary": {"value": "${{ steps.a.json.text }}"},
        "count": {"value": 3},
    }


def test_a_version_is_kept_as_it_is_written() -> None:
    assert entry("version: 1.10").version == "1.10"
    assert entry("version: 0x10").version == "0x10"
    assert entry("version: ~").version is None
    assert entry("name: 2024-01-31\nid: '7'").name == "2024-01-31"


@pytest.mark.parametrize("field", ["name", "description", "version", "inputs", "outputs"])
def test_a_field_of_another_shape_is_told_and_left_out(field: str) -> None:
    found = entry(f"{field}: [1, 2]")
    assert [(p.code, p.severity, p.path) for p in found.problems] == [
        ("workflow.shape", "warning", field)
    ]
    assert found.status == "unvalidated"


def test_long_fields_are_cut_and_told() -> None:
    found = entry(f"name: {'n' * 500}\ndescription: {'d ' * 5000}\nversion: {'1' * 80}")
    assert (len(found.name), len(found.description or ""), len(found.version or "")) == (
        120,
        2000,
        64,
    )
    assert [problem.code for problem in found.problems] == ["workflow.cut"] * 3


def test_an_entry_is_small_however_large_the_file_is() -> None:
    many = "".join(
        f"  i{n}: {{default: {'x' * 300}, description: {'y' * 300}}}\n" for n in range(150)
    )
    steps = "".join(f"- command: cli p{n}{'z' * 200}\n" for n in range(150))
    text = f"inputs:\n{many}steps:\n{steps}"
    found = entry(text)
    assert len(found.inputs_schema_summary) == 32
    assert len(found.declared_tools) == 100
    assert len(json.dumps(found.to_json())) < 40_000


def test_secrets_in_names_descriptions_and_defaults_are_not_shown() -> None:
    found = entry(
        f"name: Deploy {GITHUB}\n"
        f"description: |\n  Uses {AWS} and\n  password=hunter2hunter2\n"
        f"inputs:\n  a: {{default: {GITHUB}, description: 'like {AWS}'}}\n"
        f"  b: {{default: {{nested: [{GITHUB}]}}}}\n"
        f"outputs:\n  url: https://user:swordfish99@example.com/\n"
        f"steps:\n- command: cli {GITHUB}\n- tool: cli:{AWS}\n- tool: {GITHUB}.x/{GITHUB}\n"
    )
    shown = json.dumps(found.to_json())
    for secret in (GITHUB, AWS, "hunter2hunter2", "swordfish99"):
        assert secret not in shown


def test_secrets_in_ids_and_file_names_are_not_shown() -> None:
    for found in (
        entry(f"id: {GITHUB}"),
        entry("steps: []", f".fleetprompt/workflows/{GITHUB}.yaml".encode()),
    ):
        assert GITHUB not in json.dumps(found.to_json())


def test_control_and_direction_characters_are_escaped() -> None:
    found = entry('name: "a\\x1b[31mb\\u202Ec\\u200bd\\ne"\ndescription: "x\\ty\\nz\\rq"')
    assert found.name == "a\\x1b[31mb\\u202ec\\u200bd e"
    assert found.description == "x\ty\nz\\x0dq"


@given(
    st.from_regex(
        r"(ghp_[A-Za-z0-9]{36}|AKIA[A-Z0-9]{16}|glpat-[\w]{20}|xoxb-[a-z0-9]{12}|sk_live_[a-z0-9]{16}"
        r"|sk-[A-Za-z0-9]{24}|AIza[\w-]{35}|npm_[A-Za-z0-9]{36}|pypi-[\w]{50}|eyJ[\w]{9}\.eyJ[\w]{9}\.x"
        r"|-----BEGIN PRIVATE KEY-----|https://a:[a-z]{5}@b|[Bb]earer [a-z]{9}|[Tt]oken [a-z]{9}"
        r"|[Bb]asic [a-z]{9}|(?i:passwo?r?d|passphrase|secret|api[_-]?key|access[_-]?key|token"
        r"|credentials?)[=:] ?[a-z]{6})",
        fullmatch=True,
    ),
    st.text(max_size=20),
)
@settings(max_examples=80)
def test_what_would_be_redacted_is_redacted(secret: str, around: str) -> None:
    text = " ".join(f"{around} {secret} {around}".split())
    assert display(text, 10_000) == display(redact_text(text), 10_000)


@given(st.text(max_size=300), st.integers(1, 100), st.booleans())
@settings(max_examples=80)
def test_what_is_shown_is_short_and_printable(text: str, limit: int, lines: bool) -> None:
    shown = display(text, limit, lines=lines)
    assert len(shown) <= limit
    allowed = {"\n", "\t"} if lines else set()
    for character in shown:
        assert character in allowed or ord(character) >= 0x20
        assert character not in "\x7f\x9b\u202e\u2066\u200b\ufeff"
        assert not "\ud800" <= character <= "\udfff"
    shown.encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
FIELDS = ["id", "name", "description", "version", "inputs", "args", "outputs", "steps", "finally"]


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES))
@settings(max_examples=80)
def test_any_values_of_the_known_fields_give_an_entry(values: dict[str, Any]) -> None:
    found = entry(json.dumps(values), b"w.json")
    json.dumps(found.to_json(), allow_nan=False).encode()
    assert found.name
    assert found.workflow_id
