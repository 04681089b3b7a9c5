from __future__ import annotations

from typing import Any

from fleetprompt.cells import cell_width
from fleetprompt.results import RunResult
from fleetprompt.run_view import next_commands, outputs_text, summary_lines
from fleetprompt.style import Style

PLAIN = Style(colour=False)


def run(**fields: Any) -> RunResult:
    return RunResult.model_validate(
        {
            "run_id": "0193-run",
            "status": "succeeded",
            "started_at": "2026-01-01T10:00:00.000Z",
            "finished_at": "2026-01-01T10:00:03.500Z",
            "steps": [
                {"step_path": "collect", "status": "succeeded", "attempt": 1, "duration_ms": 35},
                {"step_path": "report", "status": "succeeded", "attempt": 2, "duration_ms": 3400},
            ],
            **fields,
        }
    )


def test_one_output_stands_alone_so_that_it_can_be_piped() -> None:
    assert outputs_text(run(outputs={"report": "# Health\n\nfine\n"})) == "# Health\n\nfine\n"
    assert outputs_text(run(outputs={"count": 3})) == "3\n"
    assert outputs_text(run(outputs={"all": {"a": "é"}})) == '{\n  "a": "é"\n}\n'


def test_several_outputs_stand_under_their_names() -> None:
    text = outputs_text(run(outputs={"count": 3, "report": "a\nb\n"}))
    assert text == "count: 3\nreport:\na\nb\n\n"


def test_without_declared_outputs_the_last_value_is_shown() -> None:
    assert outputs_text(run(outputs={}, output="done")) == "done\n"
    assert outputs_text(run(outputs=None, output=None)) == ""


def test_a_summary_lists_steps_then_the_status_then_the_run() -> None:
    assert summary_lines(run(), 80, PLAIN) == [
        "STEP     STATUS       TRY   TIME",
        "collect  ✓ succeeded       35 ms",
        "report   ✓ succeeded    2  3.4 s",
        "",
        "✓ succeeded in 3.5 s",
        "run 0193-run",
    ]


def test_a_failed_step_shows_its_error_and_the_end_of_what_it_wrote() -> None:
    error = {"code": "step.exit_code", "message": "gh ended with exit code 2."}
    step = {
        "step_path": "deploy",
        "status": "failed",
        "attempt": 1,
        "exit_code": 2,
        "error": error,
        "stderr_tail": "\n".join(f"line {i}" for i in range(20)),
    }
    lines = summary_lines(run(status="failed", ok=False, error=error, steps=[step]), 80, PLAIN)
    assert "step.exit_code: gh ended" in lines[1]
    assert "  │ line 19" in lines
    assert "  │ line 1" not in lines
    assert "✗ failed in 3.5 s: gh ended with exit code 2. (step.exit_code)" in lines
    assert lines[-1] == "next: fleetprompt show 0193-run"
    told = {**error, "step_path": "deploy"}
    lines = summary_lines(run(status="failed", ok=False, error=told, steps=[step]), 80, PLAIN)
    assert lines[-2:] == [
        "next: fleetprompt logs 0193-run deploy",
        "next: fleetprompt resume 0193-run --from deploy",
    ]


def test_a_summary_names_the_files_that_were_kept() -> None:
    kept = {"name": "out/page.html", "size": 1234, "sha256": "ab" * 32}
    step = {"step_path": "page", "status": "succeeded", "artifacts": [kept]}
    lines = summary_lines(run(steps=[step]), 120, PLAIN)
    assert f"page left out/page.html (1.2 KB): {'ab' * 32}" in lines


def test_a_summary_fits_sixty_columns() -> None:
    error = {"code": "step.exit_code", "message": "a message " * 30}
    step = {"step_path": "a-step-with-a-long-name/build[123]", "status": "failed", "error": error}
    lines = summary_lines(run(status="failed", error=error, steps=[step]), 60, PLAIN)
    assert all(cell_width(line) <= 60 for line in lines)


def test_what_to_do_next_follows_from_the_status() -> None:
    approval = {"gate_id": "a", "kind": "approval", "step_path": "x"}
    unknown = {"gate_id": "b", "kind": "unknown_outcome", "step_path": "pay"}
    assert next_commands(run()) == []
    assert next_commands(run(status="interrupted")) == ["fleetprompt resume 0193-run"]
    assert next_commands(run(status="waiting", gates=[approval])) == [
        "fleetprompt approve 0193-run"
    ]
    assert next_commands(run(status="waiting", gates=[unknown])) == [
        "fleetprompt resume 0193-run --retry pay"
    ]


def test_fields_of_a_newer_agent_are_kept() -> None:
    data = {"run_id": "r", "status": "succeeded", "weather": {"sun": True}, "steps": []}
    assert RunResult.model_validate(data).to_json() == data
