"""`make demo`: index this repository, run `repo-health` on it, lose the agent, resume, report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FLEETPROMPT = [sys.executable, "-P", "-m", "fleetprompt"]


def say(text: str) -> None:
    """Tell what comes next."""
    sys.stdout.write(f"\n\033[1m{text}\033[0m\n" if sys.stdout.isatty() else f"\n== {text}\n")
    sys.stdout.flush()


def command(*arguments: str) -> None:
    """Run a command as a person would type it, and show it."""
    sys.stdout.write(f"$ fleetprompt {' '.join(arguments)}\n")
    sys.stdout.flush()
    subprocess.run([*FLEETPROMPT, *arguments], cwd=ROOT, check=True)


def run_and_kill() -> str:
    """Start the workflow as a host would, and kill the agent in the middle; gives the run's id."""
    agent = subprocess.Popen(
        [*FLEETPROMPT, "agent", "--root", str(ROOT), "--allow-side-effects"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert agent.stdin is not None and agent.stdout is not None
    request: dict[str, Any] = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "fp_run_workflow",
        "params": {"workflow": "repo-health", "meta": {"stream": True}},
    }
    agent.stdin.write(json.dumps(request) + "\n")
    agent.stdin.flush()
    run_id, finished = "", 0
    for line in agent.stdout:
        message = json.loads(line)
        if "id" in message:
            raise SystemExit(f"the run ended before it could be killed: {message}")
        chunk = message["params"]
        if chunk["channel"] == "status":
            sys.stdout.write(f"  {chunk['data']['text']}\n")
            run_id = chunk["data"]["run_id"]
            finished += chunk["data"]["state"] == "completed"
        if finished == 3:
            break
    agent.kill()
    agent.wait()
    agent.stdin.close()
    agent.stdout.close()
    return run_id


def main() -> int:
    """Show the product's main job on real input: this repository."""
    with tempfile.TemporaryDirectory(prefix="fleetprompt-demo-") as home:
        os.environ["FLEETPROMPT_HOME"] = home
        say("1. What workflows does this repository hold? (nothing is run for this)")
        command("list")
        say("2. Run `repo-health` as a host does: spawn the agent, write a line, read lines")
        run_id = run_and_kill()
        say("3. The agent was killed (SIGKILL) after three steps. What is left of the run?")
        command("show", run_id)
        say("4. Resume: finished steps are not run again, the report comes last")
        command("resume", run_id)
        say("5. Everything is on one timeline")
        command("timeline", run_id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
