"""What a person types to search, as an expression of SQLite's full-text index."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_WORDS = 16
MAX_WORD = 64


def match_expression(
    words: str, *, tool: str | None = None, agent: str | None = None
) -> str | None:
    """The expression that holds for entries with all the words; None when there are none.

    Every word is quoted, so that nothing that is typed is an operator of the index. The index cuts
    a quoted word into a phrase where it has other signs than letters and digits.
    """
    typed = [_quoted(word) for word in words.split()[:MAX_WORDS] if _has_letters(word)]
    if typed and not words[-1].isspace():
        typed[-1] += " *"  # the word that is being typed
    if tool is not None and _has_letters(tool):
        typed.append(f"tools : {_quoted(tool)}")
    if agent is not None and _has_letters(agent):
        typed.append(f"agents : {_quoted(agent)}")
    return " AND ".join(typed) or None


def ranked(words: str, matches: Iterable[tuple[int, str, str, str, str, str]]) -> list[int]:
    """The ids of the matches, best first.

    A word counts most in the workflow's id, then in its name, its tools and agents, its inputs; one
    that is only in the description counts least. (The index's own ranking, bm25, looks at every
    entry that holds one of the words: half a second for a word that 100,000 entries hold.)

    Args:
        words: What was searched.
        matches: For each its number, then id, name, tools, agents and names of inputs, as text.
    """
    wanted = words.casefold().split()[:MAX_WORDS]
    whole = "-".join(wanted)
    scored: list[tuple[int, int, str, int]] = []
    for entry_id, workflow_id, name, tools, agents, inputs in matches:
        folded = name.casefold()
        uses = f"{tools}\n{agents}".casefold()
        takes = inputs.casefold()
        score = 100 if workflow_id == whole else 0
        for word in wanted:
            if word in workflow_id:
                score += 8
            elif word in folded:
                score += 6
            elif word in uses:
                score += 3
            elif word in takes:
                score += 2
            else:
                score += 1
        scored.append((-score, len(name), workflow_id, entry_id))
    return [entry_id for *_, entry_id in sorted(scored)]


def _quoted(word: str) -> str:
    plain = word[:MAX_WORD].replace("\0", "").encode("utf-8", "replace").decode()
    return f'"{plain.replace(chr(34), chr(34) * 2)}"'


def _has_letters(word: str) -> bool:
    return any(character.isalnum() for character in word[:MAX_WORD])
