"""Findings as SARIF 2.1.0, as code hosts and editors take them from any checker."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from fleetprompt_protocol.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fleetprompt.results import Diagnostic

_LEVELS = {"error": "error", "warning": "warning"}


def sarif_log(diagnostics: Sequence[Diagnostic]) -> dict[str, Any]:
    """One SARIF log with one run that holds the findings.

    File names are relative to the root (`%SRCROOT%`), and columns count characters.
    """
    codes = sorted({diagnostic.code for diagnostic in diagnostics})
    rules = {code: number for number, code in enumerate(codes)}
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "FleetPrompt",
                        "version": __version__,
                        "semanticVersion": __version__,
                        "rules": list(_rules(codes)),
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(diagnostic, rules) for diagnostic in diagnostics],
            }
        ],
    }


def _rules(codes: Iterable[str]) -> Iterable[dict[str, Any]]:
    from fleetprompt_agent.language.diagnostics import DIAGNOSTICS
    from fleetprompt_indexer.problem import PROBLEMS

    for code in codes:
        rule: dict[str, Any] = {"id": code}
        meaning = DIAGNOSTICS.get(code) or PROBLEMS.get(code)
        if meaning is not None:
            rule["shortDescription"] = {"text": meaning}
        yield rule


def _result(diagnostic: Diagnostic, rules: dict[str, int]) -> dict[str, Any]:
    text = diagnostic.message or diagnostic.code
    if diagnostic.hint:
        text += f" (hint: {diagnostic.hint})"
    result: dict[str, Any] = {
        "ruleId": diagnostic.code,
        "ruleIndex": rules[diagnostic.code],
        "level": _LEVELS.get(diagnostic.severity, "note"),
        "message": {"text": text},
        "partialFingerprints": {"fleetprompt/v1": _fingerprint(diagnostic)},
    }
    if diagnostic.file:
        location: dict[str, Any] = {
            "artifactLocation": {
                "uri": quote(diagnostic.file.encode("utf-8", "surrogateescape")),
                "uriBaseId": "%SRCROOT%",
            }
        }
        region = _region(diagnostic)
        if region:
            location["region"] = region
        result["locations"] = [{"physicalLocation": location}]
    return result


def _region(diagnostic: Diagnostic) -> dict[str, int]:
    named = {
        "startLine": diagnostic.line,
        "startColumn": diagnostic.column,
        "endLine": diagnostic.end_line,
        "endColumn": diagnostic.end_column,
    }
    if diagnostic.line is None:
        return {}
    return {name: value for name, value in named.items() if value is not None}


def _fingerprint(diagnostic: Diagnostic) -> str:
    """The same for a finding that only moved to another line."""
    extra = diagnostic.model_extra or {}
    parts = (diagnostic.file, diagnostic.code, str(extra.get("path", "")), diagnostic.message)
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
