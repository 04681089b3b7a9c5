"""Programs that do what a step should not: they end with their step, and its result is true.

What single processes and trees may do is tested beneath, in `tests/agent/steps`; here a whole agent
runs them, lets them end or cancels them, and goes on.
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING

import pytest
from fleetprompt_testing.survivors import survivors

if TYPE_CHECKING:
    from fleetprompt_testing.workspace import Workspace

BEGIN = """\
import os, signal, sys, time
guard = os.getppid()
above = int(open(f'/proc/{guard}/stat').read().rpartition(')')[2].split()[1])
open('begun', 'x').close()
"""

PROGRAMS: dict[str, tuple[str, set[str]]] = {
    "closes its pipes and lives on": ("for fd in (0, 1, 2): os.close(fd)\ntime.sleep(1)", {"ok"}),
    "leaves a hundred sessions behind": (
        "for _ in range(100):\n    if os.fork() == 0:\n        os.setsid(); time.sleep(1000)",
        {"ok"},
    ),
    "leaves a writer on its pipe": (
        (
            "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        while True:\n"
            "            os.write(1, b'y' * 1000); time.sleep(0.01)\n    os._exit(0)\nprint('main')"
        ),
        {"ok"},
    ),
    "writes ten thousand lines": ("for _ in range(10_000): os.write(1, b'a\\n')", {"ok"}),
    "writes what is no text": ("for n in range(20_000): os.write(1 + n % 2, b'\\xff')", {"ok"}),
    "takes every descriptor": (
        "try:\n    while True: os.dup(0)\nexcept OSError: pass",
        {"ok"},
    ),
    "wants a terminal": ("try: os.open('/dev/tty', os.O_RDWR)\nexcept OSError: pass", {"ok"}),
    "stops itself": (
        (
            "if os.fork() == 0:\n    time.sleep(0.5); os.kill(os.getppid(), signal.SIGCONT)\n"
            "    os._exit(0)\nos.kill(os.getpid(), signal.SIGSTOP)"
        ),
        {"ok"},
    ),
    "dies of a signal": ("os.kill(os.getpid(), signal.SIGSEGV)", {"step.signaled"}),
    "signals its guards": (
        (
            "for number in (1, 2, 3, 10, 12, 13, 14, 15, 20, 21, 22, 30):\n"
            "    os.kill(guard, number); os.kill(above, number)\ntime.sleep(0.2)"
        ),
        {"ok"},
    ),
    "kills its guard": ("os.kill(guard, signal.SIGKILL)\ntime.sleep(1000)", {"supervisor.lost"}),
    "kills both guards": (
        "os.kill(above, signal.SIGKILL); os.kill(guard, signal.SIGKILL)\ntime.sleep(1000)",
        {"supervisor.lost"},
    ),
    "kills the upper guard": ("os.kill(above, signal.SIGKILL)\ntime.sleep(0.2)", {"ok"}),
}
"""What they do after `BEGIN`, and how their step ends when it is let end."""


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["let end", "cancelled"])
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_program_that(workspace: Workspace, name: str, *, is_cancelled: bool) -> None:
    source, ends = PROGRAMS[name]
    mark = f"mark-of-{workspace.root}"
    (workspace.root / "program.py").write_text(BEGIN + source)
    workspace.write(
        "w.yaml",
        f"env: {{MARK: '{mark}'}}\n"
        f"steps: [{{id: a, tool: cli:{sys.executable}, with: {{args: [-I, -S, program.py]}}}}]\n",
    )
    agent = workspace.trusted()
    call = agent.send("fp_run_workflow", {"workflow": "w", "meta": {"stream": True}})
    run_id = agent.wait_for_state("a", "started")["run_id"]
    if is_cancelled:
        for _ in range(3000):
            if (workspace.root / "begun").exists():
                break
            select.select([], [], [], 0.01)
        agent.send("fp_cancel_execution", {"run_id": run_id})
    run = agent.answer(call)["result"]
    assert survivors(mark) == []
    (step,) = run["steps"]
    outcome = "ok" if step["status"] == "succeeded" else step.get("error", {}).get("code")
    if is_cancelled:
        assert run["status"] == "canceled" or outcome in ends, run
    else:
        assert outcome in ends, run
    if outcome in ("supervisor.lost", "step.signaled"):
        assert (step["status"], run["gates"][0]["kind"]) == ("unknown", "unknown_outcome")
    assert agent.call("fp_list_runs")["runs"][0]["run_id"] == run_id
    assert agent.close() == 0
    assert "Traceback" not in agent.log
