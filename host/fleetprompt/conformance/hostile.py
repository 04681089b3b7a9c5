"""Input that nobody should send: each is answered with an error, or ignored, and life goes on."""

from __future__ import annotations

from dataclasses import dataclass

_HEAD = b'{"jsonrpc":"2.0",'


@dataclass(frozen=True, slots=True)
class Hostile:
    """One line of input."""

    name: str
    line: bytes
    codes: tuple[int, ...] = ()
    """The JSON-RPC codes with which it may be answered; empty: it is not answered."""
    request_id: str | int | None = None
    """The id of its answer; null when it cannot be known."""
    may_succeed: bool = False
    """Whether a result is right, too."""


def _request(name: str, body: bytes, *codes: int, may_succeed: bool = False) -> Hostile:
    """A request with an id that can be read."""
    line = _HEAD + b'"id":"' + name.encode() + b'",' + body + b"}"
    return Hostile(name, line, codes, name, may_succeed)


PARSE, REQUEST, METHOD, PARAMS, OTHER = -32700, -32600, -32601, -32602, -32000

HOSTILE: tuple[Hostile, ...] = (
    Hostile("no-json", b'{"jsonrpc":"2.0","id":1,', (PARSE,), 1),
    Hostile("words", b"hello there", (PARSE,)),
    Hostile("http", b"GET / HTTP/1.1", (PARSE,)),
    Hostile("headers-in-lines", b"Content-Length: 2", (PARSE,)),
    Hostile("invalid-utf8", _HEAD + b'"id":1,"method":"\xff\xfe"}', (PARSE,), 1),
    Hostile("overlong-utf8", _HEAD + b'"id":1,"method":"\xc0\x80"}', (PARSE,), 1),
    Hostile("nul-byte", _HEAD + b'"id":1,"method":"a\x00b"}', (PARSE,), 1),
    Hostile("nul-alone", b"\x00", (PARSE,)),
    Hostile("trailing-comma", _HEAD + b'"id":1,}', (PARSE,), 1),
    Hostile("single-quotes", b"{'jsonrpc':'2.0'}", (PARSE,)),
    Hostile("nan", _HEAD + b'"id":1,"method":"core.ping","params":{"x":NaN}}', (PARSE, REQUEST), 1),
    Hostile("infinity", _HEAD + b'"id":1,"method":"core.ping","params":{"x":-Infinity}}',
            (PARSE, REQUEST), 1),
    Hostile("deep", b"[" * 100_000, (PARSE, REQUEST)),
    Hostile("deep-and-closed", b"[" * 5000 + b"]" * 5000, (PARSE, REQUEST)),
    Hostile("blank", b"   \t "),
    Hostile("null", b"null", (REQUEST,)),
    Hostile("number", b"7", (REQUEST,)),
    Hostile("text", b'"core.ping"', (REQUEST,)),
    Hostile("empty-batch", b"[]", (REQUEST,)),
    Hostile("empty-object", b"{}", (REQUEST,)),
    Hostile("no-method", _HEAD + b'"id":"no-method"}', (REQUEST,), "no-method"),
    Hostile("no-version", b'{"id":"no-version","method":"core.ping"}', (REQUEST,), "no-version"),
    Hostile("old-version", b'{"jsonrpc":"1.0","id":"old-version","method":"core.ping"}',
            (REQUEST,), "old-version"),
    Hostile("id-object", _HEAD + b'"id":{},"method":"core.ping"}', (REQUEST,)),
    Hostile("id-list", _HEAD + b'"id":[1],"method":"core.ping"}', (REQUEST,)),
    Hostile("id-true", _HEAD + b'"id":true,"method":"core.ping"}', (REQUEST,)),
    Hostile("id-fraction", _HEAD + b'"id":1.5,"method":"core.ping"}', (REQUEST,)),
    _request("method-number", b'"method":7', REQUEST),
    _request("method-null", b'"method":null', REQUEST),
    _request("method-empty", b'"method":""', METHOD, REQUEST),
    _request("method-private", b'"method":"__class__"', METHOD),
    _request("method-reserved", b'"method":"rpc.discover"', METHOD),
    _request("method-long", b'"method":"' + b"m" * 100_000 + b'"', METHOD),
    _request("method-surrogate", rb'"method":"\ud800"', METHOD, REQUEST, PARSE),
    _request("method-nul", rb'"method":"core.ping\u0000"', METHOD),
    _request("params-text", b'"method":"core.ping","params":"x"', REQUEST, PARAMS),
    _request("params-list", b'"method":"core.ping","params":[1]', PARAMS),
    _request("meta-number", b'"method":"core.ping","params":{"meta":7}', PARAMS, may_succeed=True),
    _request("unknown-field", b'"method":"core.ping","params":{"later":{"a":[1]}}',
             may_succeed=True),
    _request("unknown-member", b'"method":"core.ping","trace":"x"', may_succeed=True),
    _request("duplicate-key", b'"method":"core.ping","method":"core.ping"', PARSE, REQUEST,
             may_succeed=True),
    _request("huge-number", b'"method":"core.ping","params":{"n":1e99999}', PARSE, REQUEST,
             may_succeed=True),
    _request("many-digits", b'"method":"core.ping","params":{"n":' + b"9" * 10_000 + b"}",
             PARSE, REQUEST, may_succeed=True),
    _request("surrogate", rb'"method":"core.ping","params":{"s":"\udc80\ud800"}', PARSE, REQUEST,
             PARAMS, may_succeed=True),
    _request("wide", b'"method":"core.ping","params":{' +
             b",".join(b'"k%d":0' % n for n in range(20_000)) + b"}", may_succeed=True),
    _request("too-long", b'"method":"core.ping","params":{"s":"' + b"x" * (5 * 1024 * 1024) + b'"}',
             OTHER),
    _request("too-deep", b'"method":"core.ping","params":{"d":' + b"[" * 100 + b"]" * 100 + b"}",
             REQUEST, PARSE),
    Hostile("notification", _HEAD + b'"method":"no.such.thing","params":{}}'),
    Hostile("response-to-nothing", _HEAD + b'"id":987654,"result":{}}'),
    Hostile("error-to-nothing", _HEAD + b'"id":"what","error":{"code":-1,"message":"x"}}'),
    Hostile("response-that-is-none", _HEAD + b'"id":987654,"result":{},"error":{}}'),
    Hostile("cancel-of-nothing", _HEAD + b'"method":"$/cancelRequest","params":{"id":"what"}}'),
    Hostile("cancel-of-no-id", _HEAD + b'"method":"$/cancelRequest","params":{"id":[[]]}}'),
)  # fmt: skip
"""Each stands alone on its line."""
