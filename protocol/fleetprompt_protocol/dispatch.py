"""One inbound request through jsonrpcserver, so that nothing of the library but its result shows.

What the library (5.0.9) would do, and what is done about it here:

* It binds params by name with `inspect.signature`: an unknown key, or one named like the context
  argument, is answered with Python's text. Params travel as one positional value, and the one
  function that it ever sees has a signature that binds without a look.
* It puts `str(exc)` and `repr(result)` on the wire. No exception and no bare result reaches it.
* It refuses unknown top-level members and null params, fails a whole batch for one bad member, and
  answers a response with an error. The peer checks and splits before; the library accepts all.
* It does not answer when the task is cancelled or the result cannot be serialised. The peer does.
"""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from fleetprompt_protocol.errors import FleetPromptError, ProtocolError
from fleetprompt_protocol.rpc_error import internal_error, new_ref, to_rpc_error
from fleetprompt_protocol.wire import Json


class DispatchContext(Protocol):
    """What is known of the request that a handler answers."""

    @property
    def request_id(self) -> str | int | float | None:
        """The JSON-RPC id."""

    @property
    def method(self) -> str:
        """The method's name."""


Handler: TypeAlias = Callable[[Any, dict[str, Json]], Awaitable[Json]]
"""`async (context, params) -> result`; it raises `FleetPromptError` for an error answer."""

Fault: TypeAlias = Callable[[str, str, BaseException], None]
"""Told of an exception that is a fault of ours: the method, the reference, the exception."""


class Dispatcher:
    """Calls the handler of a request and gives back the answer, whatever happens in it.

    Args:
        handlers: By method name; looked up at every request.
        on_fault: Logs what the peer must not see.
    """

    def __init__(self, handlers: Mapping[str, Handler], on_fault: Fault) -> None:
        self._handlers = handlers
        self._on_fault = on_fault
        self._library: Library | None = None

    async def answer(self, context: DispatchContext, params: dict[str, Json]) -> dict[str, Json]:
        """`{"result": …}` or `{"error": {code, message, data}}`.

        Raises:
            asyncio.CancelledError: The task was cancelled and the handler let that pass.
        """
        if self._library is None:
            self._library = Library(self._handlers, self._on_fault)
        try:
            answer = await self._library.dispatch(context, params)
        except Exception as exc:  # noqa: BLE001 — a fault of the library's is answered too
            return {"error": self._fault(context.method, exc)}
        if "result" in answer:
            return {"result": answer["result"]}
        error = answer["error"]
        if isinstance(error.get("data"), dict):
            return {"error": error}
        # Every error that is raised here has a dict as its data: this one is the library's own.
        if error["code"] == -32601:
            return {"error": to_rpc_error(method_not_found(context.method))}
        return {"error": self._fault(context.method, RuntimeError(str(error)))}

    def _fault(self, method: str, exc: BaseException) -> dict[str, Json]:
        return fault_answer(method, exc, self._on_fault)


def method_not_found(method: str) -> ProtocolError:
    """The error for a method that nobody offers."""
    return ProtocolError(
        "protocol.method_not_found",
        f'There is no method "{method[:128]}".' if method.isprintable() else "No such method.",
    )


def fault_answer(method: str, exc: BaseException, on_fault: Fault) -> dict[str, Json]:
    """The error object for an exception that is a fault of ours, after logging it."""
    ref = new_ref()
    on_fault(method, ref, exc)
    return to_rpc_error(internal_error(ref))


class Library:
    """jsonrpcserver, imported when the first request comes: it costs more than all else here."""

    def __init__(self, handlers: Mapping[str, Handler], on_fault: Fault) -> None:
        with warnings.catch_warnings():
            # Its import reads a file with a call that Python 3.11 deprecates.
            warnings.simplefilter("ignore", DeprecationWarning)
            from jsonrpcserver import Error, Success, async_dispatch_to_serializable

        async def invoke(context: DispatchContext, params: dict[str, Json], /) -> Any:
            try:
                return Success(await handlers[context.method](context, params))
            except asyncio.CancelledError:
                raise
            except FleetPromptError as exc:
                return Error(**to_rpc_error(exc))
            except Exception as exc:  # noqa: BLE001 — whatever a handler does, it is answered
                return Error(**fault_answer(context.method, exc, on_fault))

        invoke.__signature__ = _AcceptAll()  # type: ignore[attr-defined]  # inspect looks there
        self._methods = _OneFunction(handlers, invoke)
        self._dispatch = async_dispatch_to_serializable

    async def dispatch(self, context: DispatchContext, params: dict[str, Json]) -> Any:
        """The library's response object."""
        return await self._dispatch(
            {
                "jsonrpc": "2.0",
                "method": context.method,
                "params": [params],
                "id": context.request_id,
            },
            methods=self._methods,
            context=context,
            deserializer=_as_it_is,
            validator=_as_it_is,
        )


class _OneFunction(Mapping[str, Any]):
    """The handlers as the library sees them: each name leads to the same function."""

    def __init__(self, handlers: Mapping[str, Handler], function: Any) -> None:
        self._handlers = handlers
        self._function = function

    def __getitem__(self, name: str) -> Any:
        if name in self._handlers:
            return self._function
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._handlers)

    def __len__(self) -> int:
        return len(self._handlers)


class _AcceptAll(inspect.Signature):
    """Binds anything: the library's check of arguments that are always the same two."""

    def bind(self, *_args: Any, **_kwargs: Any) -> inspect.BoundArguments:
        return inspect.BoundArguments(self, _NOTHING_BOUND)


_NOTHING_BOUND: OrderedDict[str, Any] = OrderedDict()


def _as_it_is(message: Json) -> Json:
    return message
