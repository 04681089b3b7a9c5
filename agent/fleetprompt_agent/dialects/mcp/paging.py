"""Pages of MCP's lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from fleetprompt_agent.tools.paging import decode_cursor, encode_cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

PAGE = 100
"""Entries of a page."""


def page_of(
    params: dict[str, Any],
    name: str,
    items: Sequence[T],
    describe: Callable[[T], dict[str, Any] | None],
) -> dict[str, Any]:
    """The page that the request's cursor names; entries that have no description are left out.

    Args:
        params: The request's.
        name: The list's name in the result.
        items: Everything there is, in an order that does not change by itself.
        describe: An item as it stands in the list.

    Raises:
        RequestError: the cursor is none of ours.
    """
    cursor = params.get("cursor")
    start: int = decode_cursor(cursor, (int,))[0] if cursor is not None else 0
    described = (describe(item) for item in items[start : start + PAGE])
    result: dict[str, Any] = {name: [entry for entry in described if entry is not None]}
    if start + PAGE < len(items):
        result["nextCursor"] = encode_cursor((start + PAGE,))
    return result
