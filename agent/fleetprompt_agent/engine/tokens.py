"""Gate tokens: 256 random bits, hashed at rest, compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from fleetprompt_protocol.ids import is_id

if TYPE_CHECKING:
    from fleetprompt_agent.engine.core.state import RunState

PREFIX = "fpg_"
"""Makes a token recognisable, so that redaction finds it in text."""


def new_token(gate_id: str) -> tuple[str, str]:
    """A token for the gate and the hash to keep: `(token, hash)`."""
    token = f"{PREFIX}{gate_id}.{secrets.token_urlsafe(32)}"
    return token, token_hash(token)


def token_hash(token: str) -> str:
    """What is kept of a token (sha256, hex)."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def gate_of(token: str) -> tuple[str, str] | None:
    """The `(run_id, gate_id)` that a token claims to be for, or None for what is no token."""
    if not token.startswith(PREFIX):
        return None
    gate_id = token.removeprefix(PREFIX).rpartition(".")[0]
    run_id, mark, number = gate_id.rpartition(".g")
    if not mark or not is_id(run_id) or not (number.isascii() and number.isdecimal()):
        return None
    return run_id, gate_id


def matches(token: str, kept_hash: str) -> bool:
    """Whether the token is the one whose hash was kept."""
    return same_hash(token_hash(token), kept_hash)


def same_hash(given_hash: str, kept_hash: str) -> bool:
    """Whether two hashes are the same, in constant time."""
    return hmac.compare_digest(given_hash, kept_hash)


class IssuedTokens:
    """The tokens of open gates that this process issued: in clear here, and nowhere else."""

    def __init__(self) -> None:
        self._by_run: dict[str, dict[str, str]] = {}

    def of(self, run_id: str) -> dict[str, str]:
        """Gate id to token: the run's, to be added to."""
        return self._by_run.setdefault(run_id, {})

    def open(self, state: RunState) -> dict[str, str]:
        """Gate id to token, of the run's open gates; tokens of other gates are forgotten."""
        open_ids = {gate.gate_id for gate in state.open_gates}
        kept = self._by_run.get(state.run_id, {})
        for gate_id in kept.keys() - open_ids:
            del kept[gate_id]
        if state.is_terminal:
            self._by_run.pop(state.run_id, None)
        return dict(kept)
