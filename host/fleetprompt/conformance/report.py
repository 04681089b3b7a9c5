"""What the checks have found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Finding:
    """One check."""

    check: str
    """Its name: `transcript/goodbye`, `hostile/not-json` …"""
    about: str
    """What must be so, in a sentence."""
    problem: str | None
    """What is otherwise; None when it is so."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        data = {"check": self.check, "about": self.about, "ok": self.problem is None}
        return data if self.problem is None else {**data, "problem": self.problem}


@dataclass(frozen=True, slots=True)
class Report:
    """All checks, in the order in which they ran."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The checks that found something."""
        return tuple(finding for finding in self.findings if finding.problem is not None)

    @property
    def conforms(self) -> bool:
        """Whether every check is content."""
        return not self.failed

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        checks = [finding.to_json() for finding in self.findings]
        return {"conforms": self.conforms, "checks": checks}

    def lines(self) -> list[str]:
        """For people: a line for each check, what is wrong beneath it, and a sum."""
        lines = []
        for finding in self.findings:
            lines.append(f"{'ok  ' if finding.problem is None else 'FAIL'} {finding.check}")
            if finding.problem is not None:
                lines += [f"     must: {finding.about}", f"     but:  {finding.problem}"]
        count, wrong = len(self.findings), len(self.failed)
        sum_up = "all as defined" if not wrong else f"{wrong} not as defined"
        return [*lines, f"{count} checks, {sum_up}."]
