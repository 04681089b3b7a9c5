from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.loader import Compiled, load_workflow
from fleetprompt_agent.language.models import Step, Workflow
from fleetprompt_agent.language.plan import (
    Judgement,
    Need,
    Retry,
    plan_digest,
    plan_from_json,
    plan_to_json,
)
from fleetprompt_indexer.vocabulary import STEP_FIELDS, WORKFLOW_FIELDS
from fleetprompt_protocol.errors import WorkflowError

Load = Callable[[str], Compiled]

PLAYBOOK = """\
name: inbox-triage
args:
  tag:
    default: "family"
steps:
  - id: collect
    command: cli inbox list --json
    output: json
  - id: categorize
    command: cli inbox categorize --json
    output: json
    stdin: $collect.stdout
  - id: approve
    command: cli inbox apply --approve
    stdin: $categorize.stdout
    approval: required
  - id: execute
    command: cli inbox apply --execute
    stdin: $categorize.stdout
    condition: $approve.approved
"""


def codes(compiled: Compiled) -> list[str]:
    return [diagnostic.code for diagnostic in compiled.diagnostics]


def test_a_playbook_loads_as_it_stands() -> None:
    compiled = load_workflow(PLAYBOOK.encode(), format="yaml", file="w/inbox-triage.yaml")
    plan = compiled.plan
    assert compiled.diagnostics == ()
    assert plan is not None
    assert (plan.workflow_id, plan.name, plan.type) == ("inbox-triage", "inbox-triage", "chain")
    assert plan.inputs == {"tag": {"default": "family"}}
    assert [step.arguments["argv"] for step in plan.steps] == [
        ["inbox", "list", "--json"],
        ["inbox", "categorize", "--json"],
        ["inbox", "apply", "--approve"],
        ["inbox", "apply", "--execute"],
    ]
    assert [step.needs for step in plan.steps] == [
        (),
        (Need("collect", "order"),),
        (Need("categorize", "order"),),
        (Need("approve", "order"),),
    ]
    approve, execute = plan.steps[2], plan.steps[3]
    assert approve.kind == "action"
    assert approve.approval is not None
    assert execute.condition == "$approve.approved"
    assert all(step.side_effects and step.tool_id == "cli:inbox" for step in plan.steps)
    assert [one.permission for one in plan.permissions] == ["process:exec:inbox"]


def test_json_and_yaml_of_one_workflow_have_one_digest() -> None:
    as_json = {"name": "x", "steps": [{"id": "a", "command": "cli true", "env": {"A": "b"}}]}
    as_yaml = "# a comment\nsteps:\n- env: {A: b}\n  command: cli true\n  id: a\nname: x\n"
    data = json.dumps(as_json).encode()
    one = load_workflow(data, format="json", file="a/x.json").raise_if_invalid()
    other = load_workflow(as_yaml.encode(), format="yaml", file="b/x.yaml").raise_if_invalid()
    assert one.digest == other.digest == plan_digest(one)
    assert one.sha256 != other.sha256


def test_a_plan_survives_json(load: Load) -> None:
    plan = load(PLAYBOOK).raise_if_invalid()
    assert plan_from_json(json.loads(json.dumps(plan_to_json(plan)))) == plan


def test_the_version_and_variables_are_the_text_that_was_written(load: Load) -> None:
    plan = load("""\
        version: 1.10
        env: {A: 1.10, B: 0x1F, C: true, D: "x"}
        steps: [{id: a, command: cli true, env: {B: 1_0}}]
        """).raise_if_invalid()
    assert plan.version == "1.10"
    assert plan.steps[0].env == {"A": "1.10", "B": "1_0", "C": "true", "D": "x"}


def test_both_ways_to_name_a_program_give_the_same_step(load: Load) -> None:
    plan = load("""\
        inputs: {n: {}}
        steps:
          - {id: a, command: 'CLI gh pr view ${{ inputs.n }} --json "a b"'}
          - {id: b, tool: cli:gh, with: {args: [pr, view, "${{ inputs.n }}", --json, a b]}}
        """).raise_if_invalid()
    assert plan.steps[0].arguments == plan.steps[1].arguments
    assert plan.steps[0].tool_id == plan.steps[1].tool_id == "cli:gh"


def test_built_in_steps_take_words_or_a_map(load: Load) -> None:
    plan = load("""\
        inputs: {n: {}}
        steps:
          - {id: a, command: flow noop}
          - {id: b, command: 'flow set x=1 y:=[2] z=${{ inputs.n }}'}
          - {id: c, tool: flow:set, with: {x: $inputs.n}}
          - {id: d, command: 'flow assert that=${{ inputs.n == 1 }} message=no'}
        """).raise_if_invalid()
    assert [(step.tool_id, step.arguments, step.side_effects) for step in plan.steps] == [
        ("flow:noop", None, False),
        ("flow:set", {"x": "1", "y": [2], "z": "${{ inputs.n }}"}, False),
        ("flow:set", {"x": "$inputs.n"}, False),
        ("flow:assert", {"that": "${{ inputs.n == 1 }}", "message": "no"}, False),
    ]


def test_a_condition_may_stand_in_braces_or_as_a_reference(load: Load) -> None:
    plan = load("""\
        inputs: {on: {type: boolean}}
        steps:
          - {id: my-step, command: cli true, output: {schema: {type: object}}}
          - {id: b, command: cli true, if: "${{ inputs.on }}"}
          - {id: c, command: cli true, if: $my-step.json.is-ok}
          - {id: d, command: cli true, if: $my-step.exit_code == 0 && inputs.on}
        """).raise_if_invalid()
    assert [step.condition for step in plan.steps[1:]] == [
        "inputs.on",
        '$my-step.json["is-ok"]',
        "$my-step.exit_code == 0 && inputs.on",
    ]


def test_defaults_reach_the_steps_that_they_fit(load: Load) -> None:
    plan = load("""\
        defaults: {timeout: 30s, retry: {max_attempts: 3}, max_output_bytes: 9, cwd: sub}
        steps:
          - {id: a, command: cli true}
          - {id: b, command: cli true, idempotent: true, timeout: 1m, cwd: ., max_output_bytes: 5}
          - {id: c, command: flow noop}
          - {id: d, approval: required}
        """).raise_if_invalid()
    a, b, c, d = plan.steps
    assert (a.timeout_s, a.retry.max_attempts, a.cwd, a.max_output_bytes) == (30, 1, "sub", 9)
    assert (b.timeout_s, b.retry.max_attempts, b.cwd, b.max_output_bytes) == (60, 3, ".", 5)
    assert (c.timeout_s, c.cwd) == (30, None)
    assert (d.kind, d.timeout_s) == ("approval", None)


def test_every_field_reaches_the_plan(load: Load) -> None:
    plan = load("""\
        limits: {timeout: 1h30m, max_parallel: 3}
        concurrency: {group: prod, on_conflict: refuse}
        sandbox: required
        secrets: {T: secret://env/T}
        allow: {network: [a.example], write: [dist]}
        steps:
          - id: a
            command: cli gh
            env: {TOKEN: "${{ secrets.T }}"}
            stdin: {a: 1}
            output: {type: json, schema: {type: array}}
            ok_exit_codes: [2, 0, 2]
            total_timeout: 2m
            retry: {max_attempts: 4, backoff: fixed, initial: 2s, on: [step.exit_code]}
            postcondition: size(result.json) > 0
            on_error: continue
            artifacts: [out.html]
            uses: [script.sh]
            allow: {network: [b.example], read: [~/.config]}
            side_effects: false
          - {id: b, for_each: $a.json, as: one, max_parallel: 2, command: 'cli x ${{ one }}'}
          - {id: c, ask: {prompt: Which?, schema: {enum: [x, y]}, choices_from: $a.json}}
          - {id: d, manual: Call them}
          - {id: e, approval: {prompt: Sure?, preview: $a.stdout, expires: 1h, on_deny: continue}}
        finally:
          - {id: z, command: "cli echo ${{ run.status }}"}
        """).raise_if_invalid()
    a, b, c, d, e = plan.steps
    assert (plan.timeout_s, plan.max_parallel, plan.sandbox) == (5400, 3, "required")
    assert plan.concurrency is not None
    assert plan.concurrency.on_conflict == "refuse"
    assert (a.ok_exit_codes, a.total_timeout_s, a.on_error) == ((0, 2), 120, "continue")
    assert (a.retry.max_attempts, a.retry.backoff, a.retry.initial_s) == (4, "fixed", 2)
    assert a.retry.on == ("step.exit_code",)
    assert a.postcondition == "size(result.json) > 0"
    assert (a.artifacts, a.uses, a.claims_no_effect) == (("out.html",), ("script.sh",), True)
    assert a.side_effects
    assert a.allow.network == ("a.example", "b.example")
    assert (a.allow.read, a.allow.write) == (("~/.config",), ("dist",))
    assert b.for_each is not None
    assert (b.for_each.items, b.for_each.item_name, b.for_each.max_parallel) == (
        "$a.json",
        "one",
        2,
    )
    assert c.ask is not None
    assert (c.kind, c.ask.prompt, c.ask.choices_from) == ("ask", "Which?", "$a.json")
    assert (d.kind, d.manual) == ("manual", "Call them")
    assert e.approval is not None
    assert (e.kind, e.approval.expires_s, e.approval.on_deny) == ("approval", 3600, "continue")
    assert [step.id for step in plan.finally_steps] == ["z"]
    assert plan_from_json(plan_to_json(plan)) == plan


def test_a_question_to_a_model_compiles_from_both_forms() -> None:
    text = """\
inputs: {mail: {type: string}}
defaults: {timeout: 3s, retry: {max_attempts: 3}}
steps:
  - id: a
    tool: llm:big-1
    with: {prompt: "Spam? ${{ inputs.mail }}", system: Be terse., schema: {pattern: "$b.json"}}
    max_output_bytes: 99
  - id: b
    command: llm prompt="Why ${{ steps.a.json }}?" schema:={"type":"string"}
    for_each: "[1, 2]"
  - {id: c, tool: flow:set, with: {a: $a.usage, b: $a.actor, c: $b.json}}
"""
    plan = load_workflow(text.encode(), format="yaml", file="w.yaml").raise_if_invalid()
    a, b, c = plan.steps
    assert (a.kind, a.namespace, a.tool_id, a.arguments) == ("judgement", "llm", "llm:big-1", None)
    assert a.judgement == Judgement(
        "Spam? ${{ inputs.mail }}", {"pattern": "$b.json"}, "big-1", "Be terse."
    )
    assert (a.side_effects, a.timeout_s, a.retry, a.max_output_bytes) == (False, None, Retry(), 99)
    assert b.judgement == Judgement("Why ${{ steps.a.json }}?", {"type": "string"})
    assert (b.tool_id, b.for_each is not None) == ("llm:default", True)
    assert c.timeout_s == 3
    assert plan_from_json(plan_to_json(plan)) == plan
    held = {one.permission: one.enforced for one in plan.permissions}
    assert held == {"model:invoke:big-1": False, "model:invoke:default": False}


def test_fields_and_namespaces_that_are_not_enforced_are_refused_by_name() -> None:
    unsupported = [field.name for field in STEP_FIELDS.values() if not field.supported]
    lines = "".join(f"    {name}: x\n" for name in unsupported)
    text = f"roles: x\nsteps:\n  - id: a\n    command: cli true\n{lines}"
    compiled = load_workflow(text.encode(), format="yaml", file="w.yaml")
    assert codes(compiled) == ["field.not_supported"] * (1 + len(unsupported))
    assert compiled.diagnostics[0].line == 1
    web = load_workflow(
        b"steps:\n  - {id: a, command: web navigate https://example.com}\n",
        format="yaml",
        file="w.yaml",
    )
    assert codes(web) == ["tool.not_supported"]


def test_models_and_vocabulary_name_the_same_fields() -> None:
    models = {
        "workflow": {info.alias or name for name, info in Workflow.model_fields.items()},
        "step": {info.alias or name for name, info in Step.model_fields.items()},
    }
    later = {
        name
        for name, field in WORKFLOW_FIELDS.items()
        if not field.supported and name not in models["workflow"]
    }
    known = {name for name, field in WORKFLOW_FIELDS.items() if not field.canonical} - later
    assert models["workflow"] == known
    assert models["step"] == {name for name, field in STEP_FIELDS.items() if not field.canonical}


def test_a_faulty_file_gives_all_findings_and_no_plan(load: Load) -> None:
    compiled = load("nme: x\nsteps:\n  - {id: a, command: gh}\n  - {id: b, stdin: $q.x}\n")
    assert compiled.plan is None
    assert not compiled.is_valid
    assert codes(compiled) == [
        "field.unknown",
        "command.namespace",
        "step.no_action",
        "field.not_applicable",
        "reference.unknown",
    ]
    with pytest.raises(WorkflowError) as caught:
        compiled.raise_if_invalid()
    assert caught.value.code == "workflow.invalid"
    assert caught.value.where == {"file": "test.yaml", "line": 1, "column": 1}
    assert len(caught.value.details["diagnostics"]) == 5  # type: ignore[index]  # it is there


def test_the_name_of_the_file_is_the_id_when_it_can_be() -> None:
    steps = b"steps: [{id: a, command: flow noop}]\n"
    for file, expected in (("a/code-review.yaml", "code-review"), ("x.v2.yml", "x.v2")):
        assert load_workflow(steps, format="yaml", file=file).workflow_id == expected
    bad = load_workflow(steps, format="yaml", file="a/My Flow.yaml")
    assert codes(bad) == ["workflow.id"]
    named = load_workflow(b"id: ok\n" + steps, format="yaml", file="a/My Flow.yaml")
    assert named.workflow_id == "ok"
    assert named.is_valid
    other = load_workflow(b"id: ok\n" + steps, format="yaml", file="a.yaml", given_id="given")
    assert codes(other) == ["workflow.id"]


def test_places_are_found_through_quotes_blocks_and_several_lines(load: Load) -> None:
    text = (
        "inputs: {name: {}}\n"
        "steps:\n"
        "  - id: a\n"
        "    command: cli cat\n"
        "    stdin: |\n"
        "      Dear ${{ inputs.name }},\n"
        "      and ${{ inputs.nme }}\n"
        "  - id: b\n"
        '    command: "cli echo \\"${{ inputs.nmae }}\\""\n'
        "  - id: c\n"
        "    command: >-\n"
        "      cli echo one\n"
        "      ${{ inputs.nam }}\n"
    )
    compiled = load(text)
    lines = text.split("\n")
    marked = [
        lines[one.line - 1][one.column - 1 : one.end_column - 1]  # type: ignore[operator]  # set
        for one in compiled.diagnostics
    ]
    assert marked == ["inputs.nme", "inputs.nmae", "inputs.nam"]


def test_a_file_that_is_no_workflow_never_raises() -> None:
    for data in (b"", b"\xff\xfe", b"\x00", b"[" * 5000, b"a: &x [*x]", b"- 1", b"{" * 200, b"?"):
        for format_ in ("yaml", "json"):
            compiled = load_workflow(data, format=format_, file="w.yaml")
            assert compiled.plan is None
            assert compiled.diagnostics
            assert "internal" not in codes(compiled)


ROOT = Path(__file__).parents[3]
REAL = [
    PLAYBOOK,
    *(
        path.read_text()
        for path in sorted((ROOT / ".fleetprompt" / "workflows").glob("*.yaml"))
        if path.is_file()
    ),
]
SIGNS = r"null [] {} true -1 é ! & * # | > % @ ` ' [ ] { } , : ? \ 0x1 1e9 $a.b ${{ }} !x &a *a"
PIECES = [
    *SIGNS.split(),
    *("steps:", "- id: a", "\n", "  ", "\t", ": ", '"', "needs: [a]", "  command: cli x", "if: "),
    *(
        "for_each: ",
        "flow set a:=",
        "approval: {",
        "retry: {max_attempts: 9}",
        "workflow: x",
        "tool: http:GET",
    ),
]


@settings(max_examples=150)
@given(data=st.data())
def test_mutated_workflows_give_findings_and_never_an_exception(
    every_field: frozenset[str], data: st.DataObject
) -> None:
    text = data.draw(st.sampled_from(REAL))
    for _ in range(data.draw(st.integers(1, 6))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.sampled_from([0, 0, 1, 2, 5, 30])))
        piece = data.draw(st.sampled_from(PIECES) | st.text(max_size=3))
        text = text[:start] + piece + text[end:]
    raw = text.encode("utf-8", "surrogatepass")
    compiled = load_workflow(raw, format="yaml", file="w.yaml", also_supported=every_field)
    assert "internal" not in codes(compiled)
    assert (compiled.plan is None) == any(d.severity == "error" for d in compiled.diagnostics)
    if compiled.plan is not None:
        assert plan_from_json(plan_to_json(compiled.plan)) == compiled.plan
