"""Secrets do not come through, in any encoding or any chunks; what is shown is harmless."""

from __future__ import annotations

import base64
import json
import unicodedata
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_protocol.redaction import (
    MARK,
    Scrubber,
    escape_controls,
    find_secret,
    redact_json,
    redact_text,
)

SECRET = 'p@ss/wörd+"x"\\ 1&2'
secrets = st.text(st.characters(codec="utf-8"), min_size=8, max_size=40)


@pytest.mark.parametrize(
    "shown",
    [
        SECRET,
        f"before {SECRET} after",
        quote(SECRET),
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        quote_plus(SECRET),
        json.dumps(SECRET),
        json.dumps(SECRET, ensure_ascii=False),
        json.dumps({"a": SECRET}).replace("/", "\\/"),
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
    ],
)
def test_a_secret_is_found_as_programs_print_it(shown: str) -> None:
    scrubber = Scrubber([SECRET])
    assert MARK in scrubber.scrub_text(shown)
    for scrubbed in (scrubber.scrub_text(shown), scrubber.scrub_bytes(shown.encode()).decode()):
        for trace in ("wörd", "w%C3%B6rd", "w\\u00f6rd", SECRET.encode().hex()[4:12]):
            assert trace not in scrubbed


@settings(max_examples=80)
@given(secrets, st.binary(max_size=7), st.binary(max_size=7))
def test_a_secret_within_base64_is_found_at_any_offset(
    secret: str, before: bytes, after: bytes
) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        text = encode(before + secret.encode() + after).decode()
        left = Scrubber([secret]).scrub_text(text).replace(MARK, "")
        # What may be left of a secret are the bits that share a character with a neighbour.
        assert len(left) <= len(encode(before + after)) + 8
        assert MARK in Scrubber([secret]).scrub_text(text)


@settings(max_examples=80)
@given(
    st.lists(secrets, min_size=1, max_size=3),
    st.recursive(
        st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    ),
    st.data(),
)
def test_no_string_and_no_key_of_a_value_holds_a_secret(
    values: list[str], around: Any, data: st.DataObject
) -> None:
    secret = data.draw(st.sampled_from(values))
    value = {"a": [around, f"x{secret}y", {secret: around}], "n": 5, "b": None}
    scrubbed = json.dumps(Scrubber(values).scrub(value), ensure_ascii=False)
    for known in values:
        if known not in MARK:
            assert json.dumps(known, ensure_ascii=False)[1:-1] not in scrubbed


@settings(max_examples=100)
@given(
    st.lists(st.text("ab", min_size=8, max_size=12).map(str.encode), min_size=1, max_size=4),
    st.lists(st.text("abc", max_size=30).map(str.encode), max_size=6),
    st.lists(st.integers(1, 9), min_size=1, max_size=5),
    st.data(),
)
def test_any_chunking_of_a_stream_gives_the_same_as_the_whole(
    values: list[bytes], others: list[bytes], sizes: list[int], data: st.DataObject
) -> None:
    parts = [part for other in others for part in (other, data.draw(st.sampled_from(values)))]
    whole = b"".join(parts)
    scrubber = Scrubber(values)
    stream, got, start = scrubber.stream(), b"", 0
    while start < len(whole):
        size = sizes[start % len(sizes)]
        got += stream.feed(whole[start : start + size])
        start += size
    got += stream.finish()
    assert got == scrubber.scrub_bytes(whole)
    assert not any(value in got for value in values)


def test_what_cannot_begin_a_secret_is_given_out_at_once() -> None:
    stream = Scrubber(["swordfish-1"]).stream()
    assert stream.feed(b"hello\n") == b"hello\n"
    assert stream.feed(b"more sword") == b"more "
    assert stream.feed(b"s\n") == b"swords\n"
    assert stream.feed(b"swordfish-") == b""
    assert stream.finish() == b"swordfish-"


def test_without_secrets_nothing_changes() -> None:
    scrubber = Scrubber(["", b""])
    value = {"a": ["x", 1]}
    assert scrubber.scrub(value) is value
    assert scrubber.scrub_text("x") == "x"
    assert scrubber.stream().feed(b"x") == b"x"
    assert scrubber.stream().finish() == b""


def test_a_secret_that_is_not_text_is_found_in_bytes_and_base64() -> None:
    secret = b"\xff\xfe\x00binary!!"
    scrubber = Scrubber([secret])
    assert scrubber.scrub_bytes(b"a" + secret + b"b") == b"a" + MARK.encode() + b"b"
    assert MARK in scrubber.scrub_text(base64.b64encode(b"x" + secret).decode())


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 8 bytes") as caught:
        Scrubber(["hunter2"])
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("key AKIAIOSFODNN7EXAMPLE.", "AWS access key"),
        ("ghp_" + "a1" * 18, "GitHub token"),
        ("github_pat_" + "a1" * 20, "GitHub token"),
        ("glpat-" + "a" * 20, "GitLab token"),
        ("xoxb-123456789012-abcdef", "Slack token"),
        ("sk_live_" + "a" * 20, "Stripe key"),
        ("sk-proj-" + "a" * 30, "API key"),
        ("AIza" + "a" * 35, "Google API key"),
        ("npm_" + "a" * 36, "npm token"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc_def", "JSON web token"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "private key"),
    ],
)
def test_well_known_secrets_are_recognised(text: str, kind: str) -> None:
    assert find_secret(text) == kind
    assert MARK in redact_text(text)
    assert find_secret(redact_text(text)) is None


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("https://ada:hunter2@example.org/x", "hunter2"),
        ("Authorization: Bearer abcdef123456", "abcdef123456"),
        ('password = "hunter2"', "hunter2"),
        ("DB_PASSWORD=hunter2", "hunter2"),
        ('{"api_key": "hunter2"}', "hunter2"),
        ("client-secret: hunter2, next", "hunter2"),
        ("token=hunter2&x=1", "hunter2"),
    ],
)
def test_what_stands_where_secrets_stand_is_redacted(text: str, gone: str) -> None:
    redacted = redact_text(text)
    assert gone not in redacted
    assert MARK in redacted
    for kept in ("https://", "example.org", "next", "x=1", "Authorization"):
        assert (kept in text) == (kept in redacted)


@pytest.mark.parametrize(
    "text",
    [
        "the password is wrong",
        "https://example.org:8080/a@b",
        "tokens: 15",
        "a basic idea",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "task-12345678901234567890123",
    ],
)
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text
    assert find_secret(text) is None


def test_keys_that_name_secrets_hide_their_text() -> None:
    value = {"password": "abc", "apiKey": "x", "nested": [{"Authorization": "y"}], "tokens": 5}
    assert redact_json(value) == {
        "password": MARK,
        "apiKey": MARK,
        "nested": [{"Authorization": MARK}],
        "tokens": 5,
    }


@settings(max_examples=100)
@given(st.text(st.characters(codec=None)))
def test_what_is_shown_has_no_control_bidi_or_surrogate_character(text: str) -> None:
    shown = escape_controls(text)
    shown.encode()
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in {"Cc", "Cs"}
        assert unicodedata.bidirectional(character) not in {
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"),
        }


def test_escapes_are_readable() -> None:
    assert escape_controls("a\x1b[31m\r\u202eb\ud800\U000e0041\x9b\n\tc") == (
        "a\\x1b[31m\\x0d\\u202eb\\ud800\\U000e0041\\x9b\n\tc"
    )
    assert escape_controls("héllo 👩\u200d💻 العربية") == "héllo 👩\u200d💻 العربية"


@pytest.mark.parametrize(
    "text",
    [
        *("a" * 200_000, "https://" * 30_000, "password" * 30_000, "eyJ" * 50_000, "a." * 99_000),
        *("-----BEGIN PRIVATE KEY-----" * 3000, "x=" * 100_000, "token " * 40_000),
    ],
)
def test_no_text_takes_long(text: str) -> None:
    """Bounded by the runner's own limit: a pattern that backtracks would never come back."""
    redact_text(text)
    find_secret(text)
    escape_controls(text)
