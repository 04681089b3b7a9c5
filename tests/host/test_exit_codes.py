from __future__ import annotations

import pytest

from fleetprompt.exit_codes import ExitCode, exit_code_of_error, exit_code_of_run
from fleetprompt_protocol.errors import CODES, FleetPromptError


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("workflow.invalid", 2),
        ("workflow.not_found", 4),
        ("inputs.invalid", 2),
        ("run.not_found", 4),
        ("run.conflict", 1),
        ("run.ambiguous", 2),
        ("arguments.invalid", 2),
        ("gate.not_found", 4),
        ("root.not_found", 4),
        ("tool.denied", 3),
        ("decision.no_terminal", 3),
        ("protocol.internal", 70),
        ("protocol.closed", 1),
        ("journal.busy", 1),
    ],
)
def test_an_error_has_its_exit_code(code: str, expected: int) -> None:
    assert exit_code_of_error(FleetPromptError(code, "x")) == expected


def test_every_error_has_one_that_is_not_success() -> None:
    codes = {exit_code_of_error(FleetPromptError(code, "x")) for code in CODES}
    assert ExitCode.SUCCEEDED not in codes


def test_a_run_has_the_exit_code_of_its_status() -> None:
    statuses = ("succeeded", "failed", "waiting", "interrupted", "canceled", "new-fangled")
    assert [int(exit_code_of_run(status)) for status in statuses] == [0, 1, 5, 6, 130, 1]


def test_a_run_that_was_denied_says_so() -> None:
    assert exit_code_of_run("canceled", denied=True) == ExitCode.DENIED
    assert exit_code_of_run("succeeded", denied=True) == ExitCode.SUCCEEDED
