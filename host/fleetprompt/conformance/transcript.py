"""Transcripts: what is said and what must be answered, one JSON object a line.

    {"about": "…"}            what must be so; the first line
    {"token": false}          start the program without a session token
    {"play": "welcome"}       the lines of another transcript first
    {"send": {…}}             a message; `"jsonrpc"` is added
    {"raw": "…"}              bytes as they are, each character one byte
    {"expect": {…}}           a message that has these members comes; others may come before it
    {"save": {"name": "id"}}  keep a member of the message that came last, by its dotted path
    {"never": {…}}            no message so far has these members
    {"close": true}           end its input
    {"end": true}             it ends by itself

In what is expected `"$any"` is anything, `"$text"` a text that is not empty, `"$number"` a number,
`"$list"` a list, `"$object"` an object, `"$one of:a|b"` one of these texts or numbers. In both,
`"$name"` is what was saved under that name, and `"$token"` the session token.
"""

from __future__ import annotations

import json
from functools import partial
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias

from fleetprompt.conformance.subject import TOKEN, Violation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.resources.abc import Traversable

    from fleetprompt.conformance.subject import Subject

Json: TypeAlias = Any

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "$text": str, "$number": (int, float), "$list": list, "$object": dict,
}  # fmt: skip


class Transcript:
    """One transcript.

    Args:
        file: Where it stands.
    """

    def __init__(self, file: Traversable) -> None:
        self.name = file.name.removesuffix(".ndjson")
        """The file's name."""
        self._folder = file.parent if hasattr(file, "parent") else None
        self.lines = _lines_of(file)
        """What is said and expected, after the first line."""
        self.about: str = self.lines.pop(0)["about"]
        """What must be so."""
        self.has_token = {"token": False} not in self.lines
        """Whether the program is started with a session token."""

    def play(self, subject: Subject) -> None:
        """Say every line and look at what comes.

        Raises:
            Violation: something else came.
        """
        self._play(subject, {"token": TOKEN})

    def _play(self, subject: Subject, kept: dict[str, Json]) -> None:
        last: Json = None
        for line in self.lines:
            match line:
                case {"token": _}:
                    pass
                case {"play": str(name)}:
                    Transcript(self._beside(name))._play(subject, kept)
                case {"send": dict(message)}:
                    subject.send(**_filled(message, kept))
                case {"raw": str(text)}:
                    subject.write(text.encode("latin-1"))
                case {"expect": dict(pattern)}:
                    wanted = _filled(pattern, kept)
                    last = subject.expect(json.dumps(pattern), partial(fits, wanted))
                case {"save": dict(names)}:
                    kept |= {name: _member(last, path) for name, path in names.items()}
                case {"never": dict(pattern)}:
                    wanted = _filled(pattern, kept)
                    if any(fits(wanted, message) for message in subject.messages):
                        raise Violation(f"it wrote {json.dumps(pattern)}")
                case {"close": True}:
                    subject.close_input()
                case {"end": True}:
                    subject.expect_end()
                case _:
                    raise ValueError(f"{self.name}: a line that means nothing: {line}")

    def _beside(self, name: str) -> Traversable:
        assert self._folder is not None  # noqa: S101  # transcripts lie in a folder
        beside: Traversable = self._folder / f"{name}.ndjson"
        return beside


def transcripts(role: str) -> list[Transcript]:
    """The transcripts for a role, by name."""
    folder = files("fleetprompt.conformance") / "transcripts" / role
    found = [file for file in folder.iterdir() if file.name.endswith(".ndjson")]
    return [Transcript(file) for file in sorted(found, key=lambda file: file.name)]


def fits(pattern: Json, value: Json) -> bool:
    """Whether the value is as the pattern says; objects may have more members."""
    if isinstance(pattern, str) and pattern.startswith("$"):
        if pattern.startswith("$one of:"):
            return str(value) in pattern.removeprefix("$one of:").split("|")
        if pattern == "$any":
            return True
        kind = _KINDS[pattern]
        return isinstance(value, kind) and not isinstance(value, bool) and value != ""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            name in value and fits(member, value[name]) for name, member in pattern.items()
        )
    if isinstance(pattern, list):
        return (
            isinstance(value, list)
            and len(value) == len(pattern)
            and all(map(fits, pattern, value))
        )
    return type(pattern) is type(value) and bool(pattern == value)


def _lines_of(file: Traversable) -> list[dict[str, Json]]:
    text = file.read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _filled(value: Json, kept: Mapping[str, Json]) -> Json:
    """The value with what was saved in place of its name."""
    if isinstance(value, str) and value.startswith("$"):
        return kept.get(value[1:], value)
    if isinstance(value, dict):
        return {name: _filled(member, kept) for name, member in value.items()}
    if isinstance(value, list):
        return [_filled(member, kept) for member in value]
    return value


def _member(value: Json, path: str) -> Json:
    for name in path.split("."):
        value = value[int(name)] if isinstance(value, list) else value[name]
    return value
