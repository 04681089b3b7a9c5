"""One request, one answer: what the peer says to requests of every kind."""

from __future__ import annotations

import asyncio
import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from fleetprompt_protocol.errors import RequestError
from fleetprompt_protocol.rpc_error import invalid_params

if TYPE_CHECKING:
    from tests.protocol.conftest import Serve

    from fleetprompt_protocol.peer import CallContext


async def echo(_context: CallContext, params: dict[str, Any]) -> Any:
    return params


async def fail(_context: CallContext, params: dict[str, Any]) -> Any:
    raise RequestError(
        "inputs.invalid", "The input x is missing.", details={"given": params}, retryable=True
    )


async def crash(_context: CallContext, params: dict[str, Any]) -> Any:
    raise KeyError(f"hunter2 {params}")


async def give(_context: CallContext, params: dict[str, Any]) -> Any:
    """A result that JSON cannot hold."""
    circle: list[Any] = []
    circle.append(circle)
    return {
        "nan": math.nan,
        "object": object(),
        "set": {1},
        "circle": circle,
        "digits": 10**5000,
        "surrogate": "\ud800",
    }[params["what"]]


DEEP = b"[" * 99 + b"]" * 99
METHODS = {"echo": echo, "fail": fail, "crash": crash, "give": give}


@pytest.mark.parametrize("request_id", [0, 1, -5, "", "a", "0", "\ud800", 2**60, 1.0])
async def test_a_request_is_answered_with_its_id(serve: Serve, request_id: Any) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.request(request_id, "echo", text="héllo \U0001f600")
        answer = await wire.receive()
    assert answer == {"jsonrpc": "2.0", "id": request_id, "result": {"text": "héllo \U0001f600"}}
    assert type(answer["id"]) is type(request_id)


async def test_the_id_comes_before_the_result(serve: Serve) -> None:
    """So that a receiver that must discard a long answer knows which request it was for."""
    async with serve(METHODS) as (_, wire):
        await wire.request(1, "echo")
        assert list(await wire.receive()) == ["jsonrpc", "id", "result"]


@pytest.mark.parametrize(
    "params",
    [
        {"context": 1, "ctx": 2, "self": 3, "params": 4, "method": 5, "_meta": {}, "": 0},
        {"not an identifier": 1, "class": 2, "\ud800": 3},
        {},
    ],
)
async def test_no_parameter_name_is_special(serve: Serve, params: dict[str, Any]) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": params})
        assert (await wire.receive())["result"] == params


@pytest.mark.parametrize("absent", [{}, {"params": None}, {"params": []}, {"params": {}}])
async def test_no_parameters_are_an_empty_object(serve: Serve, absent: dict[str, Any]) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "echo", **absent})
        assert (await wire.receive())["result"] == {}


async def test_unknown_members_of_the_envelope_are_ignored(serve: Serve) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "echo", "trace": 5, "params": {}})
        assert (await wire.receive())["result"] == {}


async def test_an_unknown_method_is_named_and_nothing_of_the_library_shows(serve: Serve) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.request("x", "no.such", a=1)
        answer = await wire.receive()
    assert answer["id"] == "x"
    assert answer["error"]["code"] == -32601
    assert answer["error"]["data"]["code"] == "protocol.method_not_found"
    assert "no.such" in answer["error"]["message"]
    assert answer["error"]["message"] != "Method not found"


async def test_an_error_keeps_its_code_details_and_retryability(serve: Serve) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.request(1, "fail", y=2)
        error = (await wire.receive())["error"]
    assert error == {
        "code": -32000,
        "message": "The input x is missing.",
        "data": {
            "code": "inputs.invalid",
            "message": "The input x is missing.",
            "details": {"given": {"y": 2}},
            "retryable": True,
        },
    }


async def test_a_crash_shows_a_reference_and_nothing_else(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.request(1, "crash", secret="swordfish")
        error = (await wire.receive())["error"]
    assert error["code"] == -32603
    assert error["data"]["code"] == "protocol.internal"
    text = json.dumps(error)
    for leak in ("hunter2", "swordfish", "KeyError", "Traceback"):
        assert leak not in text
    ref = error["data"]["details"]["ref"]
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (line,) = [line for line in lines if line.get("ref") == ref]
    assert line["level"] == "error"
    assert "KeyError" in line["traceback"]


@pytest.mark.parametrize("what", ["nan", "object", "set", "circle", "digits"])
async def test_a_result_that_json_cannot_hold_is_answered_all_the_same(
    serve: Serve, what: str
) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.request(1, "give", what=what)
        answer = await wire.receive()
        assert answer["id"] == 1
        assert answer["error"]["data"]["code"] == "protocol.internal"
        await wire.request(2, "echo")
        assert (await wire.receive())["id"] == 2


async def test_a_lone_surrogate_survives(serve: Serve) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.request(1, "give", what="surrogate")
        assert (await wire.receive())["result"] == "\ud800"


@pytest.mark.parametrize("request_id", [True, False, None, [], {}, 1.5, [1], 10**30, "x" * 600])
async def test_what_is_no_id_is_refused_without_one(serve: Serve, request_id: Any) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send({"jsonrpc": "2.0", "id": request_id, "method": "echo"})
        answer = await wire.receive()
    assert answer["id"] is None
    assert answer["error"]["code"] == -32600
    assert answer["error"]["data"]["code"] == "protocol.invalid_request"


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 7},
        {"jsonrpc": "2.0", "id": 7, "method": 5},
        {"jsonrpc": "2.0", "id": 7, "method": None},
        {"jsonrpc": "1.0", "id": 7, "method": "echo"},
        {"id": 7, "method": "echo"},
        {"jsonrpc": 2.0, "id": 7, "method": "echo"},
        {"jsonrpc": "2.0", "id": 7, "method": "echo", "params": "x"},
        {"jsonrpc": "2.0", "id": 7, "method": "echo", "params": 5},
    ],
)
async def test_what_is_no_request_is_refused_with_its_id(serve: Serve, message: Any) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send(message)
        answer = await wire.receive()
    assert (answer["id"], answer["error"]["code"]) == (7, -32600)


@pytest.mark.parametrize("message", [5, "x", None, True, 1.5, {}])
async def test_what_is_no_object_is_refused_without_id(serve: Serve, message: Any) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send(message)
        answer = await wire.receive()
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)


async def test_parameters_by_position_are_refused(serve: Serve) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send({"jsonrpc": "2.0", "id": 1, "method": "echo", "params": [1, 2]})
        answer = await wire.receive()
    assert answer["error"]["code"] == -32602
    assert "takes" not in answer["error"]["message"]


@pytest.mark.parametrize(
    ("text", "code", "request_id"),
    [
        (b"not json", -32700, None),
        (b'{"jsonrpc":"2.0","id":1,"method":"echo","params":{"a":NaN}}', -32700, 1),
        (b'{"jsonrpc":"2.0","id":2,"method":"echo","params":{"a":1e999}}', -32700, 2),
        (b'{"jsonrpc":"2.0","id":3,"method":"echo","params":' + b"9" * 5000 + b"}", -32700, 3),
        (b'{"jsonrpc":"2.0","id":4,"method":"echo","params":"\xff"}', -32700, 4),
        (b'{"jsonrpc":"2.0","id":5,"method":"echo","params":{"a":"\x00"}}', -32700, 5),
        (b'{"jsonrpc":"2.0","id":6,"method":"e","params":' + DEEP + b"}", -32600, 6),
        (b"[" * 100_000, -32600, None),
        (b'{"id":"\xff","method":"echo"}', -32700, None),
    ],
)
async def test_what_cannot_be_read_is_answered_and_the_connection_goes_on(
    serve: Serve, text: bytes, code: int, request_id: Any
) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.write(text + b"\n")
        answer = await wire.receive()
        assert (answer["id"], answer["error"]["code"]) == (request_id, code)
        await wire.request("next", "echo")
        assert (await wire.receive())["id"] == "next"


@pytest.mark.parametrize("framing", ["newline", "content-length"])
async def test_a_message_that_is_too_long_is_answered_with_its_id(
    serve: Serve, framing: Any
) -> None:
    long = {"jsonrpc": "2.0", "id": 9, "method": "echo", "params": {"text": "x" * 5000}}
    async with serve(METHODS, max_frame_bytes=1000) as (_, wire):
        await wire.send(long, framing=framing)
        answer = await wire.receive()
        assert answer["id"] == 9
        assert answer["error"]["data"]["code"] == "protocol.frame_too_large"
        await wire.send({"jsonrpc": "2.0", "id": 10, "method": "echo"}, framing=framing)
        assert (await wire.receive())["id"] == 10
        assert wire.decoder.framing == framing


async def test_a_result_that_is_too_long_becomes_an_error(serve: Serve) -> None:
    async with serve(METHODS) as (peer, wire):
        peer.max_send_bytes = 500
        await wire.request(1, "echo", text="x" * 600)
        error = (await wire.receive())["error"]
        assert error["data"]["code"] == "limit.output_bytes"
        assert error["data"]["details"]["limit_bytes"] == 500
        await wire.request(2, "fail", text="x" * 600)
        error = (await wire.receive())["error"]
        assert error["data"]["code"] == "inputs.invalid"
        assert "details" not in error["data"]


async def test_a_header_where_a_line_should_be_is_explained(serve: Serve) -> None:
    async with serve(METHODS, framing="newline") as (_, wire):
        await wire.write(b"Content-Length: 2\r\n\r\n{}\n")
        error = (await wire.receive())["error"]
        assert error["code"] == -32700
        assert "--framing" in error["message"]


async def test_a_notification_is_never_answered(serve: Serve) -> None:
    seen = []
    async with serve(METHODS, on_notification=lambda name, params: seen.append((name, params))) as (
        _,
        wire,
    ):
        for name in ("echo", "crash", "no.such", "rpc.x"):
            await wire.send({"jsonrpc": "2.0", "method": name, "params": {"a": 1}})
        await wire.send({"jsonrpc": "2.0", "method": "list", "params": [1]})
        await wire.send({"jsonrpc": "2.0", "method": "none"})
        await wire.request(1, "echo")
        assert (await wire.receive())["id"] == 1
    assert seen == [
        *((name, {"a": 1}) for name in ("echo", "crash", "no.such", "rpc.x")),
        ("none", {}),
    ]


async def test_a_hook_that_fails_does_not_stop_the_reader(
    serve: Serve, capfd: pytest.CaptureFixture[str]
) -> None:
    def hook(_name: str, _params: dict[str, Any]) -> None:
        raise ValueError

    async with serve(METHODS, on_notification=hook) as (_, wire):
        await wire.send({"jsonrpc": "2.0", "method": "x"})
        await wire.request(1, "echo")
        assert (await wire.receive())["id"] == 1
    assert "ValueError" in capfd.readouterr().err


@pytest.mark.parametrize(
    "message",
    [
        {"jsonrpc": "2.0", "id": 5, "result": 1},
        {"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": "x"}},
        {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "Parse error"}},
        {"jsonrpc": "2.0", "id": True, "result": 1},
        {"jsonrpc": "2.0", "id": "1", "result": 1},
        {"jsonrpc": "2.0", "id": [1], "result": 1},
        {"jsonrpc": "2.0", "result": 1},
        {"id": 1.5, "result": 1},
    ],
)
async def test_an_answer_to_nothing_is_logged_and_not_answered(
    serve: Serve, message: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    async with serve(METHODS) as (_, wire):
        await wire.send(message)
        await wire.request("next", "echo")
        assert (await wire.receive())["id"] == "next"
    assert "response.unknown_id" in capfd.readouterr().err


async def test_an_id_that_is_in_flight_is_refused_and_free_after_its_answer(serve: Serve) -> None:
    release = asyncio.Event()

    async def wait(_context: CallContext, _params: dict[str, Any]) -> str:
        await release.wait()
        return "done"

    async with serve({"wait": wait}) as (peer, wire):
        await wire.request(1, "wait")
        await wire.request(1, "wait")
        answer = await wire.receive()
        assert (answer["id"], answer["error"]["code"]) == (1, -32600)
        assert answer["error"]["data"]["code"] == "protocol.duplicate_id"
        await wire.request("1", "wait")
        release.set()
        answers = [await wire.receive(), await wire.receive()]
        assert [answer["id"] for answer in answers] == [1, "1"]
        await wire.request(1, "wait")
        assert (await wire.receive())["result"] == "done"
        assert peer.in_flight == 0


async def test_methods_may_be_added_while_the_peer_runs(serve: Serve) -> None:
    methods: dict[str, Any] = {}
    async with serve(methods) as (_, wire):
        await wire.request(1, "echo")
        assert "error" in await wire.receive()
        methods["echo"] = echo
        await wire.request(2, "echo")
        assert (await wire.receive())["result"] == {}


async def test_inline_methods_answer_in_order_as_request_or_notification(serve: Serve) -> None:
    seen: list[Any] = []

    def mark(params: dict[str, Any]) -> Any:
        seen.append(params["n"])
        if params["n"] == 3:
            raise RequestError("run.not_found", "No such run.")
        if params["n"] == 4:
            raise ValueError("hunter2")
        return {"n": params["n"]}

    async with serve(METHODS, inline={"mark": mark}) as (_, wire):
        await wire.request("slow", "echo")
        await wire.request(1, "mark", n=1)
        await wire.send({"jsonrpc": "2.0", "method": "mark", "params": {"n": 2}})
        await wire.request(3, "mark", n=3)
        await wire.request(4, "mark", n=4)
        await wire.send({"jsonrpc": "2.0", "method": "mark", "params": {"n": 4}})
        answers = {answer["id"]: answer for answer in [await wire.receive() for _ in range(4)]}
    assert seen == [1, 2, 3, 4, 4]
    assert answers[1]["result"] == {"n": 1}
    assert answers[3]["error"]["data"]["code"] == "run.not_found"
    assert answers[4]["error"]["data"]["code"] == "protocol.internal"
    assert "hunter2" not in json.dumps(answers[4])


async def test_wrong_fields_are_named_in_plain_words(serve: Serve) -> None:
    from pydantic import BaseModel, ConfigDict, ValidationError

    class Inner(BaseModel):
        size: int

    class Params(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        name: str
        items: list[Inner]

    async def strict(_context: CallContext, params: dict[str, Any]) -> Any:
        try:
            return Params.model_validate(params).model_dump()
        except ValidationError as exc:
            raise invalid_params(exc) from exc

    async with serve({"strict": strict}) as (_, wire):
        await wire.request(1, "strict", items=[{"size": "hunter2"}], nmae="swordfish")
        error = (await wire.receive())["error"]
    assert error["code"] == -32602
    assert error["data"]["details"]["problems"] == [
        {"path": "name", "message": "is required"},
        {"path": "items[0].size", "message": "must be a whole number"},
        {"path": "nmae", "message": "is not a known field"},
    ]
    for leak in ("hunter2", "swordfish", "Params", "pydantic"):
        assert leak not in json.dumps(error)
