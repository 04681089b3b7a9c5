"""Secrets out of what is kept or sent, and dangerous characters out of what is shown.

Three tools, from exact to rough:

* `Scrubber` knows the values of secrets and removes them, in the encodings in which programs print
  them, from JSON, text, bytes, and streams of bytes. What it gives out may be stored.
* `redact_text` and `redact_json` look for what looks like a secret. For displayed copies only: they
  miss some, and take some that are none.
* `escape_controls` makes text safe for a terminal.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fleetprompt_protocol.wire import Json

MARK = "[redacted]"
"""What stands where a secret stood."""

MIN_SECRET_BYTES = 8
"""Shorter values would be found by chance in what is no secret."""


class Scrubber:
    """Removes known secrets, plain and encoded (base64 at any offset, URL, JSON, hexadecimal).

    Args:
        values: The secrets; empty ones are ignored.

    Raises:
        ValueError: One is shorter than 8 bytes.
    """

    def __init__(self, values: Iterable[str | bytes]) -> None:
        forms: set[bytes] = set()
        for value in values:
            data = value if isinstance(value, bytes) else value.encode(errors="surrogatepass")
            if not data:
                continue
            if len(data) < MIN_SECRET_BYTES:
                raise ValueError(f"a secret has fewer than {MIN_SECRET_BYTES} bytes")
            forms |= _forms(data)
        # The longest first: of two that begin alike, the longer one is the whole secret.
        self._forms = sorted(forms, key=lambda form: (-len(form), form))
        self._bytes = re.compile(b"|".join(map(re.escape, self._forms))) if forms else None
        texts = [form.decode(errors="surrogatepass") for form in self._forms if _is_text(form)]
        self._text = re.compile("|".join(map(re.escape, texts))) if texts else None

    def scrub(self, value: Json) -> Json:
        """A copy of the JSON value in which no string and no key holds a secret."""
        if self._text is None:
            return value
        if isinstance(value, str):
            return self._text.sub(MARK, value)
        if isinstance(value, dict):
            return {self.scrub(key): self.scrub(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub(item) for item in value]
        return value

    def scrub_text(self, text: str) -> str:
        """The text without secrets."""
        return text if self._text is None else self._text.sub(MARK, text)

    def scrub_bytes(self, data: bytes) -> bytes:
        """The bytes without secrets."""
        return data if self._bytes is None else self._bytes.sub(MARK.encode(), data)

    def stream(self) -> ScrubStream:
        """A scrubber for bytes that come in chunks: a secret across two is found too."""
        return ScrubStream(self._bytes, self._forms)


class ScrubStream:
    """Scrubs a stream and gives out what cannot be part of a secret; see `Scrubber.stream`."""

    def __init__(self, pattern: re.Pattern[bytes] | None, forms: list[bytes]) -> None:
        self._pattern = pattern
        self._forms = forms
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be given out now; less than the longest form of a secret is held back."""
        if self._pattern is None:
            return data
        return self._scrub(self._held + data, is_end=False)

    def finish(self) -> bytes:
        """What was held back, at the end of the stream."""
        return b"" if self._pattern is None else self._scrub(self._held, is_end=True)

    def _scrub(self, data: bytes, *, is_end: bool) -> bytes:
        held_from = len(data) if is_end else self._tail_start(data)
        parts: list[bytes] = []
        position = 0
        assert self._pattern is not None  # noqa: S101 — the callers have looked
        for match in self._pattern.finditer(data):
            if match.start() >= held_from:
                break
            parts += (data[position : match.start()], MARK.encode())
            position = match.end()
        keep_from = max(position, held_from)
        parts.append(data[position:keep_from])
        self._held = data[keep_from:]
        return b"".join(parts)

    def _tail_start(self, data: bytes) -> int:
        """Where the earliest ending of the data begins that could be the beginning of a form."""
        earliest = len(data)
        for form in self._forms:
            start = max(0, len(data) - len(form) + 1)
            first = form[:1]
            while 0 <= (start := data.find(first, start)) < earliest:
                if form.startswith(data[start:]):
                    earliest = start
                    break
                start += 1
        return earliest


def _forms(data: bytes) -> set[bytes]:
    """The secret as programs print it."""
    forms = {data, data.hex().encode(), data.hex().upper().encode()}
    for offset in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            coded = encode(b"\0" * offset + data).rstrip(b"=")
            # The outermost characters also depend on the neighbours: 8, 16, or 24 bits of them.
            start = (offset * 8 + 5) // 6
            end = (offset + len(data)) * 8 // 6
            forms.add(coded[start:end])
            forms.add(coded[start:])
    text = data.decode(errors="surrogateescape")
    for quoted in (quote(data, safe=""), quote(data), quote_plus(data)):
        forms.add(quoted.encode())
        forms.add(re.sub("%..", lambda match: match[0].lower(), quoted).encode())
    if _is_text(data):
        for ascii_only in (True, False):
            forms.add(json.dumps(text, ensure_ascii=ascii_only)[1:-1].encode(errors="replace"))
        forms.add(json.dumps(text)[1:-1].replace("/", "\\/").encode())
        stripped = data.strip()
        if len(stripped) >= MIN_SECRET_BYTES:
            forms.add(stripped)
    return {form for form in forms if len(form) >= MIN_SECRET_BYTES}


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_SECRET_KINDS: tuple[tuple[str, str], ...] = (
    ("private key", r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----(?:[^-]|-(?!----)){0,20000}"),
    ("AWS access key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("GitHub token", r"\bgh[pousr]_[A-Za-z0-9]{30,255}\b|\bgithub_pat_[A-Za-z0-9_]{22,255}\b"),
    ("GitLab token", r"\bglpat-[A-Za-z0-9_-]{20,64}"),
    ("Slack token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,200}"),
    ("Stripe key", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,200}"),
    ("API key", r"\bsk-[A-Za-z0-9_-]{20,200}"),
    ("Google API key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("npm token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("PyPI token", r"\bpypi-[A-Za-z0-9_-]{50,300}"),
    (
        "JSON web token",
        r"\beyJ[A-Za-z0-9_-]{8,4000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{0,2000}",
    ),
)
_LOOKS_SECRET = re.compile(
    "|".join(f"(?P<k{index}>{pattern})" for index, (_, pattern) in enumerate(_SECRET_KINDS))
)

_CONTEXTS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@\"']{0,256}:)(?P<userinfo>[^\s/@\"']{1,256})(?=@)"
    r"|(?P<header>\b(?:[Bb]earer|[Bb]asic|[Tt]oken)[ \t]+)(?P<credential>[\w.~+/=-]{8,4096})"
    r"|(?P<name>(?i:(?:passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|"
    r"token|credentials?))[\"']?[ \t]{0,4}[=:][ \t]{0,4}[\"']?)(?P<value>[^\s\"',;&]{4,4096})"
)

_SECRET_KEY = re.compile(
    r"passw(?:or)?d|passphrase|secret|api[_-]?key|access[_-]?key|private[_-]?key|authorization"
    r"|cookie|credential|(?:^|[_-])token$",
    re.IGNORECASE,
)


def find_secret(text: str) -> str | None:
    """What kind of well-known secret the text holds, for example `GitHub token`; None for none."""
    match = _LOOKS_SECRET.search(text)
    if match is None or match.lastgroup is None:
        return None
    return _SECRET_KINDS[int(match.lastgroup[1:])][0]


def redact_text(text: str) -> str:
    """The text without what looks like a secret, for display."""
    text = _LOOKS_SECRET.sub(MARK, text)
    return _CONTEXTS.sub(
        lambda match: (match["scheme"] or match["header"] or match["name"]) + MARK, text
    )


def redact_json(value: Json) -> Json:
    """A copy of the value for display: without what looks like a secret by content or key."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, dict):
        return {
            key: MARK
            if isinstance(item, str) and isinstance(key, str) and _SECRET_KEY.search(key)
            else redact_json(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [redact_json(item) for item in value]
    return value


_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def escape_controls(text: str) -> str:
    r"""The text with control, bidi, invisible and surrogate characters as `\x1b`, `\u202e`.

    Newline and tab are kept.
    """
    return _CONTROLS.sub(lambda match: _escape(match[0]), text)


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
