"""The program under test: a child process, its bytes, and every message that it has written.

Everything that it writes is judged as it comes: one JSON-RPC message a line and nothing else, with
the params that the protocol defines, and no word of the language that it is written in.
"""

from __future__ import annotations

import os
import re
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any, TypeAlias

from fleetprompt_protocol.errors import FleetPromptError, OperatorError
from fleetprompt_protocol.frames import FrameDecoder, FrameFault
from fleetprompt_protocol.messages import METHODS
from fleetprompt_protocol.wire import dumps, is_request_id, loads

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Sequence

Json: TypeAlias = Any

TOKEN = "conformance-4f1d9a"  # noqa: S105  # what the program is given; it opens nothing else
WAIT_S = 30.0
"""How long an answer may take: generous, since a test may share its machine."""
END_S = 10.0
"""How long an end may take: 5 s by the protocol, and as much for a slow machine."""

_MODELS = {method.name: method.params for method in METHODS}
_LEAKS = re.compile(r"Traceback \(most recent|<[\w.]+ object at 0x|\.py\", line \d|Error\(['\"]")


class Violation(Exception):  # noqa: N818  # the word of the trade: what a check has found
    """The program does what the protocol does not allow; the message says what."""


class Subject:
    """One run of the program.

    Args:
        command: Its command line.
        has_token: Whether it is given a session token.
    """

    def __init__(self, command: Sequence[str], *, has_token: bool = True) -> None:
        environ = dict(os.environ)
        environ.pop("FLEETPROMPT_SESSION_TOKEN", None)
        if has_token:
            environ["FLEETPROMPT_SESSION_TOKEN"] = TOKEN
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise OperatorError(
                "agent.not_started", f"`{command[0]}` cannot be started: {error.strerror}."
            ) from None
        assert self._process.stdin is not None  # noqa: S101  # a pipe was asked for
        assert self._process.stdout is not None  # noqa: S101  # same
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._decoder = FrameDecoder("newline", 64 * 1024 * 1024)
        self._last_id = 0
        self._unseen: list[dict[str, Json]] = []
        self.messages: list[dict[str, Json]] = []
        """Everything that it has written, in order."""
        self.has_ended = False
        """Whether it has closed its output."""

    # What is sent

    def send(self, **message: Json) -> None:
        """Write a message."""
        self.write(dumps({"jsonrpc": "2.0", **message}) + b"\n")

    def write(self, data: bytes) -> None:
        """Write bytes, reading meanwhile, so that neither side waits for the other."""
        view, deadline = memoryview(data), time.monotonic() + WAIT_S
        while view:
            left = deadline - time.monotonic()
            outputs = [] if self.has_ended else [self._out]
            readable, writable, _ = select.select(outputs, [self._in], [], max(0.0, left))
            if readable:
                self._read()
            if writable:
                try:
                    view = view[os.write(self._in, view[:65_536]) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    return  # its end shows when something is expected of it
            if not readable and not writable:
                raise Violation(f"it stopped reading for {WAIT_S:g} s")

    def request(self, method: str, params: Json = None, request_id: Json = None) -> Json:
        """Write a request; gives its id."""
        if request_id is None:
            self._last_id += 1
            request_id = f"check-{self._last_id}"
        self.send(id=request_id, method=method, params=params if params is not None else {})
        return request_id

    def ask(self, method: str, params: Json = None) -> dict[str, Json]:
        """Write a request; gives the message that answers it."""
        return self.answer(self.request(method, params))

    def close_input(self) -> None:
        """End its input."""
        assert self._process.stdin is not None  # noqa: S101  # a pipe was asked for
        self._process.stdin.close()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    # What comes

    def expect(
        self, what: str, is_it: Callable[[dict[str, Json]], bool], wait_s: float = WAIT_S
    ) -> dict[str, Json]:
        """The next message of which this is true; others before it are passed over, and kept.

        Raises:
            Violation: it does not come.
        """
        deadline = time.monotonic() + wait_s
        while True:
            for index, message in enumerate(self._unseen):
                if is_it(message):
                    del self._unseen[index]
                    return message
            if self.has_ended:
                raise Violation(f"{what} was expected, and it ended")
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._out], [], [], left)[0]:
                raise Violation(f"{what} was expected, and did not come within {wait_s:g} s")
            self._read()

    def answer(self, request_id: Json) -> dict[str, Json]:
        """The message that answers a request."""
        return self.expect(
            f"an answer to request {request_id!r}",
            lambda message: "method" not in message and message.get("id") == request_id,
        )

    def request_of(self, method: str) -> dict[str, Json]:
        """Its next request of this method."""
        return self.expect(
            f"the request `{method}`",
            lambda message: message.get("method") == method and "id" in message,
        )

    def expect_end(self) -> int:
        """Its exit code; it must end by itself.

        Raises:
            Violation: it does not.
        """
        deadline = time.monotonic() + END_S
        while not self.has_ended:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._out], [], [], left)[0]:
                raise Violation(f"it should have ended, and did not within {END_S:g} s")
            self._read()
        try:
            return self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise Violation(
                f"it closed its output, and the process did not end within {END_S:g} s"
            ) from None

    def dispose(self) -> None:
        """Nothing of it is left."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        data = os.read(self._out, 65_536)
        if not data:
            self.has_ended = True
        for frame in self._decoder.feed(data) if data else self._decoder.finish():
            if isinstance(frame, FrameFault):
                raise Violation(f"it wrote what is no message: {frame.message}")
            message = _judged(frame)
            for member in message if isinstance(message, list) else [message]:
                self.messages.append(member)
                self._unseen.append(member)


def _judged(frame: bytes) -> Json:
    """The message, or batch of answers, in a line.

    Raises:
        Violation: the line is not what the protocol allows.
    """
    try:
        message = loads(frame)
    except FleetPromptError as error:
        raise Violation(f"it wrote a line that is no JSON: {error.message}") from None
    if leak := _LEAKS.search(frame.decode("utf-8", "replace")):
        raise Violation(f"it shows its inside: {leak.group()}")
    for member in message if isinstance(message, list) else [message]:
        _judge(member)
    return message


def _judge(message: Json) -> None:
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Violation('it wrote a message without `"jsonrpc": "2.0"`')
    method = message.get("method")
    if method is None:
        if ("result" in message) == ("error" in message) or "id" not in message:
            raise Violation("an answer has an id, and either a result or an error")
        if "error" in message:
            _judge_error(message["error"])
        return
    if "id" in message and not is_request_id(message["id"]):
        raise Violation(f"the id of its request `{method}` is neither text nor a whole number")
    model = _MODELS.get(method)
    if model is not None:
        try:
            model.parse(message.get("params"))
        except FleetPromptError as error:
            raise Violation(f"its `{method}` is not as defined: {error.message}") from None


def _judge_error(error: Json) -> None:
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, int) or isinstance(code, bool):
        raise Violation("an error has a whole number as its `code`")
    if not isinstance(error.get("message"), str) or not error["message"]:
        raise Violation("an error has a text as its `message`")
