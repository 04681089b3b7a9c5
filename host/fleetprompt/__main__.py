"""The `fleetprompt` command.

`fleetprompt agent` is spawned by other programs and owns its standard streams, and `--version` is
asked for by scripts: both are answered here, before any command-line machinery is imported.
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Run the command with these arguments (default: the process's own); gives the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if sys.platform == "win32":
        sys.stderr.write("FleetPrompt runs on Linux and macOS; Windows is not supported.\n")
        return 2
    if arguments[:1] == ["agent"]:
        from fleetprompt_agent.main import main as agent_main

        return agent_main(arguments[1:])
    if arguments in (["--version"], ["-V"]):
        from fleetprompt_protocol.version import __version__

        print(f"fleetprompt {__version__}")
        return 0
    from fleetprompt.command_line import run_command_line

    return run_command_line(arguments)


if __name__ == "__main__":
    sys.exit(main())
