"""Questions, steps for a person and failed runs: at a real terminal, with a real agent."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    At = Callable[..., Any]
    Command = Callable[..., subprocess.CompletedProcess[str]]

WORKFLOWS = {
    "form": """
        outputs: {said: $order.response}
        steps:
          - {id: menu, tool: flow:set, with: {dishes: [soup, "stew\\u202E"]}}
          - id: order
            ask:
              prompt: What will it be?
              choices_from: {dish: $menu.json.dishes}
              schema:
                type: object
                required: [dish, plates]
                properties:
                  dish: {type: string, description: One of these, minLength: 3}
                  plates: {type: integer, maximum: 9}
                  size: {enum: [small, large], default: small}
                  hot: {type: boolean}
        """,
    "word": """
        outputs: {said: $word.response}
        steps:
          - {id: word, ask: {prompt: Which word?}}
        """,
    "words": """
        type: graph
        steps:
          - {id: first, ask: {prompt: Which word?}}
          - {id: second, ask: {prompt: And then?}}
        """,
    "wide": """
        outputs: {said: $pods.response}
        steps:
          - id: pods
            ask: {prompt: Which pods?, schema: {anyOf: [{type: array, maxItems: 2}, {const: all}]}}
        """,
    "judge": """
        inputs: {mail: {type: string, default: "buy now\u202e"}}
        outputs: {said: $sort.json.label, by: $sort.actor.type}
        steps:
          - id: sort
            tool: llm:big-1
            with:
              prompt: Spam? ${{ inputs.mail }}
              system: Be terse.
              schema:
                {type: object, required: [label], properties: {label: {enum: [spam, ham]}}}
        """,
    "errand": """
        steps:
          - {id: call, manual: Call the bank}
          - {id: after, needs: [], tool: flow:set, with: {done: true}}
        """,
    "flaky": """
        steps:
          - {id: once, command: cli sh once.sh}
          - {id: gate, command: cli sh gate.sh}
          - {id: last, command: cli echo through}
        """,
}


@pytest.fixture(autouse=True)
def workflows(root: Path) -> None:
    """The workflows above; `once.sh` counts its runs, `gate.sh` fails until there is `open`."""
    for name, text in WORKFLOWS.items():
        file = root / ".fleetprompt" / "workflows" / f"{name}.yaml"
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    (root / "once.sh").write_text("echo run >> runs\n")
    (root / "gate.sh").write_text("test -e open\n")


def steps(fleetprompt: Command) -> dict[str, str]:
    """The status of every step of the latest run."""
    run = json.loads(fleetprompt("show", "--json").stdout)
    return {step["step_path"]: step["status"] for step in run["steps"]}


def timeline(fleetprompt: Command, kind: str) -> dict[str, Any]:
    """The data of the only event of this kind in the latest run."""
    events = json.loads(fleetprompt("timeline", "--json").stdout)["events"]
    (event,) = [event for event in events if event["type"] == kind]
    return dict(event["data"])


def test_a_form_is_filled_in_field_by_field(at_terminal: At) -> None:
    terminal = at_terminal("run", "form", env={"NO_COLOR": "1"})
    asked = terminal.expect("> ")
    parts = ("Data wanted: order", "What will it be?", "dish (string)", "- soup")
    assert [asked.index(part) for part in parts] == sorted(asked.index(part) for part in parts)
    assert "- stew\\u202e" in asked
    assert "One of these" in asked
    terminal.send("\n")
    terminal.expect("A value is needed.")
    terminal.expect("> ")
    terminal.send("cake\n")
    terminal.expect("`dish` is one of soup, ")
    terminal.expect("> ")
    terminal.send("soup\n")
    terminal.expect("plates (integer)")
    terminal.expect("> ")
    terminal.send("many\n")
    terminal.expect("takes a whole number")
    terminal.expect("> ")
    terminal.send("2\n")
    asked = terminal.expect("> ")
    assert "size (choice, default small)" in asked
    assert "- large" in asked
    terminal.send("huge\n")
    terminal.expect("`size` is one of small, large.")
    terminal.expect("> ")
    terminal.send("\n")
    terminal.expect("hot (boolean, optional)")
    terminal.expect("> ")
    terminal.send("\n")
    terminal.expect("succeeded")
    assert terminal.end() == 0
    said = terminal.seen.rpartition("> ")[2]
    assert json.loads(said[said.index("{") : said.rindex("}") + 1]) == {
        "dish": "soup",
        "plates": 2,
        "size": "small",
    }


def test_an_answer_that_the_agent_refuses_is_asked_for_again(at_terminal: At) -> None:
    terminal = at_terminal("run", "form")
    for answer in ("soup", "10", "", ""):
        terminal.expect("> ")
        terminal.send(f"{answer}\n")
    terminal.expect("The response does not fit: ")
    for answer in ("soup", "9", "large", "true"):
        terminal.expect("> ")
        terminal.send(f"{answer}\n")
    terminal.expect('"hot": true')
    assert terminal.end() == 0


def test_a_single_value_is_typed_as_it_is(at_terminal: At) -> None:
    terminal = at_terminal("run", "word")
    terminal.expect("Which word?")
    terminal.expect("answer (string)")
    terminal.expect("> ")
    terminal.send("12\n")
    terminal.expect("succeeded")
    assert terminal.end() == 0
    assert "\n12\n" in terminal.seen


def test_an_answer_that_is_no_form_is_typed_as_json(at_terminal: At) -> None:
    terminal = at_terminal("run", "wide", columns=100)
    terminal.expect('"anyOf"')
    terminal.expect("on one line: ")
    terminal.send("[1,\n")
    terminal.expect("The JSON in the answer is wrong")
    terminal.expect("on one line: ")
    terminal.send("[1, 2, 3]\n")
    terminal.expect("The response does not fit: ")
    terminal.expect("on one line: ")
    terminal.send('["a"]\n')
    terminal.expect('"a"\n')
    assert terminal.end() == 0


@pytest.mark.parametrize("way_out", ["\x04", "\x03"])
def test_a_question_that_is_left_open_is_answered_later(at_terminal: At, way_out: str) -> None:
    first = at_terminal("run", "word")
    first.expect("> ")
    first.send(way_out)
    first.expect("next: fleetprompt approve ")
    assert first.end() == 5
    second = at_terminal("approve")
    second.expect("Which word?")
    second.expect("> ")
    second.send("hello\n")
    second.expect("succeeded")
    assert second.end() == 0


def test_a_question_is_shown_with_what_it_takes_where_nobody_can_be_asked(
    fleetprompt: Command,
) -> None:
    done = fleetprompt("run", "form")
    assert done.returncode == 5
    for part in ("Data wanted: order", "dish (string)", "One of these", "- large"):
        assert part in done.stderr


def test_a_person_may_answer_for_the_model(at_terminal: At) -> None:
    terminal = at_terminal("run", "judge", columns=100)
    asked = terminal.expect("> ")
    for part in ("A model's judgement wanted: sort", "system: Be terse.", "not to be trusted"):
        assert part in asked
    assert "Spam? buy now\\u202e" in asked
    terminal.send("maybe\n")
    terminal.expect("`label` is one of spam, ham.")
    terminal.expect("> ")
    terminal.send("ham\n")
    terminal.expect("succeeded")
    assert terminal.end() == 0
    assert "by: human" in terminal.seen


def test_a_judgement_is_given_with_the_command(at_terminal: At, fleetprompt: Command) -> None:
    waiting = fleetprompt("run", "judge")
    assert waiting.returncode == 5
    assert "A model's judgement wanted: sort" in waiting.stderr
    terminal = at_terminal("resume", "--response", '{"label": "spam"}')
    terminal.expect("Answer with this? [y/N] ")
    terminal.send("y\n")
    assert terminal.end() == 0
    assert timeline(fleetprompt, "gate.resolved")["response"] == {"label": "spam"}


@pytest.mark.parametrize(("answer", "status"), [("y", "succeeded"), ("skip", "skipped")])
def test_a_step_for_a_person_is_done_or_skipped_with_a_note(
    at_terminal: At, fleetprompt: Command, answer: str, status: str
) -> None:
    terminal = at_terminal("run", "errand")
    terminal.expect("Call the bank")
    terminal.expect("Done? [y/skip/later] ")
    terminal.send("\n")
    terminal.expect("Please answer y, skip or later.")
    terminal.expect("Done? [y/skip/later] ")
    terminal.send(f"{answer}\n")
    terminal.expect("A note to keep with it")
    terminal.send("they were nice\n")
    terminal.expect("succeeded")
    assert terminal.end() == 0
    assert steps(fleetprompt) == {"call": status, "after": "succeeded"}
    assert timeline(fleetprompt, "gate.resolved")["reason"] == "they were nice"


def test_a_step_for_a_person_can_be_left_for_later(at_terminal: At, fleetprompt: Command) -> None:
    first = at_terminal("run", "errand")
    first.expect("Done? [y/skip/later] ")
    first.send("later\n")
    assert first.end() == 5
    second = at_terminal("resume")
    second.expect("Done? [y/skip/later] ")
    second.send("y\n")
    second.expect("A note to keep with it")
    second.send("\n")
    assert second.end() == 0
    assert "reason" not in timeline(fleetprompt, "gate.resolved")


@pytest.mark.parametrize(
    ("option", "question", "status"),
    [("--complete", "Is it done?", "succeeded"), ("--skip", "Skip it?", "skipped")],
)
def test_a_step_for_a_person_is_settled_by_name(
    at_terminal: At, fleetprompt: Command, option: str, question: str, status: str
) -> None:
    fleetprompt("run", "errand")
    terminal = at_terminal("resume", option, "call", "--reason", "by phone")
    terminal.expect("Call the bank")
    terminal.expect(question)
    terminal.send("y\n")
    assert terminal.end() == 0
    assert steps(fleetprompt)["call"] == status
    assert timeline(fleetprompt, "gate.resolved")["reason"] == "by phone"


def test_a_response_on_the_command_line_is_confirmed(at_terminal: At, fleetprompt: Command) -> None:
    run_id = json.loads(fleetprompt("run", "words", "--json").stdout)["run_id"]
    unclear = at_terminal("resume", run_id, "--response", '"x"', columns=200)
    unclear.expect("Several steps")
    assert unclear.end() == 4
    refused = at_terminal("resume", run_id, "--response", '"x"', "second")
    refused.expect("And then?")
    refused.expect('"x"')
    refused.expect("Answer with this? [y/N] ")
    refused.send("\n")
    assert refused.end() == 5
    unfit = at_terminal("resume", run_id, "--response", "3", "first")
    unfit.expect("Answer with this? [y/N] ")
    unfit.send("y\n")
    unfit.expect("gate.bad_response")
    assert unfit.end() == 1
    assert set(steps(fleetprompt).values()) == {"waiting"}
    for step in ("second", "first"):
        terminal = at_terminal("resume", run_id, "--response", '"x"', step)
        terminal.expect("Answer with this? [y/N] ")
        terminal.send("y\n")
        assert terminal.end() == (0 if step == "first" else 5)


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--response", "{no"], 2, "inputs.invalid"),
        (["--response", "1", "a", "b"], 2, "arguments.invalid"),
        (["--reason", "x"], 2, "arguments.invalid"),
        (["--from", "word", "--reason", "x"], 2, "arguments.invalid"),
        (["--response", "1"], 3, "decision.no_terminal"),
        (["--complete", "word"], 3, "decision.no_terminal"),
        (["--from", "word"], 3, "decision.no_terminal"),
    ],
)
def test_what_cannot_be_decided_is_an_error(
    fleetprompt: Command, arguments: list[str], code: int, error: str
) -> None:
    fleetprompt("run", "word")
    done = fleetprompt("resume", *arguments)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, f"  code: {error}")


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["--complete", "word"], 4, "gate.not_found"),
        (["--response", "1", "other"], 4, "gate.not_found"),
        (["--from", "word"], 1, "run.not_resumable"),
    ],
)
def test_a_decision_that_fits_nothing_is_an_error(
    at_terminal: At, fleetprompt: Command, arguments: list[str], code: int, error: str
) -> None:
    fleetprompt("run", "word")
    terminal = at_terminal("resume", *arguments)
    terminal.expect(f"code: {error}")
    assert terminal.end() == code


def test_a_failed_run_is_continued_from_a_step(
    root: Path, at_terminal: At, fleetprompt: Command
) -> None:
    failed = fleetprompt("run", "flaky", "--allow-side-effects")
    assert failed.returncode == 1
    declined = at_terminal("resume", "--from", "gate")
    declined.expect("Continue it from `gate`? [y/N] ")
    declined.send("n\n")
    assert declined.end() == 1
    (root / "open").touch()
    terminal = at_terminal("resume", "--from", "gate")
    terminal.expect("Steps that succeeded stay")
    terminal.expect("Continue it from `gate`? [y/N] ")
    terminal.send("y\n")
    terminal.expect("through")
    assert terminal.end() == 0
    assert (root / "runs").read_text() == "run\n"
    assert set(steps(fleetprompt).values()) == {"succeeded"}
    again = at_terminal("resume", "--from", "gate")
    again.expect("code: run.not_resumable")
    assert again.end() == 1


def test_a_failed_run_is_not_continued_from_a_step_it_does_not_have(
    at_terminal: At, fleetprompt: Command
) -> None:
    fleetprompt("run", "flaky", "--allow-side-effects")
    terminal = at_terminal("resume", "--from", "gat")
    terminal.expect("has no step")
    terminal.expect("code: run.step_not_found")
    assert terminal.end() == 4
