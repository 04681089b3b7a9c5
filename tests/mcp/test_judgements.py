"""`llm` steps in an MCP host: its model answers by sampling, or by calling `fp_resume_run`."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from fleetprompt_testing.judging import SORT
from fleetprompt_testing.mcp_project import HANDSHAKE, STATELESS, error_of, run_of

if TYPE_CHECKING:
    from fleetprompt_testing.mcp_project import McpProject

    from mcp import types

pytestmark = pytest.mark.anyio

EACH = """\
steps:
  - id: each
    command: llm prompt="Length of ${{ item }}?" schema:={"type":"integer"}
    for_each: '["a", "bb", "ccc", "dddd", "eeeee"]'
    max_parallel: 2
"""

MIXED = """\
type: graph
steps:
  - {id: sort, tool: llm, with: {prompt: Spam?, schema: {type: string}}}
  - {id: act, command: cli sh -c 'echo x >> done', approval: required}
"""

HAM = '{"label": "ham"}'


class Model:
    """Answers with the texts in order, then with the last one; a callable makes its own."""

    def __init__(self, *texts: Any) -> None:
        self.texts = list(texts)
        self.asked: list[types.CreateMessageRequestParams] = []

    async def __call__(
        self, _: object, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        from mcp.types import CreateMessageResult, ErrorData, TextContent

        self.asked.append(params)
        text = self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]
        if callable(text):
            text = text(self.said(-1)[0])
        if text is None:
            return ErrorData(code=-1, message="the user declined")
        content = TextContent(type="text", text=text)
        return CreateMessageResult(role="assistant", content=content, model="some-model")

    def said(self, number: int) -> list[str]:
        """The texts of the messages of one request."""
        return [message.content.text for message in self.asked[number].messages]  # type: ignore[union-attr]


def write(project: McpProject, text: str) -> dict[str, str]:
    project.write("w.yaml", text)
    return {"workflow": "w"}


async def decided(client: Any, run_id: str) -> list[dict[str, Any]]:
    """Actor and data of each decision on the timeline."""
    timeline = (await client.call_tool("fp_get_timeline", {"run_id": run_id})).structured_content
    events = [event for event in timeline["events"] if event["type"] == "gate.resolved"]
    return [{"actor": event["actor"], **event["data"]} for event in events]


async def test_the_clients_model_answers_by_sampling(project: McpProject, era: str) -> None:
    call = write(project, SORT)
    model = Model(HAM)
    async with project.connect(era, "--tools", "all", sampling_callback=model) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
        (decision,) = await decided(client, run["run_id"])
    author = {"type": "agent", "id": "model:mcp"}
    assert run["status"] == "succeeded"
    assert run["output"] == {"label": "ham", "usage": {"model": "some-model"}, "by": author}
    assert (decision["actor"], decision["response"]) == (author, {"label": "ham"})
    (asked,) = model.asked
    assert asked.system_prompt == "Be terse."
    assert asked.model_preferences is not None
    assert [hint.name for hint in asked.model_preferences.hints or ()] == ["big-1"]
    (text,) = model.said(0)
    assert text.startswith("Spam? buy now\n")
    assert '"enum": ["spam", "ham"]' in text


@pytest.mark.parametrize("text", [f"```json\n{HAM}\n```", f"\n  {HAM}\n"])
async def test_json_in_a_fence_is_taken(project: McpProject, era: str, text: str) -> None:
    call = write(project, SORT)
    async with project.connect(era, sampling_callback=Model(text)) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
    assert run["output"]["label"] == "ham"


async def test_a_bad_answer_is_asked_for_again_with_what_was_wrong(
    project: McpProject, era: str
) -> None:
    call = write(project, SORT)
    model = Model("I think it is ham.", '{"label": "maybe"}', HAM)
    async with project.connect(era, sampling_callback=model) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
    assert run["output"]["label"] == "ham"
    first, second, third = (model.said(number) for number in range(3))
    assert second[:2] == [*first, "I think it is ham."]
    assert "not one JSON value" in second[2]
    assert third[:2] == [*first, '{"label": "maybe"}']
    assert 'label: "maybe" is not one of "spam" or "ham"' in third[2]


async def test_after_three_bad_answers_the_gate_stays_open(project: McpProject, era: str) -> None:
    call = write(project, SORT)
    model = Model("no", "", '{"label": 1}', HAM)
    async with project.connect(era, sampling_callback=model) as client:
        result = await client.call_tool("fp_run_workflow", call)
        run = run_of(result)
        assert (run["status"], result.is_error, len(model.asked)) == ("waiting", False, 3)
        assert "`answer`" in run["next"]
        again = run_of(await client.call_tool("fp_resume_run", {"run_id": run["run_id"]}))
        assert (again["status"], len(model.asked)) == ("succeeded", 4)


async def test_a_client_that_declines_leaves_a_waiting_run(project: McpProject) -> None:
    """In 2026-07-28 a client that declines ends its own call; the run waits on all the same."""
    from mcp import MCPError

    call = {**write(project, EACH), "idempotency_key": "one"}
    model = Model(None)
    async with project.connect(HANDSHAKE, sampling_callback=model) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
    assert (run["status"], len(run["gates"]), len(model.asked)) == ("waiting", 2, 1)
    async with project.connect(STATELESS, sampling_callback=model) as client:
        with pytest.raises(MCPError):
            await client.call_tool("fp_run_workflow", call)
        run = run_of(await client.call_tool("fp_get_run", {"run_id": run["run_id"]}))
    assert (run["status"], len(run["gates"])) == ("waiting", 2)


async def test_a_model_that_does_not_answer_in_time_leaves_a_waiting_run(
    project: McpProject,
) -> None:
    import anyio

    call = {**write(project, SORT), "idempotency_key": "one"}
    asked, left = anyio.Event(), anyio.Event()

    async def silent(_: object, __: types.CreateMessageRequestParams) -> types.CreateMessageResult:
        asked.set()
        try:
            await anyio.sleep_forever()
        finally:
            left.set()
        raise AssertionError

    async with project.connect(HANDSHAKE, sampling_callback=silent) as client:
        for wait_ms in (1_000, 10_000, 30_000):  # a busy machine may not come to ask in time
            result = await client.call_tool("fp_run_workflow", {**call, "wait_ms": wait_ms})
            run = run_of(result)
            assert (run["status"], result.is_error) == ("waiting", False)
            if asked.is_set():
                break
        with anyio.fail_after(30):
            await left.wait()
        answer = {"run_id": run["run_id"], "answer": {"label": "spam"}}
        ended = run_of(await client.call_tool("fp_resume_run", answer))
    assert ended["output"]["label"] == "spam"


async def test_a_person_who_was_faster_than_the_model_is_believed(
    project: McpProject, era: str
) -> None:
    call = write(project, SORT)

    def overtaken(_: str) -> str:
        host = project.agent()
        (gate,) = host.call("fp_get_run", {"run_id": "", "reissue": True})["gates"]
        host.call("fp_resume_run", {"token": gate["token"], "response": {"label": "spam"}})
        return HAM

    async with project.connect(era, sampling_callback=Model(overtaken)) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
    assert (run["status"], run["output"]["label"]) == ("succeeded", "spam")


async def test_a_question_is_shown_while_other_steps_still_run(project: McpProject) -> None:
    import anyio

    call = beside(project, SORT)
    async with project.connect(HANDSHAKE, "--allow-side-effects") as client:
        run = run_of(await client.call_tool("fp_run_workflow", {**call, "wait_ms": 0}))
        while not run["gates"]:
            run = run_of(await client.call_tool("fp_get_run", {"run_id": run["run_id"]}))
        assert run["status"] == "running"
        assert ("`answer`" in run["next"], "fp_get_run" in run["next"]) == (True, True)
        given = {"run_id": run["run_id"], "answer": {"label": "ham"}}
        ended: dict[str, Any] = {}

        async def answer() -> None:
            ended.update(run_of(await client.call_tool("fp_resume_run", given)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer)
            while run["gates"]:
                run = run_of(await client.call_tool("fp_get_run", {"run_id": run["run_id"]}))
            assert run["status"] == "running"
            (project.root / "go").write_bytes(b"")
    assert (ended["status"], ended["output"]["label"]) == ("succeeded", "ham")


def beside(project: McpProject, text: str) -> dict[str, str]:
    """The workflow with a step beside the first one that reads from a pipe until told to stop."""
    go = project.root / "go"
    os.mkfifo(go)
    step = f"steps:\n  - {{id: slow, command: cli cat {go}}}\n"
    text = text.replace("steps:\n", step, 1)
    return write(project, text.replace("  - id: sort\n", "  - id: sort\n    needs: []\n"))


async def test_the_model_is_asked_while_other_steps_still_run(
    project: McpProject, era: str
) -> None:
    """The step beside it ends only because the model was asked."""
    import anyio

    call = beside(project, SORT)
    told: list[str] = []

    def go_on(_: str) -> str:
        (project.root / "go").write_bytes(b"")
        return HAM

    async def heard(progress: float, total: float | None, message: str | None) -> None:
        del progress, total
        told.append(str(message))

    options = {"sampling_callback": Model(go_on)}
    async with project.connect(era, "--allow-side-effects", **options) as client:
        with anyio.fail_after(60):
            run = run_of(
                await client.call_tool(
                    "fp_run_workflow", {**call, "wait_ms": 50_000}, progress_callback=heard
                )
            )
    assert (run["status"], run["output"]["label"]) == ("succeeded", "ham")
    if era == HANDSHAKE:
        assert any("slow: completed" in message for message in told)


async def test_a_client_that_declines_is_not_asked_again_in_the_same_call(
    project: McpProject,
) -> None:
    later = "  - {id: later, tool: llm, needs: [slow], with: {prompt: Really?}}\n"
    call = beside(project, SORT + later)

    def decline(_: str) -> None:
        (project.root / "go").write_bytes(b"")

    model = Model(decline)
    async with project.connect(
        HANDSHAKE, "--allow-side-effects", sampling_callback=model
    ) as client:
        run = run_of(await client.call_tool("fp_run_workflow", {**call, "wait_ms": 50_000}))
    assert (run["status"], len(run["gates"]), len(model.asked)) == ("waiting", 2, 1)


async def test_each_item_of_a_list_is_asked_about(project: McpProject, era: str) -> None:
    call = write(project, EACH)
    model = Model(lambda text: str(len(text.split("?")[0].removeprefix("Length of "))))
    async with project.connect(era, sampling_callback=model) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
    assert (run["status"], run["output"], len(model.asked)) == ("succeeded", [1, 2, 3, 4, 5], 5)


async def test_a_call_asks_no_more_often_than_clients_go_along_with(project: McpProject) -> None:
    """Clients of 2026-07-28 give up after ten questions to one call."""
    call = write(project, EACH.replace("max_parallel: 2", "max_parallel: 1").replace(
        '["a", "bb", "ccc", "dddd", "eeeee"]', '["a","b","c","d","e","f","g","h","i","j","k","l"]'
    ))  # fmt: skip
    model = Model("1")
    async with project.connect(STATELESS, sampling_callback=model) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
        assert (run["status"], len(model.asked)) == ("waiting", 10)
        ended = run_of(await client.call_tool("fp_resume_run", {"run_id": run["run_id"]}))
    assert (ended["status"], ended["output"], len(model.asked)) == ("succeeded", [1] * 12, 12)


async def test_a_model_and_a_person_are_each_asked_what_is_theirs(
    project: McpProject, era: str
) -> None:
    from mcp.types import ElicitResult

    call = write(project, MIXED)
    model, forms = Model('"ham"'), []

    async def person(_: object, params: types.ElicitRequestParams) -> types.ElicitResult:
        forms.append(params.message)
        return ElicitResult(action="accept", content={"decision": "approve"})

    options = {"sampling_callback": model, "elicitation_callback": person}
    async with project.connect(era, "--tools", "all", **options) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
        who = {one["gate_id"][-2:]: one["actor"] for one in await decided(client, run["run_id"])}
    assert (run["status"], len(model.asked), len(forms)) == ("succeeded", 1, 1)
    assert who == {
        "g1": {"type": "agent", "id": "model:mcp"}, "g2": {"type": "human", "id": "mcp"},
    }  # fmt: skip
    assert (project.root / "done").read_text() == "x\n"


async def test_a_sampled_answer_never_decides_what_is_a_persons(project: McpProject) -> None:
    """A client of 2026-07-28 that puts its model's text where a form was asked for."""
    from mcp.types import CreateMessageResult, ElicitResult, InputRequiredResult, TextContent

    call = write(project, MIXED)
    yes = TextContent(type="text", text='{"decision": "approve"}')
    sampled = CreateMessageResult(role="assistant", content=yes, model="m")
    form = ElicitResult(action="accept", content={"decision": "approve"})

    async def never(_: object, __: Any) -> Any:
        raise AssertionError

    options = {"sampling_callback": never, "elicitation_callback": never}
    async with project.connect(STATELESS, **options) as client:
        ask = client.session.call_tool
        question = await ask("fp_run_workflow", call, allow_input_required=True)
        assert isinstance(question, InputRequiredResult)
        judgement, approval = sorted(question.input_requests or {})
        responses: Any = {judgement: form, approval: sampled}
        await ask(
            "fp_run_workflow", call, input_responses=responses,
            request_state=question.request_state, allow_input_required=True,
        )  # fmt: skip
        run_id = approval.rpartition(".")[0]
        shown = run_of(await client.call_tool("fp_get_run", {"run_id": run_id}))
    assert {gate["gate_id"] for gate in shown["gates"]} == {judgement, approval}
    assert not (project.root / "done").exists()


async def test_without_sampling_the_result_shows_the_question_and_takes_the_answer(
    project: McpProject, era: str
) -> None:
    call = write(project, SORT)
    async with project.connect(era, "--tools", "all") as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
        (gate,) = run["gates"]
        assert (run["status"], gate["kind"], gate["prompt"]) == (
            "waiting", "judgement", "Spam? buy now",
        )  # fmt: skip
        assert gate["action"] == {"tool": "llm:big-1", "model": "big-1", "system": "Be terse."}
        assert (run["run_id"] in run["next"], "`answer`" in run["next"]) == (True, True)
        assert "fleetprompt approve" not in run["next"]
        given = {"run_id": run["run_id"], "answer": {"label": "ham"}}
        unfit: list[Any] = ["ham", {"label": "approve"}, {}, [], 0]
        for wrong in unfit:
            refused = await client.call_tool("fp_resume_run", {**given, "answer": wrong})
            assert error_of(refused)["code"] == "gate.bad_response", wrong
        ended = run_of(await client.call_tool("fp_resume_run", given))
        assert (ended["status"], ended["output"]["by"]["id"]) == ("succeeded", "model:mcp")
        again = run_of(await client.call_tool("fp_resume_run", given))
        assert "decided so before" in again["note"]
        other = {**given, "answer": {"label": "spam"}}
        refused = await client.call_tool("fp_resume_run", other)
        assert error_of(refused)["code"] == "run.conflict"
        (decision,) = await decided(client, run["run_id"])
    assert decision["actor"] == {"type": "agent", "id": "model:mcp"}


async def test_of_several_questions_the_answer_names_its_own(project: McpProject, era: str) -> None:
    call = write(project, EACH)
    async with project.connect(era) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
        given = {"run_id": run["run_id"], "answer": 2}
        unclear = error_of(await client.call_tool("fp_resume_run", given))
        assert unclear["code"] == "gate.not_found"
        assert "each[0], each[1]" in unclear["message"]
        unknown = {**given, "step_path": "each[4]"}
        assert error_of(await client.call_tool("fp_resume_run", unknown))["code"] == (
            "gate.not_found"
        )
        no_answer = {"run_id": run["run_id"], "step_path": "each[1]"}  # which is null
        assert error_of(await client.call_tool("fp_resume_run", no_answer))["code"] == (
            "gate.bad_response"
        )
        for number in (1, 0, 3, 2, 4):
            given = {"run_id": run["run_id"], "answer": number + 1, "step_path": f"each[{number}]"}
            run = run_of(await client.call_tool("fp_resume_run", given))
    assert (run["status"], run["output"]) == ("succeeded", [1, 2, 3, 4, 5])


async def test_the_result_tells_a_model_and_a_person_what_is_theirs(
    project: McpProject, era: str
) -> None:
    call = write(project, MIXED)
    async with project.connect(era) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
        assert [gate["kind"] for gate in run["gates"]] == ["judgement", "approval"]
        assert ("`answer`" in run["next"], "fleetprompt approve" in run["next"]) == (True, True)
        for answer in ("approve", {"decision": "approve"}):
            given = {"run_id": run["run_id"], "answer": answer, "step_path": "act"}
            refused = await client.call_tool("fp_resume_run", given)
            assert error_of(refused)["code"] == "gate.not_found"
        given = {"run_id": run["run_id"], "answer": "ham"}
        run = run_of(await client.call_tool("fp_resume_run", given))
        assert [gate["kind"] for gate in run["gates"]] == ["approval"]
        late = await client.call_tool("fp_resume_run", {**given, "answer": "approve"})
        assert error_of(late)["code"] == "run.conflict"
    assert not (project.root / "done").exists()


async def test_a_workflow_as_a_tool_asks_too(project: McpProject, era: str) -> None:
    write(project, SORT)
    async with project.connect(era, "--workflow-tools", sampling_callback=Model(HAM)) as client:
        run = run_of(await client.call_tool("wf_w", {"mail": "hello"}))
    assert run["output"]["label"] == "ham"


async def test_what_a_run_waits_for_is_a_resource_too(project: McpProject, era: str) -> None:
    call = write(project, SORT)
    async with project.connect(era) as client:
        run = run_of(await client.call_tool("fp_run_workflow", call))
        content: Any = await client.read_resource(f"run://{run['run_id']}")
    (gate,) = json.loads(content.contents[0].text)["gates"]
    assert (gate["kind"], "token" in gate) == ("judgement", False)
