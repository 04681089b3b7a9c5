"""Long output, given page by page: read and folded once, not once a page."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from fleetprompt_agent.tools.inputs import GetOutputInput

Json: TypeAlias = Any


@dataclass(slots=True)
class KeptOutput:
    """What is kept of one attempt of a step, or of the run itself."""

    answer: dict[str, Json]
    """`fp_get_output`'s answer but for the channels."""
    result: dict[str, Json]
    """The step's result; of a run, the text of the field that is read."""
    _texts: dict[str, str] = field(default_factory=dict)

    def text(self, channel: str) -> str | None:
        """All of a channel; None when the step has nothing of the kind."""
        if channel != "json":
            text = self.result.get(channel)
            return text if isinstance(text, str) else None
        # What a program printed stands in `stdout` already.
        if "json" not in self.result or "stdout" in self.result:
            return None
        if channel not in self._texts:
            self._texts[channel] = json.dumps(self.result["json"], ensure_ascii=False, indent=2)
        return self._texts[channel]


class OutputPages:
    """Remembers the output of which a page was asked last, until its last page is given."""

    def __init__(self) -> None:
        self._last: KeptOutput | None = None

    def keep(self, output: KeptOutput) -> None:
        """Remember the output, and forget any other."""
        self._last = output

    def take(self, given: GetOutputInput) -> KeptOutput | None:
        """The output that a later page is asked of, when it is the one remembered.

        The run and the step must be named as the first page has named them.
        """
        kept, self._last = self._last, None
        if kept is None:
            return None
        known = kept.answer
        is_same = (
            (given.run_id, given.step_path) == (known["run_id"], known["step_path"])
            and given.attempt in (None, known["attempt"])
            and (given.channel in kept.result or bool(given.step_path))
        )
        return kept if is_same else None
