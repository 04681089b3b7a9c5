"""The client as a library, with the real agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import fleetprompt
from fleetprompt import FleetPromptError

if TYPE_CHECKING:
    from pathlib import Path

    from fleetprompt.results import StepStatus


def test_a_program_can_do_everything_with_one_client(
    repository: Path, environ: dict[str, str]
) -> None:
    async def use() -> None:
        seen: list[StepStatus] = []
        async with fleetprompt.Client(repository, environ=environ) as client:
            listed = {entry.workflow_id: entry for entry in await client.list()}
            assert listed["hello"].description == "Says hello"

            described = await client.describe("hello")
            assert described.inputs is not None
            assert set(described.inputs["properties"]) == {"who", "times"}

            assert (await client.validate("hello")).valid
            broken = await client.validate("invalid")
            assert (broken.valid, broken.diagnostics[0].line) == (False, 3)

            waiting = await client.run("release", on_status=seen.append)
            assert waiting.status == "waiting"
            (gate,) = waiting.gates
            assert gate.token is not None
            assert gate.token not in repr(waiting)

            approval = await client.decide(gate.token, {"approve": True}, on_status=seen.append)
            assert [gate.kind for gate in approval.gates] == ["approval"]
            with pytest.raises(FleetPromptError) as caught:
                await client.decide(f"{gate.token[:-2]}xx", {"approve": True})
            assert caught.value.code == "gate.token_invalid"

            fresh = await client.get(waiting.run_id, reissue=True)
            token = fresh.gates[0].token
            assert token is not None
            done = await client.decide(token, {"approve": True}, reason="fine")
            assert (done.status, done.outputs) == ("succeeded", {"said": "published v1"})
            assert (await client.get(waiting.run_id[:-1])).status == "succeeded"

            other = await client.run("release", idempotency_key="again")
            same = await client.run("release", idempotency_key="again")
            assert same.run_id == other.run_id
            assert (await client.cancel(other.run_id, reason="enough")).accepted
            assert not (await client.cancel(other.run_id)).accepted
            assert (await client.resume(other.run_id)).status == "canceled"

            runs = await client.runs(limit=1)
            assert [run.run_id for run in runs] == [other.run_id]
            assert [run.status for run in await client.runs()] == ["canceled", "succeeded"]
            events = await client.timeline(run_id=waiting.run_id)
            assert (events[0].type, events[-1].type) == ("run.created", "run.succeeded")
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
        states = [(status.step_path, status.state) for status in seen]
        assert ("collect", "started") in states
        assert ("collect", "completed") in states
        assert client.agent_exit_code == 0

    asyncio.run(use())
    assert (repository / "published").read_text() == "v1\n"


def test_a_run_can_be_canceled_while_it_is_awaited(
    repository: Path, environ: dict[str, str], barrier: Any
) -> None:
    async def use() -> None:
        options: dict[str, Any] = {"allow_side_effects": True, "environ": environ}
        async with fleetprompt.Client(repository, **options) as client:
            running = asyncio.create_task(client.run("blocked"))
            await asyncio.to_thread(barrier.wait)
            assert await client.cancel_calls("enough") == 1
            assert (await running).status == "canceled"

    asyncio.run(use())


def test_a_client_that_is_not_open_says_so(repository: Path) -> None:
    with pytest.raises(RuntimeError, match="async with"):
        asyncio.run(fleetprompt.Client(repository).list())


def test_only_what_is_exported_is_public() -> None:
    assert sorted(fleetprompt.__all__) == ["Client", "FleetPromptError", "__version__"]
    with pytest.raises(AttributeError):
        _ = fleetprompt.nothing  # type: ignore[attr-defined]  # that is what is tested
