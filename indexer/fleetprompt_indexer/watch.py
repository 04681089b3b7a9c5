"""Following roots as they change.

The operating system's events are hints: they get lost (a folder made and filled at once, a queue
that runs over, a folder deleted and made again), and they come in no useful order. So an event only
names the root to look at, what is there is read as in any index run, and everything is looked at
again after every new start of the watch and once a minute. Only the folders that matter are
watched, not what is beneath them.
"""

from __future__ import annotations

import asyncio
import os
import stat
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias

from fleetprompt_indexer.discovery import discover
from fleetprompt_indexer.index import Change, index_each, index_root, known_roots
from fleetprompt_indexer.names import FOLDER, WORKFLOWS
from fleetprompt_protocol.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from fleetprompt_indexer.catalog import Catalog

RECONCILE_S = 60.0
"""Between two looks at everything."""
FALLBACK_S = 5.0
"""The same where events cannot be had."""
RETRY_S = 600.0
"""After which a watch that was refused is asked for again: asking may take most of a minute."""
WALK_S = 600.0
"""Between two looks for new roots in the folders that hold many: a walk may take seconds."""

_STEP_MS = 10
"""Between two looks at the queue of events; 1 ms would wake the processor all the time."""
_DEBOUNCE_MS = 100
"""Longest time for which events are gathered: a branch checkout comes in a few batches."""
_WAIT_MS = 200
"""Longest time for which a wait for events does not look at anything else."""


Folders: TypeAlias = dict[str, tuple[int, int] | None]
"""Folder to its device and inode; None when it is not there."""


class Notifier(Protocol):
    """The part of `watchfiles.RustNotify` that is used."""

    def watch(
        self,
        debounce_ms: int,
        step_ms: int,
        timeout_ms: int,
        stop_event: threading.Event | None,
    ) -> set[tuple[int, str]] | str:
        """Wait for events; a word when there were none."""

    def close(self) -> None:
        """Let go of the watches."""


def open_notifier(paths: list[str]) -> Notifier:
    """A watch over the folders themselves, not over what is beneath them.

    Raises:
        OSError: There are too many, or one is not there.
    """
    from watchfiles._rust_notify import RustNotify

    return RustNotify(paths, False, False, 0, False, True)  # it takes no keywords


async def watch_roots(
    catalog: Catalog,
    roots: Sequence[bytes],
    *,
    reconcile_s: float = RECONCILE_S,
    on_notice: Callable[[str], None] | None = None,
    opener: Callable[[list[str]], Notifier] = open_notifier,
) -> AsyncGenerator[list[Change], None]:
    """Changes of the roots as they happen, in batches, each already in the catalog.

    The first batch, which may be empty, says that the watch stands. Ends when it is cancelled or
    closed. `on_notice` is called from another thread.
    """
    loop = asyncio.get_running_loop()
    stop = threading.Event()
    taken = threading.Event()
    queue: asyncio.Queue[list[Change] | BaseException | None] = asyncio.Queue()

    def follow() -> None:
        last: BaseException | None = None
        try:
            for changes in follow_roots(
                catalog, roots, stop, reconcile_s=reconcile_s, on_notice=on_notice, opener=opener
            ):
                taken.clear()
                loop.call_soon_threadsafe(queue.put_nowait, changes)
                while not taken.wait(0.2) and not stop.is_set():
                    pass  # one batch at a time: what happens meanwhile is gathered in the kernel
        except Exception as error:  # noqa: BLE001  # handed to whoever iterates
            last = error
        if not loop.is_closed():
            loop.call_soon_threadsafe(queue.put_nowait, last)

    thread = threading.Thread(target=follow, name="fleetprompt-watch", daemon=True)
    thread.start()
    try:
        while (item := await queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
            taken.set()
    finally:
        stop.set()
        taken.set()


def follow_roots(
    catalog: Catalog,
    roots: Sequence[bytes],
    stop: threading.Event,
    *,
    reconcile_s: float = RECONCILE_S,
    on_notice: Callable[[str], None] | None = None,
    opener: Callable[[list[str]], Notifier] = open_notifier,
    tops: Sequence[bytes] = (),
    walk_s: float = WALK_S,
) -> Iterator[list[Change]]:
    """`watch_roots` for a thread of its own: ends soon after `stop` is set.

    Args:
        catalog: As there, like what is not named here.
        roots: Roots to follow from the start.
        stop: Ends it.
        reconcile_s: Between two looks at everything.
        on_notice: Told, in a sentence for people, when changes cannot be had as events.
        opener: Opens the watch.
        tops: Folders that hold roots: those that are new are followed too, in time.
        walk_s: Between two walks of these folders.

    Raises:
        KeyboardInterrupt: Ctrl-C in the main thread, unless SIGINT has a handler of its own.
    """
    watch = _Watch(catalog, list(roots), reconcile_s, on_notice, opener, list(tops), walk_s)
    try:
        yield watch.start()
        while not stop.is_set():
            try:
                changes = watch.wait(stop)
            except OperatorError as error:
                if not error.retryable:
                    raise
                watch.suffer(error)
                continue
            if changes:
                yield changes
            watch.is_suffering = False
    finally:
        watch.close()


@dataclass(slots=True)
class _Watch:
    """The watch over a set of roots."""

    catalog: Catalog
    roots: list[bytes]
    reconcile_s: float
    on_notice: Callable[[str], None] | None
    opener: Callable[[list[str]], Notifier]
    tops: list[bytes]
    walk_s: float
    notifier: Notifier | None = None
    roots_by_folder: dict[str, list[bytes]] = field(default_factory=dict)
    """Folder to the roots that an event of it, or in it, is about."""
    identities: dict[bytes, Folders] = field(default_factory=dict)
    """Root to its folders as they were when the watch began: one made anew has lost its watch."""
    reconcile_at: float = 0.0
    retry_at: float = 0.0
    walk_at: float = 0.0
    backoff_s: float = 0.0
    is_suffering: bool = False
    """The catalog could not be written the last time; people were told."""

    def start(self) -> list[Change]:
        """Watch from now on, then look at everything: in this order nothing falls in between."""
        self._open()
        if self.walk_at == 0.0:
            self.walk_at = time.monotonic() + self.walk_s
        return self._reconcile()

    def wait(self, stop: threading.Event) -> list[Change]:
        """What changed within the next moments; nothing when nothing did."""
        events: set[tuple[int, str]] = set()
        if self.notifier is None:
            stop.wait(_WAIT_MS / 1000)
        else:
            try:
                result = self.notifier.watch(_DEBOUNCE_MS, _STEP_MS, _WAIT_MS, stop)
            except RuntimeError:
                # A name that is not UTF-8 ends the watch. The pause keeps a program that writes
                # such names all the time from keeping us busy.
                stop.wait(self.backoff_s)
                self.backoff_s = min(max(0.05, self.backoff_s * 2), FALLBACK_S)
                return self.start()
            if result == "signal":  # it takes Ctrl-C for itself
                raise KeyboardInterrupt
            if isinstance(result, set):
                events = result
                self.backoff_s = 0.0
        touched = self._roots_of(events)
        if self.notifier is None and time.monotonic() >= self.retry_at:
            self._open()
        if time.monotonic() >= self.reconcile_at:
            changes = self._reconcile()
            moved = self._has_new_roots() or any(
                _identify(folders) != folders for folders in self.identities.values()
            )
        else:
            changes = [change for root in touched for change in index_root(self.catalog, root)]
            moved = any(self._look(root) != self.identities[root] for root in touched)
        if moved:
            changes.extend(self.start())
        return changes

    def _has_new_roots(self) -> bool:
        """Whether the folders hold roots that were not followed; from now on they are."""
        if not self.tops or time.monotonic() < self.walk_at:
            return False
        before = len(self.roots)
        self.roots = list(
            dict.fromkeys([*self.roots, *(p for t in self.tops for p in discover(t))])
        )
        self.walk_at = time.monotonic() + self.walk_s
        return len(self.roots) > before

    def suffer(self, error: OperatorError) -> None:
        """Take a disk that is full, or the like, as a pause: what is lost is found afterwards."""
        if not self.is_suffering and self.on_notice is not None:
            self.on_notice(f"{error} Trying again every {FALLBACK_S:g} seconds.")
        self.is_suffering = True
        self.reconcile_at = time.monotonic() + min(FALLBACK_S, self.reconcile_s)

    def close(self) -> None:
        if self.notifier is not None:
            self.notifier.close()
            self.notifier = None

    def _open(self) -> None:
        self.close()
        files = {known.path: known.names for known in known_roots(self.catalog)}
        self.identities = {
            root: _identify(_folders(root, files.get(root, []))) for root in self.roots
        }
        self.roots_by_folder = {}
        watched: set[str] = set()
        for root, folders in self.identities.items():
            watched.update(folder for folder, identity in folders.items() if identity is not None)
            for folder in folders.keys() - {_text(os.path.dirname(root))}:  # noqa: PTH120  # bytes
                self.roots_by_folder.setdefault(folder, []).append(root)
        try:
            self.notifier = self.opener(sorted(watched))
        except (OSError, RuntimeError) as error:
            self.retry_at = time.monotonic() + RETRY_S
            if self.on_notice is not None:
                self.on_notice(
                    f"Changes cannot be watched ({error}); "
                    f"every root is looked at every {FALLBACK_S:g} seconds instead."
                )

    def _reconcile(self) -> list[Change]:
        pause = self.reconcile_s if self.notifier is not None else min(FALLBACK_S, self.reconcile_s)
        changes = index_each(self.catalog, self.roots)
        self.reconcile_at = time.monotonic() + pause
        return changes

    def _roots_of(self, events: set[tuple[int, str]]) -> list[bytes]:
        found: dict[bytes, None] = {}
        for _, path in events:
            for folder in (path, os.path.dirname(path)):  # noqa: PTH120  # text, many times
                found.update(dict.fromkeys(self.roots_by_folder.get(folder, ())))
        return list(found)

    def _look(self, root: bytes) -> Folders:
        known = self.catalog.known_root(root)
        return _identify(_folders(root, known.names if known is not None else ()))


def _folders(root: bytes, files: Iterable[bytes]) -> Iterator[str]:
    """The folders that matter to a root, its parent among them."""
    base = root + b"/" + FOLDER
    folders = {os.path.dirname(root), root, base, base + b"/" + WORKFLOWS}  # noqa: PTH120  # bytes
    folders.update(os.path.dirname(root + b"/" + name) for name in files)  # noqa: PTH120  # bytes
    # The library takes no path that is not UTF-8; for those the look at everything has to do.
    return (text for folder in folders if (text := _text(folder)) is not None)


def _identify(folders: Iterable[str]) -> Folders:
    found: Folders = {}
    for folder in folders:
        try:
            status = os.lstat(folder)
        except OSError:
            found[folder] = None
        else:
            found[folder] = (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None
    return found


def _text(path: bytes) -> str | None:
    try:
        return path.decode()
    except UnicodeDecodeError:
        return None
