"""Which repository a command is about."""

from __future__ import annotations

from pathlib import Path

from fleetprompt_protocol.errors import RequestError

_FILE_SUFFIXES = (".yaml", ".yml", ".json")


def chosen_root(root: str | Path | None) -> Path:
    """The directory that was given, or the nearest one upwards that holds `.fleetprompt/`.

    Raises:
        RequestError: there is no such directory.
    """
    if root is not None:
        given = Path(root)
        if not given.is_dir():
            raise RequestError(
                "root.not_found",
                f"`--root {root}` is not a directory. Name the repository's folder.",
            )
        return given.resolve()
    from fleetprompt_indexer.root import find_root

    here = Path.cwd()
    found = find_root(here)
    if found is None:
        raise RequestError(
            "root.not_found",
            f"Neither {here} nor a directory above it holds .fleetprompt/. "
            "`fleetprompt init` writes a first workflow here; --root DIR names another repository.",
        )
    return found


def workflow_reference(text: str, root: Path) -> str:
    """What a person typed for a workflow, as an agent takes it: an id, or a path beneath the root.

    A path is taken from the working directory first, as every other program does.
    """
    if "/" not in text and not text.endswith(_FILE_SUFFIXES):
        return text
    path = Path(text).absolute()
    for base in (root, root.resolve()):
        if path.is_file() and path.is_relative_to(base):
            return str(path.relative_to(base))
    return text
