"""Text from a repository, made fit to be shown: one bounded, printable, secret-free string."""

from __future__ import annotations


def display(text: str, limit: int, *, lines: bool = False) -> str:
    """The text with secrets redacted, control and direction signs escaped, cut to the limit.

    Args:
        text: As it stands in the file.
        limit: Characters kept; a cut text ends in `…`.
        lines: Keep line breaks; otherwise every run of white space becomes one space.
    """
    text = text[: limit * 4]  # redaction and escaping of what is never shown is wasted
    text = text.strip() if lines else " ".join(text.split())
    if not (text.isascii() and text.isprintable()):
        text = "".join(
            c if c.isprintable() or (lines and c == "\n") else c.encode("unicode_escape").decode()
            for c in text
        )
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
