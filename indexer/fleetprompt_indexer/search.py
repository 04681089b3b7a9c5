"""What a person types to search, as an expression of SQLite's full-text index."""

from __future__ import annotations

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


def _quoted(word: str) -> str:
    plain = word[:MAX_WORD].replace("\0", "").encode("utf-8", "replace").decode()
    return f'"{plain.replace(chr(34), chr(34) * 2)}"'


def _has_letters(word: str) -> bool:
    return any(character.isalnum() for character in word[:MAX_WORD])
