"""An open judgement as a question to the client's model, and the model's text as an answer.

The client chooses the model and may show the person what is asked. What comes back is text of a
model: it is read as JSON and nothing else of it is used. One that does not fit is shown to the
model once more, with what was wrong, a bounded number of times.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from fleetprompt_agent.steps.reading import parse_output

Json = Any

TRIES = 3
"""How often a model is asked for one answer: the question, and twice what was wrong with it."""
MAX_TOKENS = 8_192
"""Of an answer; the protocol wants a limit. Room for some thirty kilobytes of JSON."""
_MAX_SHOWN = 4_000
"""Characters of a bad answer that go back to the model."""
_MAX_MODEL = 128

_FENCED = re.compile(r"```[A-Za-z]*\s*\n(.*?)\n?\s*```", re.DOTALL)


class Judgement(NamedTuple):
    """An answer that is JSON; whether it meets the schema, the engine decides."""

    value: Json
    text: str
    usage: dict[str, Json] | None
    """`{"model": name}`, when the client names the model."""


class BadAnswer(NamedTuple):
    """An answer that cannot be taken."""

    text: str
    problem: str


def sampling_params(gate: dict[str, Json], bad: BadAnswer | None = None) -> dict[str, Json]:
    """The parameters of `sampling/createMessage` for an open gate of kind `judgement`.

    Args:
        gate: The gate, as a run's result has it.
        bad: What the model answered before, if it could not be taken.
    """
    asked = f"{gate['prompt']}\n\n{_form(gate['response_schema'])}"
    messages = [_message("user", asked)]
    if bad is not None:
        again = f"That cannot be taken: {bad.problem}\nAnswer again, with the JSON value alone."
        shown = bad.text[:_MAX_SHOWN] or "(nothing)"
        messages += [_message("assistant", shown), _message("user", again)]
    params: dict[str, Json] = {
        "messages": messages,
        "maxTokens": MAX_TOKENS,
        "includeContext": "none",
    }
    action = gate["action"]
    if action.get("system"):
        params["systemPrompt"] = action["system"]
    if action.get("model"):
        params["modelPreferences"] = {"hints": [{"name": action["model"]}]}
    return params


def read_judgement(result: dict[str, Json]) -> Judgement | BadAnswer:
    """What a result of `sampling/createMessage` says."""
    content = result.get("content")
    blocks = content if isinstance(content, list) else [content]
    text = "".join(
        block["text"]
        for block in blocks
        if isinstance(block, dict) and isinstance(block.get("text"), str)
    ).strip()
    fenced = _FENCED.fullmatch(text)
    inner = fenced[1] if fenced is not None else text
    if not inner:
        return BadAnswer(text, "there is no text in it.")
    value, problem = parse_output(inner.encode("utf-8", "surrogatepass"))
    if problem is not None:
        is_cut = result.get("stopReason") == "maxTokens"
        why = "it was cut at its limit; be shorter." if is_cut else "it is not one JSON value."
        return BadAnswer(text, why)
    model = result.get("model")
    usage = {"model": model[:_MAX_MODEL]} if isinstance(model, str) and model else None
    return Judgement(value, text, usage)


def _form(schema: Json) -> str:
    return (
        "Answer with one JSON value and nothing else: no explanation, no code fence. It must meet "
        f"this JSON Schema: {json.dumps(schema, ensure_ascii=False)}"
    )


def _message(role: str, text: str) -> dict[str, Json]:
    return {"role": role, "content": {"type": "text", "text": text}}
