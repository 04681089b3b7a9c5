"""`doctor`: whether everything that running workflows needs is in order here."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from fleetprompt.cells import fold
from fleetprompt.escaping import escape_line
from fleetprompt.exit_codes import ExitCode
from fleetprompt.health import checks
from fleetprompt.output import stdout_style, width_of, write_json, write_lines

if TYPE_CHECKING:
    import argparse

    from fleetprompt.health import Check

_NAME_CELLS = 17
_SIGNS = {"ok": "succeeded", "warning": "interrupted", "failed": "failed"}


def add_doctor(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt doctor`."""
    parser.set_defaults(act=lambda options: asyncio.run(_examine(options)))


async def _examine(options: argparse.Namespace) -> int:
    found: list[Check] = []
    async for check in checks(options.root):
        found.append(check)
        if not options.json:
            write_lines(_lines(check))
    is_well = all(check.status != "failed" for check in found)
    if options.json:
        write_json({"ok": is_well, "checks": [check.to_json() for check in found]})
    return ExitCode.SUCCEEDED if is_well else ExitCode.FAILED


def _lines(check: Check) -> list[str]:
    style, width = stdout_style(), width_of(sys.stdout)
    state = _SIGNS[check.status]
    sign = style.paint(style.sign(state), style.colour_of(state))
    indent = " " * (_NAME_CELLS + 2)
    first, *rest = fold(escape_line(check.text), max(20, width - len(indent)))
    if check.code:
        rest.append(f"code: {check.code}")
    if check.hint:
        rest += fold(f"→ {check.hint}" if style.unicode else f"> {check.hint}", width - len(indent))
    return [f"{sign} {check.name:<{_NAME_CELLS}}{first}", *(indent + line for line in rest)]
