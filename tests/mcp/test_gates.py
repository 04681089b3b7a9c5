"""Runs that wait for a person who sits in front of an MCP client, or does not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.mcp_project import (
    HANDSHAKE,
    STATELESS,
    error_of,
    run_of,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fleetprompt_testing.mcp_project import McpProject

    from mcp import types

pytestmark = pytest.mark.anyio

RELEASE = """\
steps:
  - {id: collect, tool: flow:set, with: {text: "three commits"}}
  - id: publish
    command: cli sh -c 'echo x >> {done}'
    approval: {prompt: "Ship it?", preview: $collect.json.text}
"""


def write_release(project: McpProject) -> None:
    project.write("release.yaml", RELEASE.replace("{done}", str(project.root / "done")))


def effects(project: McpProject) -> int:
    """How often the step has acted."""
    done = project.root / "done"
    return len(done.read_text().splitlines()) if done.exists() else 0


class Person:
    """Answers forms: `answers` in order, then nothing but the last one."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[types.ElicitRequestParams] = []

    async def __call__(
        self,
        _: object,
        params: types.ElicitRequestParams,
    ) -> types.ElicitResult:
        from mcp.types import ElicitResult

        self.asked.append(params)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            return ElicitResult(action=answer)  # type: ignore[arg-type]  # decline or cancel
        return ElicitResult(action="accept", content=answer)


async def channels(call: Callable[..., Awaitable[Any]], run_id: str) -> list[dict[str, Any]]:
    """What the journal says of the run's decisions, as the timeline shows them."""
    timeline = (await call("fp_get_timeline", {"run_id": run_id})).structured_content
    return [
        {"outcome": event["data"]["outcome"], "actor": event["actor"]}
        for event in timeline["events"]
        if event["type"] == "gate.resolved"
    ]


async def test_a_person_who_approves_in_the_client_lets_the_run_go_on(
    project: McpProject, era: str
) -> None:
    write_release(project)
    person = Person({"decision": "approve", "reason": "looks good"})
    async with project.connect(era, "--tools", "all", elicitation_callback=person) as client:
        run = run_of(await client.call_tool("fp_run_workflow", {"workflow": "release"}))
        decided = await channels(client.call_tool, run["run_id"])
    assert run["status"] == "succeeded"
    assert effects(project) == 1
    (form,) = person.asked
    assert form.message.index("What will happen") < form.message.index("Ship it?")
    assert form.message.index("Ship it?") < form.message.index("not to be trusted")
    assert str(project.root / "done") in form.message
    schema: Any = form.model_dump()["requested_schema"]
    assert schema["required"] == ["decision"]
    assert schema["properties"]["decision"]["enum"] == ["approve", "deny"]
    assert "default" not in json.dumps(schema)
    assert decided == [{"outcome": "approve", "actor": {"type": "human", "id": "mcp"}}]


async def test_a_denial_in_the_client_cancels_the_run_without_the_effect(
    project: McpProject, era: str
) -> None:
    write_release(project)
    person = Person({"decision": "deny", "reason": "not now"})
    async with project.connect(era, elicitation_callback=person) as client:
        run = run_of(await client.call_tool("fp_run_workflow", {"workflow": "release"}))
    assert (run["status"], effects(project)) == ("canceled", 0)
    assert "not now" in run["error"]["message"]


async def test_a_form_that_comes_back_without_a_decision_decides_nothing(
    project: McpProject, era: str
) -> None:
    write_release(project)
    person = Person({})
    answers = ["decline", "cancel", {}, {"decision": ""}, {"decision": "yes"}, {"reason": "ok"}]
    async with project.connect(era, elicitation_callback=person) as client:
        run = run_of(await client.call_tool("fp_run_workflow", {"workflow": "release"}))
        for answer in answers:
            person.answers = [answer]
            result = await client.call_tool("fp_resume_run", {"run_id": run["run_id"]})
            run = run_of(result)
            assert not result.is_error
            assert run["status"] == "waiting", answer
        assert f"fleetprompt approve {run['run_id']}" in run["next"]
        assert effects(project) == 0
        person.answers = [{"decision": "approve"}]
        ended = run_of(await client.call_tool("fp_resume_run", {"run_id": run["run_id"]}))
    assert (ended["status"], effects(project)) == ("succeeded", 1)
    assert len(person.asked) == len(answers) + 2


async def test_without_forms_the_result_says_how_a_person_decides(
    project: McpProject, era: str
) -> None:
    write_release(project)
    async with project.connect(era) as client:
        run = run_of(await client.call_tool("fp_run_workflow", {"workflow": "release"}))
        again = run_of(await client.call_tool("fp_resume_run", {"run_id": run["run_id"]}))
        answered = await client.call_tool(
            "fp_resume_run", {"run_id": run["run_id"], "answer": "approve"}
        )
    for shown in (run, again):
        assert shown["status"] == "waiting"
        assert f"fleetprompt approve {run['run_id']} --root {project.root}" in shown["next"]
    assert error_of(answered)["code"] == "gate.not_found"
    assert effects(project) == 0


async def test_a_form_unanswered_in_time_leaves_a_waiting_run(project: McpProject) -> None:
    import anyio

    write_release(project)
    asked, left = anyio.Event(), anyio.Event()

    async def silent(_: object, __: types.ElicitRequestParams) -> types.ElicitResult:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            left.set()
        raise AssertionError

    async with project.connect(HANDSHAKE, elicitation_callback=silent) as client:
        for wait_ms in (1_000, 10_000, 30_000):  # a busy machine may not come to ask in time
            call = {"workflow": "release", "wait_ms": wait_ms, "idempotency_key": "one"}
            result = await client.call_tool("fp_run_workflow", call)
            run = run_of(result)
            assert (run["status"], result.is_error) == ("waiting", False)
            if asked.is_set():
                break
        with anyio.fail_after(30):
            await left.wait()  # the client was told that nobody waits for the form any more
        shown = run_of(await client.call_tool("fp_get_run", {"run_id": run["run_id"]}))
    assert shown["status"] == "waiting"


async def test_effects_and_approvals_are_asked_one_after_the_other(
    project: McpProject, era: str
) -> None:
    done = project.root / "done"
    project.write(
        "two.yaml",
        f"steps:\n  - {{id: first, command: cli sh -c 'echo x >> {done}'}}\n"
        f"  - {{id: second, command: cli sh -c 'echo x >> {done}', approval: required}}\n"
        f"  - {{id: third, command: cli sh -c 'echo x >> {done}', approval: required}}\n",
    )
    person = Person({"decision": "approve"})
    async with project.connect(era, elicitation_callback=person) as client:
        run = run_of(await client.call_tool("fp_run_workflow", {"workflow": "two"}))
    assert (run["status"], effects(project)) == ("succeeded", 3)
    assert ["change things" in form.message for form in person.asked] == [True, False, False]


async def test_the_state_of_a_question_fits_no_other_call(project: McpProject) -> None:
    from mcp.types import ElicitResult, InputRequiredResult

    write_release(project)
    call = {"workflow": "release"}

    async def never(_: object, __: types.ElicitRequestParams) -> types.ElicitResult:
        raise AssertionError

    async with project.connect(STATELESS, elicitation_callback=never) as client:
        ask = client.session.call_tool

        async def question() -> InputRequiredResult:
            result = await ask("fp_run_workflow", call, allow_input_required=True)
            assert isinstance(result, InputRequiredResult)
            return result

        first, second = await question(), await question()
        assert first.request_state is not None
        assert second.request_state is not None
        (gate,) = first.input_requests or {}
        assert gate.rpartition(".")[0] not in first.request_state
        yes: Any = {gate: ElicitResult(action="accept", content={"decision": "approve"})}
        wrong: list[tuple[str, dict[str, Any], str]] = [
            ("fp_run_workflow", {"workflow": "release", "inputs": {}}, first.request_state),
            ("fp_resume_run", {"run_id": gate.rpartition(".")[0]}, first.request_state),
            ("fp_run_workflow", call, first.request_state[:-2]),
            ("fp_run_workflow", call, "x" + first.request_state),
            ("fp_run_workflow", call, gate.rpartition(".")[0]),
            ("fp_run_workflow", call, ""),
        ]
        for name, arguments, state in wrong:
            refused = await ask(name, arguments, input_responses=yes, request_state=state)
            assert error_of(refused)["code"] == "gate.bad_response", (name, state)
        # The answer names the gate of another question: it decides nothing.
        other = await ask(
            "fp_run_workflow", call, input_responses=yes, request_state=second.request_state
        )
        assert run_of(other)["status"] == "waiting"
        assert effects(project) == 0
        right = await ask(
            "fp_run_workflow", call, input_responses=yes, request_state=first.request_state
        )
        assert run_of(right)["status"] == "succeeded"
        again = await ask(
            "fp_run_workflow", call, input_responses=yes, request_state=first.request_state
        )
        assert run_of(again)["run_id"] == run_of(right)["run_id"]
        assert effects(project) == 1
    async with project.connect(STATELESS, elicitation_callback=never) as other_client:
        later = await other_client.session.call_tool(
            "fp_run_workflow", call, input_responses=yes, request_state=second.request_state
        )
        assert error_of(later)["code"] == "gate.bad_response"


FORBIDDEN = {"token", "approve", "decision", "intent"}


def names_in(value: Any) -> set[str]:
    """The name of every field anywhere in a JSON value."""
    if isinstance(value, dict):
        found = set(value)
        return found.union(*(names_in(item) for item in value.values()))
    return set().union(*(names_in(item) for item in value)) if isinstance(value, list) else set()


async def test_no_field_that_a_model_sees_is_about_authority(project: McpProject, era: str) -> None:
    write_release(project)
    seen: list[Any] = []
    person = Person("decline")

    def see(result: Any) -> Any:
        seen.append(result.model_dump(by_alias=True, mode="json"))
        seen.extend(json.loads(block.text) for block in getattr(result, "content", None) or ())
        return result

    judge = "steps: [{id: a, tool: llm, with: {prompt: Spam?}}]\n"
    project.write("judge.yaml", judge)
    flags = ("--tools", "all", "--workflow-tools")
    async with project.connect(era, *flags, elicitation_callback=person) as client:
        tools = see(await client.list_tools()).tools
        waiting = run_of(see(await client.call_tool("fp_run_workflow", {"workflow": "release"})))
        run_id = waiting["run_id"]
        person.answers = [{"decision": "approve"}]
        see(await client.call_tool("wf_release", {}))
        judged = run_of(see(await client.call_tool("fp_run_workflow", {"workflow": "judge"})))
        asked = judged["run_id"]
        see(await client.read_resource(f"run://{asked}"))
        see(await client.call_tool("fp_get_run", {"run_id": asked}))
        see(await client.call_tool("fp_resume_run", {"run_id": asked, "answer": 1}))
        see(await client.call_tool("fp_resume_run", {"run_id": asked, "answer": {"a": 1}}))
        see(await client.call_tool("fp_plan_workflow", {"workflow": "judge", "against": asked}))
        see(await client.call_tool("fp_get_timeline", {"run_id": asked}))
        for name, arguments in (
            ("fp_get_run", {"run_id": run_id}),
            ("fp_resume_run", {"run_id": run_id}),
            ("fp_list_runs", {}),
            ("fp_get_timeline", {"run_id": run_id}),
            ("fp_get_timeline", {"run_id": ""}),
            ("fp_list_workflows", {}),
            ("fp_describe_workflow", {"workflow": "release"}),
            ("fp_validate_workflow", {"workflow": "release"}),
            ("fp_plan_workflow", {"workflow": "release"}),
            ("fp_plan_workflow", {"workflow": "release", "against": ""}),
            ("fp_validate_project_resources", {}),
            ("fp_replay_run", {"run_id": run_id}),
            ("fp_get_output", {"run_id": run_id, "step": "publish"}),
            ("fp_cancel_execution", {"run_id": run_id}),
        ):
            if name in {tool.name for tool in tools}:
                see(await client.call_tool(name, arguments))
        see(await client.list_prompts())
        see(await client.get_prompt("release"))
        for resource in see(await client.list_resources()).resources:
            content: Any = await client.read_resource(resource.uri)
            seen.extend(json.loads(item.text) for item in content.contents)
    assert effects(project) == 2
    assert len(seen) > 20
    for value in seen:
        assert names_in(value) & FORBIDDEN == set(), value
        assert "fpg_" not in json.dumps(value)


@pytest.mark.parametrize("flags", [(), ("--no-elicitation",)])
async def test_forms_can_be_refused_on_the_command_line(
    project: McpProject, era: str, flags: tuple[str, ...]
) -> None:
    write_release(project)
    person = Person({"decision": "approve"})
    async with project.connect(era, *flags, elicitation_callback=person) as client:
        run = run_of(await client.call_tool("fp_run_workflow", {"workflow": "release"}))
        run = run_of(await client.call_tool("fp_resume_run", {"run_id": run["run_id"]}))
    if flags:
        assert (run["status"], person.asked, effects(project)) == ("waiting", [], 0)
        assert f"fleetprompt approve {run['run_id']}" in run["next"]
        assert "show forms" not in run["next"]
    else:
        assert (run["status"], len(person.asked), effects(project)) == ("succeeded", 1, 1)
