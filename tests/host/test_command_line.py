"""The command as a whole: what it costs, what it says of itself, what it does with faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleetprompt.command_line import COMMANDS, Command, overview, parser_of

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_and_argument_has_help_and_is_documented(command: Command) -> None:
    assert f"  {command.name:<13}{command.summary}" in overview()
    heading = f"\n## `fleetprompt {command.name}"
    assert heading in DOCS
    section = DOCS.split(heading)[1].split("\n## ")[0]
    for action in parser_of(command)._actions:  # argparse has no other way in
        if action.help == "==SUPPRESS==" or action.dest in ("help", "root", "json"):
            continue
        assert action.help, action.dest
        for option in action.option_strings:
            assert f"`{option}" in section, f"{command.name} {option}"


def test_no_command_is_documented_that_does_not_exist() -> None:
    documented = {line.split()[2].rstrip("`") for line in DOCS.splitlines() if _is_heading(line)}
    assert documented == {command.name for command in COMMANDS} | {"agent"}


def _is_heading(line: str) -> bool:
    return line.startswith("## `fleetprompt ")


def test_every_exit_code_is_documented() -> None:
    from fleetprompt.exit_codes import ExitCode

    for code in ExitCode:
        assert f"| {int(code)} |" in DOCS


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "usage: fleetprompt COMMAND"),
        (["lits"], 2, "Did you mean `list`?"),
        (["--root", "x", "list"], 2, "must follow a command"),
        (["run"], 2, "WORKFLOW"),
        (["run", "x", "--allow"], 2, "--allow"),
        (["resume", "--retry", "a", "--fail", "b"], 2, "not allowed with"),
        (["run", "x", "--allow-side-effect"], 2, "Did you mean `--allow-side-effects`?"),
        (["list", "x"], 2, "`x` is one argument too many."),
        (["runs", "--limit", "0"], 2, "`0` is no whole number of at least 1"),
        (["logs", "a", "--attempt", "last"], 2, "`last` is no whole number"),
        (["logs", "a", "--channel", "out"], 2, "`out` is none of stdout, stderr, json"),
        (["help", "lits"], 2, "Did you mean `list`?"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    fleetprompt: Run, arguments: list[str], code: int, said: str
) -> None:
    done = fleetprompt(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    if arguments:
        assert "code: arguments.invalid" in done.stderr
        as_json = json.loads(fleetprompt(*arguments, "--json").stdout)
        assert (as_json["ok"], as_json["error"]["code"]) == (False, "arguments.invalid")


def test_help_is_given_for_one_command(fleetprompt: Run) -> None:
    done = fleetprompt("help", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == fleetprompt("run", "--help").stdout


def test_a_full_standard_output_is_named(repository: Path, environ: dict[str, str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "fleetprompt", "list"],
            cwd=repository, env=environ, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1
    assert "Standard output cannot be written: No space left on device." in done.stderr
    assert "code: output.unwritable" in done.stderr


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded once the code has run, and are not at the start of Python."""
    script = f"import sys; before = set(sys.modules)\n{code}\nprint(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {
    "asyncio",
    "pydantic",
    "jsonrpcserver",
    "jsonschema_rs",
    "sqlite3",
    "structlog",
    "uuid_utils",
}


def test_the_version_costs_no_more_than_the_interpreter() -> None:
    loaded = loaded_by("from fleetprompt.__main__ import main; main(['--version'])")
    assert loaded <= {
        "__future__",
        "fleetprompt",
        "fleetprompt.__main__",
        "fleetprompt_protocol",
        "fleetprompt_protocol.version",
    }


def test_the_list_loads_nothing_that_only_an_agent_needs(root: Path) -> None:
    loaded = loaded_by(
        f"from fleetprompt.__main__ import main; main(['list', '--root', {str(root)!r}])"
    )
    assert not loaded & HEAVY


def test_importing_the_package_loads_nothing_else() -> None:
    loaded = loaded_by("import fleetprompt")
    assert not loaded & (HEAVY | {"argparse", "fleetprompt.client"})
    assert "fleetprompt.client" in loaded_by("import fleetprompt; fleetprompt.Client")


def test_nothing_of_the_working_directory_is_imported(root: Path, fleetprompt: Run) -> None:
    for name in ("agent", "protocol", "indexer", "host"):
        (root / name).mkdir()
        (root / name / "__init__.py").write_text("raise SystemExit('imported')")
    done = fleetprompt("list", env={"PYTHONPATH": "."})
    assert (done.returncode, "imported" in done.stderr) == (0, False)


def test_a_fault_of_ours_is_logged_under_a_reference_and_not_shown(
    home: Path, environ: dict[str, str]
) -> None:
    script = (
        "import sys; from fleetprompt import command_line as c\n"
        "c.COMMANDS = (c.Command('odd', '', 'no_such_module'),)\n"
        "sys.exit(c.run_command_line(['odd']))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", script], env=environ, capture_output=True, text=True
    )
    assert done.returncode == 70
    (sentence,) = done.stderr.splitlines()
    reference = sentence.partition("Look for ")[2].partition(" ")[0]
    log = (home / "log" / "host.log").read_text()
    assert f"fault {reference}\nTraceback" in log
    assert "no_such_module" in log
    assert "no_such_module" not in done.stderr


def test_a_reader_that_has_gone_is_no_fault(root: Path, environ: dict[str, str]) -> None:
    for i in range(400):
        file = root / ".fleetprompt" / "workflows" / f"workflow{i}.yaml"
        file.write_text("description: " + "long " * 60 + "\nsteps: []\n")
    done = subprocess.run(
        f"{sys.executable} -P -m fleetprompt list --json | head -c 10",
        shell=True, cwd=root, env=environ, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ('{\n  "workf', "")
