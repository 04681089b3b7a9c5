"""The artifacts store: files that steps made, kept by the digest of their content.

`artifacts/ab/abcdef…` below the state directory. A file is copied before it has its name there, so
that what has a name is whole; the same content is kept once.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleetprompt_agent.steps.workdir import open_directory, relative_directory
from fleetprompt_protocol.errors import RequestError

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILES = 1_000
"""Of one step."""
MAX_BYTES = 1024 * 1024 * 1024
"""Of one step's files together."""
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that a step made."""

    name: str
    """Its path relative to the step's working directory."""
    sha256: str
    size: int
    """In bytes."""

    def to_json(self) -> dict[str, object]:
        """As it stands in a result."""
        return {"name": self.name, "sha256": self.sha256, "size": self.size}


class ArtifactStore:
    """Keeps files by their content.

    Args:
        folder: Made when the first file is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, sha256: str) -> Path:
        """Where the content with this digest lies, whether it is kept or not."""
        return self._folder / sha256[:2] / sha256

    def collect(
        self, root: Path, run_cwd: str | None, step_cwd: str | None, patterns: tuple[str, ...]
    ) -> list[Artifact]:
        """Keep every file that a pattern names, in the order of their names.

        Args:
            root: The workspace; nothing outside it is kept, and no symbolic link is followed.
            run_cwd: The run's working directory, relative to the root.
            step_cwd: The step's, relative to the run's.
            patterns: Globs relative to the working directory; `**` crosses folders.

        Raises:
            RequestError: `output.artifact`: a pattern names no file, or there is too much.
            OSError: the store cannot be written.
        """
        relative = relative_directory(run_cwd, step_cwd)
        folder = root / relative
        names: set[str] = set()
        for pattern in patterns:
            found = {
                str(path.relative_to(folder)) for path in folder.glob(pattern) if path.is_file()
            }
            if not found:
                where = "the workspace" if relative == "." else relative
                raise RequestError(
                    "output.artifact",
                    f"`artifacts: {pattern}` names no file in {where}. "
                    "Correct the pattern, or have the step make the file.",
                )
            names |= found
        if len(names) > MAX_FILES:
            raise _too_much(f"{len(names)} files; at most {MAX_FILES} are kept")
        kept: list[Artifact] = []
        directory = open_directory(root, relative)
        try:
            left = MAX_BYTES
            for name in sorted(names):
                artifact = self._keep(directory, name, left)
                left -= artifact.size
                kept.append(artifact)
        finally:
            os.close(directory)
        return kept

    def keep(self, content: bytes) -> str:
        """Keep the content, durably; gives its sha256 (hex).

        Raises:
            OSError: the store cannot be written.
        """
        sha256 = hashlib.sha256(content).hexdigest()
        try:
            os.utime(self.path(sha256))  # it is whole, and young again: no sweep takes it
        except FileNotFoundError:
            pass
        else:
            return sha256
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, draft = tempfile.mkstemp(dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            self._name(draft, sha256)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(draft)  # noqa: PTH108 (a draft is a name, not a Path)
            raise
        return sha256

    def content(self, sha256: str) -> bytes:
        """What was kept with this digest.

        Raises:
            OSError: it is not there, or is not what was kept.
        """
        content = self.path(sha256).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise OSError(f"the content of {sha256} has been changed")
        return content

    def _name(self, draft: str, sha256: str) -> None:
        """Give the whole file its name, durably."""
        place = self.path(sha256)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        os.replace(draft, place)  # noqa: PTH105 (a draft is a name, not a Path)
        directory = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def sweep(self, in_use: set[str], before_s: float, *, dry_run: bool = False) -> tuple[int, int]:
        """Remove what nothing refers to; gives how many files, and their bytes.

        Args:
            in_use: Digests of the content that stays.
            before_s: Epoch seconds; what was kept later may yet be referred to.
            dry_run: Only look.
        """
        files = size = 0
        for place in sorted(self._folder.glob("*/*")):
            try:
                status = place.lstat()
                if place.name in in_use or status.st_mtime >= before_s:
                    continue
                if not dry_run:
                    place.unlink()
            except OSError:
                continue  # another process was as quick
            files, size = files + 1, size + status.st_size
        return files, size

    def _keep(self, directory: int, name: str, left: int) -> Artifact:
        source = _open_plain(directory, name)
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            digest, size = hashlib.sha256(), 0
            descriptor, draft = tempfile.mkstemp(dir=self._folder)
            try:
                with os.fdopen(descriptor, "wb") as copy:
                    while chunk := os.read(source, _CHUNK_BYTES):
                        size += len(chunk)
                        if size > left:
                            raise _too_much(f"more than {MAX_BYTES} bytes")  # noqa: TRY301 (tidied below)
                        digest.update(chunk)
                        copy.write(chunk)
                    copy.flush()
                    os.fsync(copy.fileno())
                self._name(draft, digest.hexdigest())
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(draft)  # noqa: PTH108 (a draft is a name, not a Path)
                raise
        finally:
            os.close(source)
        return Artifact(name, digest.hexdigest(), size)


def _open_plain(directory: int, name: str) -> int:
    """A regular file below the directory, without a symbolic link on the way.

    Raises:
        RequestError: `output.artifact`.
    """
    *folders, last = name.split("/")
    current = os.dup(directory)
    try:
        for folder in folders:
            deeper = os.open(
                folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current
            )
            os.close(current)
            current = deeper
        found = os.open(
            last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=current
        )
    except OSError as error:
        raise RequestError(
            "output.artifact",
            f"The artifact {name} cannot be kept: {error.strerror}. "
            "Symbolic links are not followed.",
        ) from None
    finally:
        os.close(current)
    if not stat.S_ISREG(os.fstat(found).st_mode):
        os.close(found)
        raise RequestError("output.artifact", f"The artifact {name} is not a regular file.")
    return found


def _too_much(what: str) -> RequestError:
    return RequestError("output.artifact", f"The step's artifacts are {what}. Keep fewer.")
