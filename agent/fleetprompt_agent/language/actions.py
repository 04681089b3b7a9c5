"""What a step does: its `command` or `tool` as a namespace, a tool and arguments."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.command import CommandError, Word, first_word, split_command
from fleetprompt_agent.language.expressions import ExpressionError
from fleetprompt_agent.language.templates import literal_template, parse_text
from fleetprompt_indexer.vocabulary import NAMESPACES, closest, namespace_names

if TYPE_CHECKING:
    from fleetprompt_agent.language.diagnostics import Location, Report
    from fleetprompt_agent.language.models import Step

FLOW_TOOLS = ("noop", "set", "assert", "fail")
"""The built-in tools."""

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


@dataclass(slots=True)
class Action:
    """What a step does, without its circumstances."""

    namespace: str
    tool_id: str
    arguments: Any
    """A template; see `PlanStep.arguments`."""
    words: list[Word] = field(default_factory=list)
    """Of a `command`; empty for a `tool`."""


def read_action(step: Step, location: Location, report: Report) -> Action | None:
    """The action of a step that has `command` or `tool`; None when it has faults."""
    if step.command is not None:
        return _from_command(step.command, (*location, "command"), report)
    if step.tool is not None:
        return _from_tool(step.tool, step.with_, location, report)
    return None


def _from_command(text: str, location: Location, report: Report) -> Action | None:
    name, start, end = first_word(text)
    fragment = (text, start, end)
    if not name:
        report.add(
            "command.empty",
            "the command is empty",
            location,
            hint=f"it begins with a namespace: {_namespaces()}",
        )
        return None
    namespace = name.lower()
    if not _is_namespace(namespace, name, text, location, fragment, report):
        return None
    try:
        words = split_command(text, end, assignments=namespace != "cli")
    except CommandError as error:
        fragment = (text, error.start, error.end)
        report.add(error.code, error.message, location, hint=error.hint, fragment=fragment)
        return None
    except ExpressionError as error:
        fragment = (text, error.start, error.end)
        report.add(f"expression.{error.kind}", error.message, location, fragment=fragment)
        return None
    if namespace == "cli":
        return _program_of_words(text, words, location, report)
    return _flow_of_words(text, words, location, report)


def _is_namespace(
    namespace: str,
    name: str,
    text: str,
    location: Location,
    fragment: tuple[str, int, int],
    report: Report,
) -> bool:
    known = NAMESPACES.get(namespace)
    if known is not None and known.supported:
        return True
    if known is not None or re.fullmatch(r"[a-z][a-z0-9-]*(\.[a-z0-9-]+)+/[\w.-]+", namespace):
        message = f"`{name}` is not supported yet; there are {_namespaces()}"
        report.add("tool.not_supported", message, location, fragment=fragment)
        return False
    close = closest(namespace, NAMESPACES)
    hint = f"did you mean `{close}`?" if close else None
    if hint is None and location[-1] == "command" and "${{" not in name:
        hint = f"to run a program, write `cli {text if len(text) <= 40 else name + ' …'}`"
    message = f"`{name}` is no namespace; there are {_namespaces()}"
    report.add("command.namespace", message, location, hint=hint, fragment=fragment)
    return False


def _namespaces() -> str:
    return ", ".join(f"`{name}`" for name in namespace_names())


# cli


def _program_of_words(
    text: str, words: list[Word], location: Location, report: Report
) -> Action | None:
    if not words:
        report.add(
            "command.empty",
            "`cli` needs a program",
            location,
            hint="write `cli PROGRAM ARGUMENT …`",
        )
        return None
    program = words[0]
    fragment = (text, program.start, program.end)
    if not _check_program(program.literal, location, fragment, report):
        return None
    for word in _code_with_data([word.literal for word in words]):
        fragment = (text, words[word].start, words[word].end)
        _report_code(location, report, fragment)
    _warn_unexpanded(text, words, location, report)
    argv = [word.value for word in words]
    return Action("cli", f"cli:{program.literal}", {"argv": argv}, words)


def _check_program(
    program: str | None,
    location: Location,
    fragment: tuple[str, int, int] | None,
    report: Report,
) -> bool:
    if program is None:
        message = "the program is computed; targets are literals, so that they can be permitted"
        report.add("command.target", message, location, fragment=fragment)
        return False
    if not program or not program.isprintable() or program in (".", ".."):
        message = "this is no name of a program"
        report.add("command.target", message, location, fragment=fragment)
        return False
    return True


def _code_with_data(literals: list[str | None]) -> list[int]:
    """Which words are the code of an interpreter, and hold an expression."""
    found: list[int] = []
    kind: str | None = None
    for place, literal in enumerate(literals):
        if literal is None:
            continue
        base = re.sub(r"[0-9.]+$", "", posixpath.basename(literal.lower()).removesuffix(".exe"))
        kind = _INTERPRETERS.get(base, kind)
        is_flag = kind is not None and re.fullmatch(_CODE_FLAGS[kind], literal)
        if is_flag and place + 1 < len(literals) and literals[place + 1] is None:
            found.append(place + 1)
    return found


def _report_code(
    location: Location, report: Report, fragment: tuple[str, int, int] | None = None
) -> None:
    report.add(
        "command.code_injection",
        "data stands inside code: whoever controls the data runs code of their own",
        location,
        hint="pass it as an argument after the code, in `env:`, or in `stdin:`",
        fragment=fragment,
    )


def _warn_unexpanded(text: str, words: list[Word], location: Location, report: Report) -> None:
    for word in words:
        match = re.search(r"\$[A-Z_][A-Z0-9_]*\b(?![.\[])|\$\{\w+\}|^~/|(?<![\w.\[])\*", word.bare)
        if match is None:
            continue
        sign = match.group()
        hint = (
            "declare an input, or name the files" if sign[0] in "*~" else "write `${{ inputs.… }}`"
        )
        report.add(
            "command.unexpanded",
            f"`{sign}` is passed on as it is: nothing is expanded",
            location,
            hint=f"{hint}; quote it when that is what you want",
            severity="warning",
            fragment=(text, word.start, word.end),
        )


# flow


def _flow_of_words(
    text: str, words: list[Word], location: Location, report: Report
) -> Action | None:
    if not words or words[0].name is not None or words[0].literal is None:
        message = "`flow` needs the name of a built-in step"
        hint = f"one of {', '.join(FLOW_TOOLS)}"
        report.add("command.empty", message, location, hint=hint)
        return None
    tool = words[0]
    fragment = (text, tool.start, tool.end)
    if not _check_flow_tool(str(tool.literal), location, fragment, report):
        return None
    given: dict[str, Any] = {}
    for word in words[1:]:
        fragment = (text, word.start, word.end)
        if word.name is None:
            message = f"`flow {tool.literal}` takes `name=value`"
            report.add("command.arguments", message, location, fragment=fragment)
        elif word.name in given:
            message = f"`{word.name}` is given twice"
            report.add("command.arguments", message, location, fragment=fragment)
        else:
            given[word.name] = word.value
    _check_flow_arguments(str(tool.literal), given, location, report)
    return Action("flow", f"flow:{tool.literal}", given or None, words)


def _check_flow_tool(
    tool: str, location: Location, fragment: tuple[str, int, int] | None, report: Report
) -> bool:
    if tool in FLOW_TOOLS:
        return True
    if tool == "wait":
        message = "`flow wait` is not supported yet"
        report.add("tool.not_supported", message, location, fragment=fragment)
        return False
    close = closest(tool, FLOW_TOOLS)
    hint = f"did you mean `{close}`?" if close else f"there are {', '.join(FLOW_TOOLS)}"
    message = f"`flow` has no `{tool}`"
    report.add("tool.not_found", message, location, hint=hint, fragment=fragment)
    return False


_FLOW_ARGUMENTS = {"assert": {"that", "message"}, "fail": {"message"}, "noop": set[str]()}


def _check_flow_arguments(
    tool: str, given: dict[str, Any], location: Location, report: Report
) -> None:
    allowed = _FLOW_ARGUMENTS.get(tool)
    if allowed is None:
        return
    for name in given:
        if name not in allowed:
            takes = ", ".join(f"`{known}`" for known in sorted(allowed, reverse=True)) or "nothing"
            message = f"`flow {tool}` takes {takes}, not `{name}`"
            report.add("command.arguments", message, location)
    if tool == "assert" and "that" not in given:
        message = "`flow assert` needs `that`: an expression, or a list of them"
        report.add("command.arguments", message, location)


# tool and with


def _from_tool(
    tool: str, given: dict[str, Any] | None, location: Location, report: Report
) -> Action | None:
    where: Location = (*location, "tool")
    if "${{" in tool:
        message = "the tool is computed; targets are literals, so that they can be permitted"
        report.add("command.target", message, where)
        return None
    namespace, colon, rest = tool.partition(":")
    if not colon and "/" in tool:
        namespace = tool
    if not _is_namespace(
        namespace.lower(), namespace, tool, where, (tool, 0, len(namespace)), report
    ):
        return None
    if not rest:
        report.add("command.empty", f"`{namespace}:` is followed by a name", where)
        return None
    if namespace.lower() == "flow":
        if not _check_flow_tool(rest, where, None, report):
            return None
        _check_flow_arguments(rest, given or {}, (*location, "with"), report)
        return Action("flow", f"flow:{rest}", given)
    return _program_of_arguments(rest, given or {}, location, report)


def _program_of_arguments(
    program: str, given: dict[str, Any], location: Location, report: Report
) -> Action | None:
    if not _check_program(program, (*location, "tool"), None, report):
        return None
    where: Location = (*location, "with")
    for name in given:
        if name != "args":
            report.add(
                "command.arguments",
                f"`cli` takes `args`, not `{name}`",
                (*where, name),
                hint="write `with: {args: [first, second]}`",
                on_key=True,
            )
    arguments = given.get("args", [])
    where = (*where, "args")
    if not isinstance(arguments, list):
        report.add("command.arguments", "`args` is a list of arguments", where)
        return None
    literals: list[str | None] = [program]
    for place, argument in enumerate(arguments):
        if argument is None or isinstance(argument, (list, dict)):
            message = "an argument is text or a number"
            report.add("command.arguments", message, (*where, place))
        literals.append(_literal(argument))
    for place in _code_with_data(literals):
        _report_code((*where, place - 1), report)
    return Action("cli", f"cli:{program}", {"argv": [literal_template(program), *arguments]})


def _literal(argument: Any) -> str | None:
    """The text of an argument without expressions; its syntax is reported elsewhere."""
    try:
        parts = parse_text(argument).parts if isinstance(argument, str) else (str(argument),)
    except ExpressionError:
        return ""
    return "".join(map(str, parts)) if all(isinstance(part, str) for part in parts) else None
