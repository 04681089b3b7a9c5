"""Bringing the catalog up to date with the file system.

What was seen before is looked at by its signatures alone. A file that changed within two seconds of
a scan could change again under the same signature, so none is kept for it and the next scan reads
it again. Results are written in batches: an index run may end at any moment, and the next one
goes on from the last batch.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fleetprompt_indexer.catalog_rows import KnownRoot, RootUpdate
from fleetprompt_indexer.discovery import discover
from fleetprompt_indexer.names import CONFIG, FOLDER, WORKFLOWS, raw, shown
from fleetprompt_indexer.reader import PACK_SIGNATURE, packed_signature
from fleetprompt_indexer.scan import visit

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from pathlib import Path

    from fleetprompt_indexer.catalog import Catalog
    from fleetprompt_indexer.entry import Entry
    from fleetprompt_indexer.reader import Signature

BATCH = 500
"""Entries, or roots, that are written at once."""

RACY_NS = 2_000_000_000
"""The coarsest clock of a file system that is still met ticks every two seconds."""

Kind = Literal["discovered", "changed", "removed"]


@dataclass(frozen=True, slots=True)
class Change:
    """One workflow file that appeared, changed, or went."""

    kind: Kind
    root: bytes
    relative: bytes
    workflow_id: str
    sha256: str | None = None
    """None for a file that is gone, or cannot be read."""
    refused: str | None = None
    """Code of the first error of a file that cannot be used."""

    def to_json(self) -> dict[str, Any]:
        """The params of a `fleetprompt.workflow.…` notification."""
        return {
            "root": shown(self.root),
            "file_path": shown(self.relative),
            "workflow_id": self.workflow_id,
            "sha256": self.sha256,
        }


@dataclass(slots=True)
class IndexSummary:
    """What an index run did."""

    roots: int = 0
    """Roots that were looked at."""
    found: int = 0
    """Workflow files that are there now."""
    discovered: int = 0
    changed: int = 0
    removed: int = 0
    roots_gone: int = 0
    """Known roots that are not there."""
    refused: dict[str, int] = field(default_factory=dict)
    """Files and folders of the whole catalog that cannot be used, by the code of the reason."""
    notices: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The summary as plain data."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an index run is."""

    folders: int
    """Folders that were looked through for roots."""
    roots: int
    """Roots that were looked at."""
    total: int | None
    """Roots there are to look at; None while they are looked for."""
    found: int
    """Workflow files in the roots that were looked at."""
    path: str
    """The folder or root that was looked at last, as it is shown."""


def index_roots(
    catalog: Catalog,
    roots: Iterable[Path] = (),
    full: bool = False,  # named by every caller
    on_progress: Callable[[Progress], None] | None = None,
    *,
    on_change: Callable[[Change], None] | None = None,
) -> IndexSummary:
    """Bring the catalog up to date, and remember the folders for the next time.

    Args:
        catalog: Where to keep what is found.
        roots: Folders to look through: roots themselves, or folders that hold many. None given
            means all that were given before.
        full: Look through the folders for new roots, even when that was done before, and drop
            known roots, and folders given before, that are gone.
        on_progress: Called after every batch, and now and then while roots are looked for.
        on_change: Called for every difference, after it is written.
    """
    run = _Run(catalog, on_progress, on_change)
    given = list(dict.fromkeys(os.path.realpath(raw(str(root))) for root in roots))
    tops = given or list(catalog.scan_roots())
    repairs = len(catalog.notices)
    _look_through(catalog, run, tops, full=full)
    if len(catalog.notices) > repairs:
        # The file turned out to be damaged on the way: what was kept before that went with it.
        run.summary = IndexSummary()
        _look_through(catalog, run, tops, full=True)
    run.summary.refused = catalog.refused_by_code(lambda root: is_within(root, tops))
    run.summary.notices.extend(catalog.notices)
    return run.summary


def _look_through(catalog: Catalog, run: _Run, tops: list[bytes], *, full: bool) -> None:
    """Look at the known roots within the folders, after looking for new ones where that is due."""
    run.seen.clear()
    run.gone.clear()
    walked = catalog.scan_roots()
    due = [top for top in tops if full or walked.get(top) is None]
    readable = [top for top in due if run.can_look_through(top)]
    for top in readable:
        catalog.remember_scan_root(top, walked_at=None)
    known = catalog.known_paths() if readable or run.is_followed else set()
    new: dict[bytes, None] = {}
    for top in readable:
        found = discover(top, on_folders=run.walk_reporter(new))
        new.update((path, None) for path in found if path not in known)
    if run.is_followed:
        run.total = len(new) + sum(is_within(path, tops) for path in known)
    for path in new:
        run.look_at(_unknown(path))
    run.flush()
    for top in readable:
        catalog.remember_scan_root(top, walked_at=int(time.time()))
    for known_root in known_roots(catalog):
        if known_root.path not in new and is_within(known_root.path, tops):
            run.look_at(known_root)
    run.flush()
    if full:
        run.summary.removed += catalog.remove_roots(run.gone)
        for top in due:
            if not os.path.isdir(top):  # noqa: PTH112  # bytes
                catalog.forget_scan_root(top)


def index_root(catalog: Catalog, root: bytes) -> list[Change]:
    """Bring the catalog up to date with one root; gives what differs from before."""
    changes: list[Change] = []
    run = _Run(catalog, None, changes.append)
    run.look_at(catalog.known_root(root) or _unknown(root))
    run.flush()
    return changes


def index_each(catalog: Catalog, roots: Collection[bytes]) -> list[Change]:
    """`index_root` for many roots, with far fewer queries."""
    changes: list[Change] = []
    run = _Run(catalog, None, changes.append)
    wanted = set(roots)
    for root in known_roots(catalog):
        if root.path in wanted:
            run.look_at(root)
    for path in roots:
        if path not in run.seen:
            run.look_at(_unknown(path))
    run.flush()
    return changes


class _Run:
    """One index run under way."""

    def __init__(
        self,
        catalog: Catalog,
        on_progress: Callable[[Progress], None] | None,
        on_change: Callable[[Change], None] | None,
    ) -> None:
        self.summary = IndexSummary()
        self.seen: set[bytes] = set()
        self.gone: list[bytes] = []
        self.total: int | None = None
        self._catalog = catalog
        self._on_progress = on_progress
        self._on_change = on_change
        self._updates: list[RootUpdate] = []
        self._changes: list[Change] = []
        self._pending = 0
        self._last = b""
        self._folders = 0

    @property
    def is_followed(self) -> bool:
        """Whether anybody wants to know how far the run is."""
        return self._on_progress is not None

    def can_look_through(self, top: bytes) -> bool:
        """Whether the folder can be listed; a notice says why it cannot."""
        try:
            os.scandir(top).close()
        except (OSError, ValueError) as error:
            reason = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else ""
            self.summary.notices.append(f"{shown(top)} is not looked through: {reason or error}.")
            return False
        return True

    def walk_reporter(self, found: Collection[bytes]) -> Callable[[int, bytes], None] | None:
        """What is told of folders that are walked; None when nobody wants to know."""
        on_progress = self._on_progress
        if on_progress is None:
            return None
        before = self._folders

        def report(folders: int, path: bytes) -> None:
            self._folders = before + folders
            on_progress(Progress(self._folders, len(found), None, 0, shown(path)))

        return report

    def look_at(self, root: KnownRoot) -> None:
        self.summary.roots += 1
        self.seen.add(root.path)
        self._last = root.path
        if _is_unchanged(root):
            self.summary.found += len(root.names)
        else:
            update = self._update(root)
            if update is not None:
                self._updates.append(update)
                self._pending += 1 + len(update.changed)
        if self._pending >= BATCH:
            self.flush()
        elif self._on_progress is not None and self.summary.roots % BATCH == 0:
            self._report()

    def flush(self) -> None:
        if self._updates:
            self._catalog.apply(self._updates)
            self._updates = []
            self._pending = 0
        changes, self._changes = self._changes, []
        if self._on_change is not None:
            for change in changes:
                self._on_change(change)
        self._report()

    def _report(self) -> None:
        if self._on_progress is not None and self._last:
            summary = self.summary
            path = shown(self._last)
            self._on_progress(
                Progress(self._folders, summary.roots, self.total, summary.found, path)
            )

    def _update(self, root: KnownRoot) -> RootUpdate | None:
        now_ns = time.time_ns()
        known = root.files
        digests = self._catalog.digests(root.root_id) if known else {}
        found = visit(root.path, signatures=known, digests=digests, config=root.config)
        if not found.folders:
            if not os.path.isdir(root.path):  # noqa: PTH112  # bytes
                return self._root_is_gone(root)
            self.gone.append(root.path)
        update = RootUpdate(
            path=root.path,
            folders=_kept(found.folders, now_ns) or None,
            config=_packed(found.config_signature),
            name=found.config.name,
            problems=tuple(found.problems),
            files={relative: known.get(relative) for relative in found.unchanged},
            changed=found.changed,
        )
        for relative, signature in found.touched:
            update.files[relative] = _kept((signature,), now_ns)
        if found.config_signature is not None and not _is_settled(found.config_signature, now_ns):
            update.folders = None
        for entry in found.changed:
            update.files[entry.relative] = _entry_signature(entry, now_ns)
            self._note("changed" if entry.relative in known else "discovered", root, entry)
        update.removed = sorted(known.keys() - update.files.keys())
        self._note_removed(root, update.removed)
        self.summary.removed += len(update.removed)
        self.summary.found += len(found.changed) + len(found.touched) + len(found.unchanged)
        return update

    def _root_is_gone(self, root: KnownRoot) -> RootUpdate | None:
        self.summary.roots_gone += 1
        self.gone.append(root.path)
        if root.is_gone or root.root_id == 0:
            return None
        self._note_removed(root, sorted(root.names))
        return RootUpdate(root.path, folders=None, config=None, is_gone=True, files=root.files)

    def _note(self, kind: Kind, root: KnownRoot, entry: Entry) -> None:
        if kind == "discovered":
            self.summary.discovered += 1
        else:
            self.summary.changed += 1
        if self._on_change is not None:
            code = next((p.code for p in entry.problems if p.severity == "error"), None)
            self._changes.append(
                Change(kind, root.path, entry.relative, entry.workflow_id, entry.sha256, code)
            )

    def _note_removed(self, root: KnownRoot, removed: list[bytes]) -> None:
        if removed and self._on_change is not None:
            ids = self._catalog.workflow_ids(root.root_id)
            for relative in removed:
                workflow_id = ids.get(relative) or shown(relative)
                self._changes.append(Change("removed", root.path, relative, workflow_id))


def _unknown(path: bytes) -> KnownRoot:
    """A root that is not in the catalog."""
    return KnownRoot(0, path, None, None, is_gone=False, names=[], signatures=b"")


def known_roots(catalog: Catalog) -> Iterator[KnownRoot]:
    """Every root of the catalog with the signatures of its files, a page at a time."""
    after = 0
    while page := catalog.known_roots(after=after, limit=BATCH):
        yield from page
        after = page[-1].root_id


def _is_unchanged(root: KnownRoot) -> bool:
    """Whether every signature is still the one that is known; opens nothing."""
    if root.folders is None or root.is_gone:
        return False
    lstat, packed, pack = os.lstat, packed_signature, PACK_SIGNATURE
    base = root.path + b"/" + FOLDER
    try:
        folders = packed(lstat(base))
        if len(root.folders) > len(folders):
            folders += packed(lstat(base + b"/" + WORKFLOWS))
        if folders != root.folders:
            return False
        if root.config is not None and packed(lstat(base + b"/" + CONFIG)) != root.config:
            return False
        prefix = root.path + b"/"
        signatures = []
        for relative in root.names:
            status = lstat(prefix + relative)
            signatures.append(
                pack(
                    status.st_dev,
                    status.st_ino,
                    status.st_size,
                    status.st_mtime_ns,
                    status.st_ctime_ns,
                )
            )
    except (OSError, ValueError):
        return False
    return b"".join(signatures) == root.signatures


def _is_settled(signature: Signature, now_ns: int) -> bool:
    return signature.ctime_ns < now_ns - RACY_NS


def _kept(signatures: tuple[Signature, ...], now_ns: int) -> bytes | None:
    """The signatures in one piece, or None when one of them is too young to be relied on."""
    if not all(_is_settled(signature, now_ns) for signature in signatures):
        return None
    return b"".join(signature.packed() for signature in signatures)


def _packed(signature: Signature | None) -> bytes | None:
    return signature.packed() if signature is not None else None


def _entry_signature(entry: Entry, now_ns: int) -> bytes | None:
    return _kept((entry.signature,), now_ns) if entry.signature is not None else None


def is_within(path: bytes, tops: Iterable[bytes]) -> bool:
    """Whether the path is that of one of the folders, or beneath one."""
    for top in tops:  # noqa: SIM110  # asked for every root, and a generator costs three times this
        if path == top or path.startswith(top if top == b"/" else top + b"/"):
            return True
    return False
