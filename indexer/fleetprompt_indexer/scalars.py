"""Plain YAML scalars as YAML 1.2 (core schema) reads them.

`on`, `no`, `12:30`, `2024-01-01` and `1_000` are text. JSON's numbers and words are a subset, so
the same reading serves both formats.
"""

from __future__ import annotations

import math
import re
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

_WORDS: dict[str, Scalar] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
NULLS = frozenset(word for word, value in _WORDS.items() if value is None)
"""How the absence of a value is written."""

_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_NUMBER_STARTS = frozenset("-+.0123456789")

MAX_DIGITS = 400
"""A longer literal is refused before it is converted: conversion takes quadratic time."""

INTEGER_RANGE = range(-(2**63), 2**63)
"""What an expression can compute with; a larger integer would not survive the first use."""


class NumberError(ValueError):
    """A literal that is a number for YAML and cannot be one for JSON; the text says why."""


def read_plain(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Raises:
        NumberError: Infinite, not a number, or an integer beyond 64 bits.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_STARTS:
        return text
    if _INTEGER.match(text):
        return _integer(text, 10)
    if _FLOAT.match(text):
        if len(text) > MAX_DIGITS:
            raise NumberError(f"a number of {len(text)} characters is too long")
        value = float(text)
        if math.isinf(value):
            raise NumberError(f"{text} is too large for a number")
        return value
    if _OCTAL.match(text):
        return _integer(text, 8)
    if _HEXADECIMAL.match(text):
        return _integer(text, 16)
    if _NOT_FINITE.match(text):
        raise NumberError(f"{text} is not a number that JSON has")
    return text


def _integer(text: str, base: int) -> int:
    value = int(text, base) if len(text) <= MAX_DIGITS else None
    if value is None or value not in INTEGER_RANGE:
        shown = text if len(text) <= 40 else f"an integer of {len(text)} digits"
        raise NumberError(f"{shown} is beyond 64 bits")
    return value
