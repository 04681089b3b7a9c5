"""Every check, for an agent or for a host, each with a run of the program to itself."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from fleetprompt.conformance import streaming
from fleetprompt.conformance.hostile import HOSTILE
from fleetprompt.conformance.report import Finding, Report
from fleetprompt.conformance.subject import TOKEN, Subject, Violation
from fleetprompt.conformance.transcript import transcripts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fleetprompt.conformance.hostile import Hostile

Role: TypeAlias = Literal["agent", "host"]
Check: TypeAlias = "Callable[[Subject], None]"

WELCOME: dict[str, Any] = {
    "accepted_version": "1",
    "session_id": "session-1",
    "heartbeat_interval_ms": 200,
    "max_frame_bytes": 4 * 1024 * 1024,
    "server": {"core_version": "0", "instance_id": "conformance"},
}


@dataclass(frozen=True, slots=True)
class SampleCall:
    """A call that the agent under test can serve, for the checks of streams and results."""

    tool_id: str
    given: dict[str, Any] = field(default_factory=dict)


def run_conformance(
    command: Sequence[str],
    *,
    role: Role = "agent",
    call: SampleCall | None = None,
    only: str = "",
    on_finding: Callable[[Finding], None] | None = None,
) -> Report:
    """What every check has found about the program.

    Args:
        command: Its command line. It is given its session token in `FLEETPROMPT_SESSION_TOKEN`;
            a host expects that token of the agent, which the suite plays.
        role: What the program is.
        call: Something that it can do; the checks of streams are left out without it.
        only: What the names of the checks begin with that are run: `transcript/`, `hostile` …
        on_finding: Told of each check when it is done.

    Raises:
        OperatorError: `agent.not_started`.
    """
    findings = []
    for name, about, check, has_token in _checks(role, call):
        if not name.startswith(only):
            continue
        finding = Finding(name, about, _problem(command, check, has_token=has_token))
        findings.append(finding)
        if on_finding is not None:
            on_finding(finding)
    return Report(tuple(findings))


def _problem(command: Sequence[str], check: Check, *, has_token: bool) -> str | None:
    subject = Subject(command, has_token=has_token)
    try:
        check(subject)
    except Violation as violation:
        return str(violation)
    finally:
        subject.dispose()
    return None


def _checks(role: Role, call: SampleCall | None) -> Iterator[tuple[str, str, Check, bool]]:
    """Name, what must be so, the check, and whether the program gets a token."""
    for transcript in transcripts(role):
        yield (
            f"transcript/{transcript.name}",
            transcript.about,
            transcript.play,
            (transcript.has_token),
        )

    def greet(subject: Subject) -> None:
        _greet(subject, role)

    def everything_hostile(subject: Subject) -> None:
        greet(subject)
        for hostile in HOSTILE:
            _check_hostile(subject, hostile)

    def half_a_frame(subject: Subject) -> None:
        greet(subject)
        subject.write(b'{"jsonrpc":"2.0","id":"half","method":"core.pi')
        subject.close_input()
        subject.expect_end()

    def end_of_input(subject: Subject) -> None:
        greet(subject)
        subject.close_input()
        subject.expect_end()

    def byte_by_byte(subject: Subject) -> None:
        greet(subject)
        for byte in b'{"jsonrpc":"2.0","id":"slow","method":"core.ping","params":{}}\n':
            subject.write(bytes((byte,)))
        subject.answer("slow")

    def many_at_once(subject: Subject) -> None:
        greet(subject)
        ids = [subject.request("core.ping", {}) for _ in range(1000)]
        for request_id in ids:
            subject.answer(request_id)

    yield (
        "hostile",
        "bad input is answered or ignored, and the session goes on",
        (everything_hostile),
        True,
    )
    yield "end/half-a-frame", "half a message and the end of input end it", half_a_frame, True
    yield "end/input", "the end of input ends it", end_of_input, True
    yield "frames/byte-by-byte", "a message may come in any pieces", byte_by_byte, True
    yield "frames/many-at-once", "a thousand requests are each answered once", many_at_once, True
    if role == "agent":
        yield from _agent_checks(call)


def _agent_checks(call: SampleCall | None) -> Iterator[tuple[str, str, Check, bool]]:
    def heartbeats(subject: Subject) -> None:
        _greet(subject, "agent")
        for _ in range(2):
            beat = subject.expect("a heartbeat", lambda m: m.get("method") == "agent.heartbeat")
            if beat["params"]["session_id"] != "session-1":
                raise Violation("the heartbeat is of another session")

    def terminated(subject: Subject) -> None:
        _greet(subject, "agent")
        subject.signal(signal.SIGTERM)
        subject.expect_end()

    yield "heartbeat", "heartbeats come as the welcome says", heartbeats, True
    yield "end/sigterm", "SIGTERM ends it", terminated, True
    if call is None:
        return
    for name, about, check in streaming.CHECKS:

        def run(subject: Subject, check: streaming.CallCheck = check) -> None:
            _greet(subject, "agent")
            check(subject, call.tool_id, call.given)

        yield f"call/{name}", about, run, True


def _greet(subject: Subject, role: Role) -> None:
    """The handshake, by whichever side begins it."""
    if role == "host":
        hello = {
            "session_token": TOKEN,
            "agent_id": "com.example.conformance",
            "agent_version": "0",
            "protocol": {"supported_versions": ["1"]},
        }
        if "result" not in subject.ask("agent.hello", hello):
            raise Violation("it does not welcome an agent that shows its token")
        subject.ask("agent.tools.register", {"tools": []})
        return
    subject.send(id=subject.request_of("agent.hello")["id"], result=WELCOME)
    register = subject.request_of("agent.tools.register")
    tools = [tool["tool_id"] for tool in register["params"]["tools"]]
    subject.send(id=register["id"], result={"registered": tools, "rejected": []})


def _check_hostile(subject: Subject, hostile: Hostile) -> None:
    seen = len(subject.messages)
    subject.write(hostile.line + b"\n")
    expected = 1 if hostile.codes or hostile.may_succeed else 0
    if expected:
        subject.expect(f"an answer to `{hostile.name}`", _is_foreign_answer)
    subject.ask("core.ping", {})  # whatever else it says to the line is there now
    answers = [message for message in subject.messages[seen:] if _is_foreign_answer(message)]
    if len(answers) != expected:
        raise Violation(f"{hostile.name}: {len(answers)} answers came, {expected} are right")
    for answer in answers:
        if "result" in answer:
            if not hostile.may_succeed:
                raise Violation(f"{hostile.name}: it was taken as if it were right")
        elif answer["error"]["code"] not in hostile.codes:
            shown = answer["error"]["code"]
            raise Violation(f"{hostile.name}: answered with {shown}, not {hostile.codes}")
        if answer["id"] not in (hostile.request_id, None):
            raise Violation(f"{hostile.name}: answered under another id")


def _is_foreign_answer(message: dict[str, Any]) -> bool:
    """Whether it answers something else than our own questions."""
    return "method" not in message and not str(message["id"]).startswith("check-")
