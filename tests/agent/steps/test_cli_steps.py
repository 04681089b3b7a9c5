"""What a `cli` step gives back, and what its program is given."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from fleetprompt_agent.language.plan import Output
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from tests.agent.steps.conftest import Bench

    from fleetprompt_agent.steps.cli import CliRunner
    from fleetprompt_agent.steps.spawner import Spawner

ECHO_STDIN = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"


def test_a_program_gives_its_output_and_exit_code(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo out; echo err >&2")

    assert outcome.ok
    assert outcome.error is None
    assert outcome.effect == "done"
    assert outcome.result == {"stdout": "out\n", "stderr": "err\n", "exit_code": 0, "text": "out"}
    assert outcome.metrics["cpu_ms"] > 0
    assert outcome.metrics["max_rss_kb"] > 0


@pytest.mark.parametrize(
    ("printed", "text"),
    [("a", "a"), ("a\n", "a"), ("a\n\n", "a\n"), ("a\r\n", "a"), ("", ""), ("a b ", "a b ")],
)
def test_text_is_the_output_without_its_final_newline(
    bench: Bench, printed: str, text: str
) -> None:
    outcome = bench.run("printf", "%s", printed)

    assert outcome.result["stdout"] == printed
    assert outcome.result["text"] == text


def test_nothing_is_handed_to_a_shell(bench: Bench) -> None:
    outcome = bench.run("echo", "x; touch made", "$HOME", "*", "`id`")

    assert outcome.result["text"] == "x; touch made $HOME * `id`"
    assert list(bench.root.iterdir()) == []


def test_an_exit_code_that_is_not_ok_is_a_failure_that_is_known(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo no >&2; exit 3")

    assert not outcome.ok
    assert outcome.effect == "done"
    assert outcome.result["exit_code"] == 3
    assert outcome.error is not None
    assert outcome.error["code"] == "step.exit_code"
    assert outcome.error["details"] == {"exit_code": 3, "stderr_tail": "no\n"}


def test_an_exit_code_may_be_declared_ok(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "exit 1", ok_exit_codes=(0, 1))

    assert outcome.ok
    assert outcome.result["exit_code"] == 1


def test_a_program_that_a_signal_ended_leaves_its_effect_unknown(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "kill -SEGV $$")

    assert outcome.error is not None
    assert outcome.error["code"] == "step.signaled"
    assert outcome.error["details"] == {"signal": "SIGSEGV"}
    assert outcome.effect == "unknown"
    assert outcome.result["exit_code"] is None


def test_stdin_is_what_the_step_gives(bench: Bench) -> None:
    for given, seen in [
        ("grüße\0\n", "grüße\0\n"),
        (b"\xff\x00", "\ufffd\0"),
        (None, ""),
        ("", ""),
    ]:
        outcome = bench.run(*bench.python, ECHO_STDIN, stdin=given)
        assert outcome.result["stdout"] == seen


def test_a_program_that_never_reads_a_large_stdin_does_not_block(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "exec 0<&-; echo done", stdin="x" * 5_000_000)

    assert outcome.result["text"] == "done"


def test_output_that_is_not_utf8_is_shown_with_replacements(bench: Bench) -> None:
    outcome = bench.run("printf", r"a\377b\303\244")

    assert outcome.result["stdout"] == "a\ufffdbä"


def test_json_output_is_parsed(bench: Bench) -> None:
    outcome = bench.run("echo", '{"a": [1, 2.5, null]}', output=Output("json"))

    assert outcome.ok
    assert outcome.result["json"] == {"a": [1, 2.5, None]}


@pytest.mark.parametrize("printed", ["", "no", "{", "NaN", "[Infinity]", "1 2", "[" * 100_000])
def test_output_that_is_not_json_fails_the_step_after_it_acted(bench: Bench, printed: str) -> None:
    outcome = bench.run("printf", "%s", printed, output=Output("json"))

    assert outcome.error is not None
    assert outcome.error["code"] == "output.not_json"
    assert outcome.effect == "done"
    assert "json" not in outcome.result


def test_the_exit_code_is_told_before_output_that_is_not_json(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo oops; exit 2", output=Output("json"))

    assert outcome.error is not None
    assert outcome.error["code"] == "step.exit_code"


def test_a_program_that_fails_may_still_have_printed_json(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo '[1]'; exit 2", output=Output("json"))

    assert outcome.result["json"] == [1]
    assert not outcome.ok


def test_json_that_misses_its_schema_is_kept_as_evidence(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["m"]}

    outcome = bench.run("echo", '{"n": "x"}', output=Output("json", schema))

    assert outcome.error is not None
    assert outcome.error["code"] == "output.schema"
    assert {item["path"] for item in outcome.error["details"]["violations"]} == {"", "['n']"}
    assert outcome.effect == "done"
    assert outcome.result["json"] == {"n": "x"}


def test_output_none_keeps_nothing_of_stdout_but_shows_it(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "echo out; echo err >&2", output=Output("none"))

    assert outcome.ok
    assert outcome.result["stdout"] == outcome.result["text"] == ""
    assert outcome.result["stderr"] == "err\n"
    assert ("stdout", "out\n") in bench.shown


def test_output_past_the_limit_is_counted_and_digested(bench: Bench) -> None:
    everything = b"0123456789" * 100_000

    outcome = bench.run(*bench.python, "print('0123456789' * 100_000, end='')", max_output_bytes=25)

    assert outcome.ok
    assert outcome.result["stdout"] == "0123456789012345678901234"
    assert outcome.result["truncated"] == {
        "stdout": {
            "truncated": True,
            "bytes": len(everything),
            "sha256": hashlib.sha256(everything).hexdigest(),
        }
    }


def test_a_character_that_the_limit_cuts_in_two_is_left_out(bench: Bench) -> None:
    outcome = bench.run("printf", "aää", max_output_bytes=4)

    assert outcome.result["stdout"] == "aä"


def test_output_at_the_limit_is_whole(bench: Bench) -> None:
    outcome = bench.run("printf", "12345", max_output_bytes=5)

    assert outcome.result["stdout"] == "12345"
    assert "truncated" not in outcome.result


def test_cut_json_is_never_parsed(bench: Bench) -> None:
    outcome = bench.run("printf", "12345", output=Output("json"), max_output_bytes=3)

    assert outcome.error is not None
    assert outcome.error["code"] == "output.truncated"
    assert outcome.error["details"]["bytes"] == 5
    assert "json" not in outcome.result
    assert outcome.effect == "done"


def test_output_is_shown_as_it_comes(bench: Bench) -> None:
    """The program waits for the test's answer to what it has printed, so it was shown before."""
    fifo = bench.root / "answer"
    os.mkfifo(fifo)

    def answer(channel: str, text: str) -> None:
        bench.show(channel, text)
        if text == "question\n":
            fifo.write_text("yes\n")

    request = bench.request("sh", "-c", "echo question; cat answer >&2")
    outcome = bench.with_runner(lambda runner, _: runner.run(request, answer))

    assert outcome.ok
    assert bench.shown == [("stdout", "question\n"), ("stderr", "yes\n")]


def test_what_is_shown_stops_at_the_limit(bench: Bench) -> None:
    bench.run(*bench.python, "print('x' * 1_000_000)", max_output_bytes=100_000)

    assert "".join(text for _, text in bench.shown) == "x" * 100_000


def test_a_program_sees_a_short_environment(bench: Bench) -> None:
    bench.environ = {
        "PATH": os.environ["PATH"],
        "HOME": "/home/me",
        "LC_TIME": "C",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "LD_PRELOAD": "/x.so",
        "PYTHONPATH": ".",
    }

    outcome = bench.run("env", env={"MINE": "a=b\nc"}, output=Output("text"))

    lines = dict(
        line.split("=", 1) for line in outcome.result["stdout"].replace("\nc\n", "\n").split()
    )
    assert lines.pop("PATH")
    assert lines == {
        "HOME": "/home/me",
        "LC_TIME": "C",
        "MINE": "a=b",
        "FLEETPROMPT_RUN_ID": "run-1",
        "FLEETPROMPT_IDEMPOTENCY_KEY": "run-1/step",
        "FLEETPROMPT_REQUEST_ID": "req-1",
        "FLEETPROMPT_CORRELATION_ID": "cor-1",
        "FLEETPROMPT_CAUSATION_ID": "cause-1",
    }


SELF_PORTRAIT = """
import json, os, signal
print(json.dumps({
    "fds": sorted(int(n) for n in os.listdir("/proc/self/fd"))[:-1],
    "ignored": [s for s in signal.valid_signals() if signal.getsignal(s) == signal.SIG_IGN],
    "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    "leads_session": os.getsid(0) == os.getpid() == os.getpgrp(),
}))
"""


def test_a_program_starts_with_nothing_of_ours(bench: Bench) -> None:
    """No descriptor, no ignored or blocked signal, a session of its own."""
    leaked = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    held = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
    try:
        outcome = bench.run(*bench.python, SELF_PORTRAIT, output=Output("json"))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGUSR1, held)
        os.close(leaked)

    assert outcome.result["json"] == {
        "fds": [0, 1, 2],
        # Python itself ignores these two when it starts.
        "ignored": [signal.SIGPIPE, signal.SIGXFSZ],
        "blocked": 0,
        "leads_session": True,
    }


def test_sigpipe_ends_a_program_as_everywhere(bench: Bench) -> None:
    outcome = bench.run("sh", "-c", "yes | head -1")

    assert outcome.ok
    assert outcome.result == {"stdout": "y\n", "stderr": "", "exit_code": 0, "text": "y"}


def test_a_step_runs_in_its_directory(bench: Bench) -> None:
    (bench.root / "a" / "b").mkdir(parents=True)

    assert bench.run("pwd").result["text"] == str(bench.root)
    assert bench.run("pwd", cwd="a/b").result["text"] == str(bench.root / "a/b")
    assert bench.run("pwd", run_cwd="a", cwd="b").result["text"] == str(bench.root / "a/b")
    assert bench.run("pwd", run_cwd="a/b", cwd="..").result["text"] == str(bench.root / "a")


@pytest.mark.parametrize(
    ("changes", "argv", "code"),
    [
        ({"cwd": "../elsewhere"}, ["true"], "cli.cwd"),
        ({"cwd": "missing"}, ["true"], "cli.cwd"),
        ({"env": {"PATH": "."}}, ["true"], "tool.denied"),
        ({"env": {"A=B": "."}}, ["true"], "cli.argument"),
        ({"env": {"A": "\0"}}, ["true"], "cli.argument"),
        ({"stdin": "\ud800"}, ["true"], "cli.argument"),
        ({}, ["true", "a\0b"], "cli.argument"),
        ({}, ["true", "\ud800"], "cli.argument"),
        ({}, ["no-such-program-anywhere"], "cli.not_found"),
        ({}, ["./no-such"], "cli.not_found"),
        ({}, [""], "cli.not_found"),
        ({"tainted": [False, True]}, ["true", "--force"], "cli.option_injection"),
    ],
)
def test_a_step_that_cannot_start_has_no_effect(
    bench: Bench, changes: dict[str, object], argv: list[str], code: str
) -> None:
    outcome = bench.run(*argv, **changes)

    assert outcome.error is not None
    assert outcome.error["code"] == code
    assert outcome.effect == "none"
    assert not outcome.ok


@pytest.mark.parametrize(
    ("content", "mode", "code", "reason"),
    [
        ("no shebang", 0o755, "cli.not_executable", "ENOEXEC"),
        ("#!/no/such/interpreter\n", 0o755, "cli.not_executable", "ENOENT"),
        ("#!/bin/sh\n", 0o644, "cli.not_executable", "EACCES"),
    ],
)
def test_a_file_that_cannot_be_executed_says_why(
    bench: Bench, content: str, mode: int, code: str, reason: str
) -> None:
    script = bench.root / "script"
    script.write_text(content)
    script.chmod(mode)

    outcome = bench.run("./script")

    assert outcome.error is not None
    assert outcome.error["code"] == code
    assert outcome.error["details"]["errno"] == reason
    assert outcome.effect == "none"


def test_arguments_longer_than_the_system_allows_are_an_argument_error(bench: Bench) -> None:
    outcome = bench.run("true", "x" * 3_000_000)

    assert outcome.error is not None
    assert outcome.error["code"] == "cli.argument"
    assert outcome.error["details"]["errno"] == "E2BIG"


def test_arguments_as_long_as_the_system_allows_arrive(bench: Bench) -> None:
    words = ["x" * 100_000] * 10

    outcome = bench.run(*bench.python, "import sys; print(len(''.join(sys.argv[1:])))", *words)

    assert outcome.result["text"] == "1000000"


def test_an_approver_sees_what_would_run(bench: Bench) -> None:
    script = bench.root / "deploy"
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    (bench.root / "sub").mkdir()
    request = bench.request("./deploy", "--to", "prod", cwd="sub", stdin="text", env={"B": "x"})

    async def resolve(runner: CliRunner, _: Spawner) -> dict[str, object]:
        return runner.resolve_action(request)

    assert bench.with_runner(resolve) == {
        "tool": "cli:./deploy",
        "argv": ["./deploy", "--to", "prod"],
        "cwd": "sub",
        "program": str(script),
        "program_sha256": hashlib.sha256(b"#!/bin/sh\n").hexdigest(),
        "env": {"B": "x"},
        "stdin_sha256": hashlib.sha256(b"text").hexdigest(),
        "stdin_head": "text",
    }


def test_what_cannot_run_is_not_put_before_an_approver(bench: Bench) -> None:
    request = bench.request("no-such-program-anywhere")

    async def resolve(runner: CliRunner, _: Spawner) -> None:
        with pytest.raises(RequestError) as caught:
            runner.resolve_action(request)
        assert caught.value.code == "cli.not_found"

    bench.with_runner(resolve)


def test_every_outcome_is_json(bench: Bench) -> None:
    for argv in (["echo", "x"], ["sh", "-c", "exit 1"], ["nothing-there"]):
        outcome = bench.run(*argv, max_output_bytes=1)
        assert json.loads(json.dumps([outcome.result, outcome.error, outcome.metrics]))
