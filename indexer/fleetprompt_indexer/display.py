"""Text from a repository, made fit to be shown: one bounded, printable, secret-free string."""

from __future__ import annotations

from functools import lru_cache

_SHORT = 48
"""Tool ids, types and names of inputs: the same few come back in thousands of files."""

_TRACES = (
    *("-----begin", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
    *("glpat-", "xox", "k_live_", "k_test_", "sk-", "aiza", "npm_", "pypi-", "eyj"),
    *("://", "bearer", "basic", "token", "passw", "passphrase", "secret", "credential"),
    *("apikey", "api_key", "api-key", "accesskey", "access_key", "access-key"),
)
"""Without one of these, in small letters, a text has nothing that `redact_text` would change.

Looking for them takes two microseconds where the patterns take a microsecond for a character.
"""


def display(text: str, limit: int, *, lines: bool = False) -> str:
    """The text with secrets redacted, control and direction signs escaped, cut to the limit.

    Args:
        text: As it stands in the file.
        limit: Characters kept; a cut text ends in `…`.
        lines: Keep line breaks; otherwise every run of white space becomes one space.
    """
    if len(text) > limit * 4:
        # What is never shown is not worked on; half of a secret would not look like one.
        text = "".join(text[: limit * 4].rsplit(None, 1)[:1]) + " …"
    if len(text) <= _SHORT and not lines:
        text = _clean_short(text)
    else:
        text = _clean(text.strip() if lines else " ".join(text.split()))
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def display_name(name: str, limit: int) -> str:
    """The name of a file: as `display`, but with every white space as it is."""
    text = _clean(name).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


@lru_cache(maxsize=4096)
def _clean_short(text: str) -> str:
    return _clean(" ".join(text.split()))


def _clean(text: str) -> str:
    small = text.lower()
    for trace in _TRACES:  # a generator would take as long again as the search
        if trace in small:
            from fleetprompt_protocol.redaction import redact_text

            text = redact_text(text)
            break
    if not (text.isascii() and text.isprintable()):
        from fleetprompt_protocol.redaction import escape_controls

        text = escape_controls(text)
    return text
