"""What makes the import of the MCP SDK cheaper: it defines some 500 pydantic models.

Two settings, both documented by those whose they are, for the time of the import only:

* pydantic builds a model's validator when it is first used (`defer_build`), since a session uses
  few of them;
* the garbage collector rests, since everything that is made during an import stays.

The benchmark `benchmarks/mcp` has the numbers, and what else was tried.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def cheaper_import() -> Iterator[None]:
    """For the import of modules that define many models."""
    from pydantic import BaseModel

    was_collecting = gc.isenabled()
    gc.disable()
    BaseModel.model_config["defer_build"] = True
    try:
        yield
    finally:
        del BaseModel.model_config["defer_build"]
        if was_collecting:
            gc.freeze()
            gc.enable()
