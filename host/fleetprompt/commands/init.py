"""`init`: writes a first workflow into a repository. The only command that writes into one."""

from __future__ import annotations

import json
import os
import sys
from contextlib import ExitStack, suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fleetprompt.escaping import escape_line
from fleetprompt.exit_codes import ExitCode
from fleetprompt.output import write_json, write_lines
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    import argparse

TEMPLATES = ("review", "release", "triage")
"""Each is a file of `fleetprompt/templates`, and an example of other parts of the language."""

SCHEMA_FILE = "workflow.schema.json"
"""Beside `workflows/`, where the first line of each template looks for it."""

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def add_init(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fleetprompt init`."""
    parser.add_argument(
        "--template",
        choices=TEMPLATES,
        default=TEMPLATES[0],
        help=f"the example to begin with ({TEMPLATES[0]})",
    )
    parser.set_defaults(act=_init)


class _File(NamedTuple):
    folders: tuple[str, ...]
    name: str
    text: str

    @property
    def path(self) -> str:
        return "/".join((*self.folders, self.name))


def _init(options: argparse.Namespace) -> int:
    root = Path(options.root or ".").absolute()
    wanted = _files(options.template)
    written = [file.path for file in wanted if _write(root, file)]
    kept = [file.path for file in wanted if file.path not in written]
    if options.json:
        write_json({"root": str(root), "written": written, "kept": kept})
        return ExitCode.SUCCEEDED
    lines = [f"wrote {path}" for path in written]
    lines += [f"{path} exists already; it stays as it is" for path in kept]
    lines += ["", *_next(options.template)]
    write_lines(lines)
    if not (root / ".git").exists():
        write_lines(["The examples look at a git repository; this is none yet."], sys.stderr)
    return ExitCode.SUCCEEDED


def _next(template: str) -> list[str]:
    inputs = " --input tag=v0.1.0" if template == "release" else ""
    return [
        f"next: fleetprompt plan {template}{inputs}",
        f"      fleetprompt run {template}{inputs}",
    ]


def _files(template: str) -> list[_File]:
    from fleetprompt_agent.language.schema import workflow_schema

    text = (files("fleetprompt") / "templates" / f"{template}.yaml").read_text(encoding="utf-8")
    schema = json.dumps(workflow_schema(), indent=2, ensure_ascii=False)
    return [
        _File((".fleetprompt", "workflows"), f"{template}.yaml", text),
        _File((".fleetprompt",), SCHEMA_FILE, f"{schema}\n"),
    ]


def _write(root: Path, file: _File) -> bool:
    """Whether the file was written; one that exists stays as it is.

    No symbolic link is followed below the root: what is there may have been put there by others.

    Raises:
        RequestError: `init.failed`.
    """
    with ExitStack() as stack:
        try:
            folder = _opened(stack, os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for name in file.folders:
                folder = _opened(stack, _make_folder(folder, name))
            descriptor = os.open(file.name, _NEW_FILE, 0o666, dir_fd=folder)
        except FileExistsError:
            return False
        except OSError as error:
            raise RequestError(
                "init.failed",
                f"{escape_line(file.path)} cannot be written in {root}: {error.strerror}. "
                "Folders there must be folders, not symbolic links.",
            ) from None
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(file.text)
    return True


def _make_folder(parent: int, name: str) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, _OPEN_FOLDER, dir_fd=parent)


def _opened(stack: ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor
