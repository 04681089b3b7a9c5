"""What a stateless client carries from a question to its answer, so that it cannot be forged.

The state says which call asked about which gates of which run, under the MAC of a key that lives as
long as the process. It is no authority: with the state alone nothing can be decided, and the state
of one call does not fit another.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Any

from fleetprompt_agent.language.plan import canonical_json
from fleetprompt_protocol.errors import RequestError

Json = Any


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked."""

    run_id: str
    gate_ids: list[str]
    tries: dict[str, int] = field(default_factory=dict)
    """By id of a judgement: how often a model was asked for it so far."""
    rounds: int = 1
    """How often this call has been answered with a question."""


class RequestStates:
    """Makes and checks states; one for the life of the process."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def seal(self, asked: Asked, tool: str, arguments: Json) -> str:
        """The state for a question that this call has led to."""
        body = canonical_json([asdict(asked), _call_digest(tool, arguments)]).encode()
        return f"{_text(body)}.{_text(self._mac(body))}"

    def open(self, state: str, tool: str, arguments: Json) -> Asked:
        """What was asked, for the answer that came with this call.

        Raises:
            RequestError: `gate.bad_response`: the state is not of this process or this call.
        """
        body_text, _, mac_text = state.partition(".")
        try:
            body, mac = _bytes(body_text), _bytes(mac_text)
        except (ValueError, binascii.Error):
            raise _refused() from None
        if not hmac.compare_digest(mac, self._mac(body)):
            raise _refused()
        asked, call_digest = json.loads(body)
        if call_digest != _call_digest(tool, arguments):
            raise _refused()
        return Asked(**asked)

    def _mac(self, body: bytes) -> bytes:
        # The era is part of what is signed: a later one may mean something else by a state.
        return hmac.new(self._key, b"2026-07-28 gate\0" + body, hashlib.sha256).digest()


def _call_digest(tool: str, arguments: Json) -> str:
    return hashlib.sha256(
        canonical_json([tool, arguments]).encode(errors="surrogatepass")
    ).hexdigest()


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _refused() -> RequestError:
    return RequestError(
        "gate.bad_response",
        "The answer's request state does not belong to this call; nothing was decided. "
        "Call fp_resume_run with the run's id to be asked again.",
    )
