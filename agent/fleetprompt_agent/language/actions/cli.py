"""`cli`: one program and its arguments."""

from __future__ import annotations

import posixpath
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.actions.action import Action
from fleetprompt_agent.language.expressions import ExpressionError
from fleetprompt_agent.language.templates import literal_template, parse_text

if TYPE_CHECKING:
    from fleetprompt_agent.language.actions.action import Given

_CODE_FLAGS = {
    "sh": r"-[a-z]*c[a-z]*",
    "python": r"-[a-zA-Z]*c",
    "node": r"-[ep]|--eval|--print|-pe",
    "perl": r"-[a-zA-Z]*[eE]",
    "ruby": r"-[a-zA-Z]*e",
    "php": r"-[rBE]",
    "lua": r"-e",
    "osascript": r"-e",
    "powershell": r"-(?:c|command|encodedcommand)",
    "awk": r"-e|--source",
    "deno": r"eval",
    "bun": r"-[ep]|--eval|--print",
}
"""For each kind of interpreter, the flag after which an argument is code."""
_INTERPRETERS = {
    **dict.fromkeys(("sh", "bash", "dash", "zsh", "ksh", "ash", "fish", "csh", "tcsh"), "sh"),
    **{name: name for name in _CODE_FLAGS if name != "sh"},
    "nodejs": "node",
    "pypy": "python",
    "pwsh": "powershell",
    "luajit": "lua",
}


_UNEXPANDED = re.compile(r"\$[A-Z_][A-Z0-9_]*\b(?![.\[])|\$\{\w+\}|^~/|(?<![\w.\[])\*")
"""A variable, a home directory, a pattern: what people expect a shell to replace."""


def read(given: Given) -> Action | None:
    """`cli gh pr list`, or `tool: cli:gh` with `args` in `with`."""
    return _of_words(given) if given.is_command else _of_arguments(given)


def _of_words(given: Given) -> Action | None:
    words = given.words
    if not words:
        hint = "write `cli PROGRAM ARGUMENT …`"
        given.fault("command.empty", "`cli` needs a program", hint=hint)
        return None
    program = words[0].literal
    fault = _program_fault(program)
    if fault is not None:
        given.fault("command.target", fault, word=words[0])
        return None
    for place in _code_with_data([word.literal for word in words]):
        given.fault("command.code_injection", _CODE, hint=_CODE_HINT, word=words[place])
    _warn_unexpanded(given)
    argv = [word.value for word in words]
    return Action("cli", f"cli:{program}", {"argv": argv}, side_effects=True)


def _of_arguments(given: Given) -> Action | None:
    program = given.target or ""
    fault = _program_fault(program)
    if fault is not None:
        given.fault("command.target", fault)
        return None
    for name in given.arguments:
        if name != "args":
            hint = "write `with: {args: [first, second]}`"
            given.fault(
                "command.arguments", f"`cli` takes `args`, not `{name}`", hint=hint, name=name
            )
    arguments = given.arguments.get("args", [])
    if not isinstance(arguments, list):
        given.fault("command.arguments", "`args` is a list of arguments", name="args")
        return None
    literals: list[str | None] = [program]
    for place, argument in enumerate(arguments):
        if argument is None or isinstance(argument, (list, dict)):
            where = given.argument_place("args", place)
            given.report.add("command.arguments", "an argument is text or a number", where)
        literals.append(_literal(argument))
    for place in _code_with_data(literals):
        where = given.argument_place("args", place - 1)
        given.report.add("command.code_injection", _CODE, where, hint=_CODE_HINT)
    argv = [literal_template(program), *arguments]
    return Action("cli", f"cli:{program}", {"argv": argv}, side_effects=True)


_CODE = "data stands inside code: whoever controls the data runs code of their own"
_CODE_HINT = "pass it as an argument after the code, in `env:`, or in `stdin:`"


def _program_fault(program: str | None) -> str | None:
    if program is None:
        return "the program is computed; targets are literals, so that they can be permitted"
    if not program or not program.isprintable() or program in (".", "..") or "${{" in program:
        return "this is no name of a program"
    return None


def _code_with_data(literals: list[str | None]) -> list[int]:
    """Which words are the code of an interpreter, and hold an expression."""
    found: list[int] = []
    if None not in literals:
        return found
    kind: str | None = None
    for place, literal in enumerate(literals):
        if literal is None:
            continue
        kind = _interpreter(literal) or kind
        is_flag = kind is not None and re.fullmatch(_CODE_FLAGS[kind], literal)
        if is_flag and place + 1 < len(literals) and literals[place + 1] is None:
            found.append(place + 1)
    return found


@lru_cache(maxsize=1024)
def _interpreter(word: str) -> str | None:
    """The kind of interpreter that a word names, if it does: `/usr/bin/python3.12`."""
    base = posixpath.basename(word.lower()).removesuffix(".exe")
    return _INTERPRETERS.get(re.sub(r"[0-9.]+$", "", base))


def _warn_unexpanded(given: Given) -> None:
    for word in given.words:
        bare = word.bare
        if "$" not in bare and "*" not in bare and "~" not in bare:
            continue
        match = _UNEXPANDED.search(bare)
        if match is None:
            continue
        sign = match.group()
        hint = (
            "declare an input, or name the files" if sign[0] in "*~" else "write `${{ inputs.… }}`"
        )
        given.report.add(
            "command.unexpanded",
            f"`{sign}` is passed on as it is: nothing is expanded",
            given.place,
            hint=f"{hint}; quote it when that is what you want",
            severity="warning",
            fragment=(given.text, word.start, word.end),
        )


def _literal(argument: Any) -> str | None:
    """The text of an argument without expressions; its syntax is reported elsewhere."""
    try:
        parts = parse_text(argument).parts if isinstance(argument, str) else (str(argument),)
    except ExpressionError:
        return ""
    return "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
