"""`http`: one request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fleetprompt_agent.language.actions.action import Action
from fleetprompt_indexer.vocabulary import closest

if TYPE_CHECKING:
    from fleetprompt_agent.language.actions.action import Given

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
READING_METHODS = ("GET", "HEAD")
"""Methods that change nothing, by the standard."""

_ARGUMENTS = ("url", "headers", "json", "body", "expect")
_ORIGIN = re.compile(
    r"(https?)://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?(?=[/?#]|\Z)"
)


def origin(url: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL whose origin is literal; None when it is not."""
    match = _ORIGIN.match(url)
    if match is None:
        return None
    scheme, host, port = match.groups()
    return scheme, host.lower(), int(port) if port else (443 if scheme == "https" else 80)


def read(given: Given) -> Action | None:
    """`http GET https://…`, or `tool: http:GET` with `url` and more in `with`."""
    arguments = dict(given.arguments)
    method = given.target
    if method is None:
        plain = [word for word in given.words if word.name is None]
        if len(plain) != 2 or plain[0].literal is None:
            message = "`http` takes a method and a URL"
            given.fault("command.arguments", message, hint="write `http GET https://…`")
            return None
        method = plain[0].literal
        arguments["url"] = plain[1].value
    if method.upper() not in METHODS:
        close = closest(method, METHODS)
        hint = f"did you mean `{close}`?" if close else f"one of {', '.join(METHODS)}"
        given.fault("command.arguments", f"`{method}` is no method of HTTP", hint=hint)
        return None
    if not _are_sound(arguments, given):
        return None
    arguments["method"] = method.upper()
    is_literal = "${{" not in arguments["url"]
    side_effects = not (is_literal and method.upper() in READING_METHODS)
    return Action("http", f"http:{method.upper()}", arguments, side_effects)


def _are_sound(arguments: dict[str, Any], given: Given) -> bool:
    sound = True
    for name in arguments:
        if name not in _ARGUMENTS:
            close = closest(name, _ARGUMENTS)
            hint = f"did you mean `{close}`?" if close else f"it takes {', '.join(_ARGUMENTS)}"
            given.fault("command.arguments", f"`http` has no `{name}`", hint=hint, name=name)
            sound = False
    if "json" in arguments and "body" in arguments:
        given.fault("command.arguments", "a request has `json` or `body`, not both", name="body")
        sound = False
    if "headers" in arguments and not isinstance(arguments["headers"], dict):
        given.fault("command.arguments", "`headers` is a map of names to text", name="headers")
        sound = False
    url = arguments.get("url")
    if not isinstance(url, str) or origin(url) is None:
        given.fault(
            "command.target",
            "the URL begins with a literal `http://host` or `https://host`",
            hint="only path and query may be computed, so that the host can be permitted",
            name="url",
        )
        sound = False
    return sound
