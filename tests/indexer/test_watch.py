"""Following changes: every one arrives in the catalog, whatever the events say of it."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.watch import Notifier, follow_roots, open_notifier, watch_roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from fleetprompt_indexer.index import Change

    MakeRepository = Callable[..., Path]

BOUND_S = 30.0


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    with Catalog(tmp_path / "state" / "catalog.db") as catalog:
        yield catalog


class Follower:
    """Collects the changes of a watch that runs in a thread."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.notices: list[str] = []
        self.more = threading.Condition()
        self.is_up = False

    def notice(self, text: str) -> None:
        with self.more:
            self.notices.append(text)
            self.more.notify_all()

    def until(self, holds: Callable[[], bool]) -> None:
        with self.more:
            assert self.more.wait_for(holds, BOUND_S), self.kinds()

    def kinds(self) -> list[tuple[str, str]]:
        return [(change.kind, change.workflow_id) for change in self.changes]

    def clear(self) -> None:
        with self.more:
            self.changes.clear()


@contextmanager
def following(
    catalog: Catalog,
    *roots: Path,
    reconcile_s: float = 3600,
    opener: Callable[[list[str]], Notifier] = open_notifier,
    tops: Sequence[Path] = (),
) -> Iterator[Follower]:
    follower = Follower()
    stop = threading.Event()

    def follow() -> None:
        for changes in follow_roots(
            catalog,
            [os.fsencode(root) for root in roots],
            stop,
            reconcile_s=reconcile_s,
            on_notice=follower.notice,
            opener=opener,
            tops=[os.fsencode(top) for top in tops],
            walk_s=0.05,
        ):
            with follower.more:
                follower.changes.extend(changes)
                follower.is_up = True
                follower.more.notify_all()

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        follower.until(lambda: follower.is_up)
        yield follower
    finally:
        stop.set()
        thread.join(BOUND_S)
        assert not thread.is_alive()


def folder(root: Path) -> Path:
    return root / ".fleetprompt" / "workflows"


def test_what_is_there_comes_first_and_changes_follow(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root) as follower:
        assert follower.kinds() == [("discovered", "a")]
        (folder(root) / "a.yaml").write_text("name: A2")
        follower.until(lambda: ("changed", "a") in follower.kinds())
        assert catalog.find("a").entry.name == "A2"
        (folder(root) / "b.yaml").write_text("name: B")
        follower.until(lambda: ("discovered", "b") in follower.kinds())
        (folder(root) / "b.yaml").unlink()
        follower.until(lambda: ("removed", "b") in follower.kinds())


def test_a_save_by_rename_is_a_change(catalog: Catalog, make_repository: MakeRepository) -> None:
    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root) as follower:
        (folder(root) / ".a.yaml.tmp").write_text("name: A2")
        (folder(root) / ".a.yaml.tmp").rename(folder(root) / "a.yaml")
        follower.until(lambda: follower.kinds()[1:] == [("changed", "a")])


def test_a_save_by_delete_and_create_ends_in_the_new_state(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root) as follower:
        (folder(root) / "a.yaml").rename(folder(root) / "a.yaml~")
        (folder(root) / "a.yaml").write_text("name: A2")
        (folder(root) / "a.yaml~").unlink()
        follower.until(lambda: catalog.search("A2 ").hits != ())


def test_folders_that_are_made_and_filled_at_once_are_seen(
    catalog: Catalog, tmp_path: Path
) -> None:
    roots = [tmp_path / f"r{number}" for number in range(50)]
    for root in roots:
        root.mkdir()
    with following(catalog, *roots) as follower:

        def seen() -> int:
            # A file may be seen before its text is written, and then once more.
            return len({(change.root, change.workflow_id) for change in follower.changes})

        for root in roots:
            folder(root).mkdir(parents=True)
            (folder(root) / "a.yaml").write_text("name: A")
        follower.until(lambda: seen() == 50)
        for root in roots:
            (folder(root) / "b.yaml").write_text("name: B")
        follower.until(lambda: seen() == 100)


def test_a_root_that_is_deleted_and_made_again_is_followed_on(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root) as follower:
        shutil.rmtree(root)
        follower.until(lambda: ("removed", "a") in follower.kinds())
        follower.clear()
        folder(root).mkdir(parents=True)
        (folder(root) / "c.yaml").write_text("name: C")
        follower.until(lambda: ("discovered", "c") in follower.kinds())
        (folder(root) / "c.yaml").write_text("name: C2")
        follower.until(lambda: ("changed", "c") in follower.kinds())


def test_a_folder_that_is_exchanged_is_followed_on(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root) as follower:
        (root / ".fleetprompt").rename(tmp_path / "aside")
        folder(root).mkdir(parents=True)
        (folder(root) / "b.yaml").write_text("name: B")
        follower.until(lambda: {("removed", "a"), ("discovered", "b")} <= set(follower.kinds()))
        (folder(root) / "b.yaml").write_text("name: B2")
        follower.until(lambda: ("changed", "b") in follower.kinds())


def test_a_checkout_of_many_files_arrives_as_a_whole(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    roots = [make_repository({"a.yaml": "name: A"}) for _ in range(4)]
    with following(catalog, *roots) as follower:
        for root in roots:
            for number in range(500):
                (folder(root) / f"w{number}.yaml").write_text(f"name: W{number}")
        follower.until(lambda: len(catalog.entries()) == 2004)
        discovered = [change for change in follower.changes if change.kind == "discovered"]
        assert len(discovered) == 2004


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_real_checkout_of_thousands_of_files_ends_in_the_branch(
    catalog: Catalog, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    roots = [repository / f"package{number}" for number in range(4)]

    def git(*arguments: str) -> None:
        own = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@example.com",
            "-c",
            "init.defaultBranch=one",
        ]
        subprocess.run(["git", *own, *arguments], cwd=repository, check=True, capture_output=True)

    def write(name: str) -> None:
        for root in roots:
            folder(root).mkdir(parents=True, exist_ok=True)
            for number in range(600):
                (folder(root) / f"w{number}.yaml").write_text(f"name: {name} {number}")
        git("add", "-A")
        git("commit", "-qm", name)

    repository.mkdir()
    git("init", "-q")
    write("One")
    git("checkout", "-qb", "two")
    for root in roots:
        shutil.rmtree(folder(root))
    write("Two")
    with following(catalog, *roots) as follower:
        assert len(follower.changes) == 2400
        follower.clear()
        git("checkout", "-q", "one")
        follower.until(lambda: len({(c.root, c.relative) for c in follower.changes}) == 2400)
        follower.until(lambda: len(catalog.search("Two ", limit=1).hits) == 0)
        assert {item.entry.name.split()[0] for item in catalog.entries()} == {"One"}


def test_names_that_are_not_utf_8_do_not_end_the_watch(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root) as follower:
        with open(os.fsencode(folder(root)) + b"/b\xff.yaml", "wb") as file:
            file.write(b"id: b")
        follower.until(lambda: ("discovered", "b") in follower.kinds())
        (folder(root) / "a.yaml").write_text("name: A2")
        follower.until(lambda: ("changed", "a") in follower.kinds())


def test_a_root_whose_path_is_not_utf_8_is_looked_at_from_time_to_time(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"}, name=os.fsdecode(b"r\xff"))
    with following(catalog, root, reconcile_s=0.05) as follower:
        (folder(root) / "a.yaml").write_text("name: A2")
        follower.until(lambda: ("changed", "a") in follower.kinds())


def test_new_roots_beneath_a_folder_are_followed_in_time(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    first = make_repository({"a.yaml": "name: A"}, name="tree/one")
    with following(catalog, first, reconcile_s=0.05, tops=[tmp_path / "tree"]) as follower:
        second = make_repository({"b.yaml": "name: B"}, name="tree/deep/two")
        follower.until(lambda: ("discovered", "b") in follower.kinds())
        (folder(second) / "b.yaml").write_text("name: B2")
        follower.until(lambda: ("changed", "b") in follower.kinds())


def test_a_catalog_that_cannot_be_written_for_a_while_is_a_pause(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root, reconcile_s=0.05) as follower:
        with catalog._lock:  # SQLite's own limit gives the very error that a full disk gives
            (pages,) = catalog._connection.execute("PRAGMA page_count").fetchone()
            catalog._connection.execute(f"PRAGMA max_page_count = {pages}")
        for number in range(200):
            text = f"name: W{number}\ndescription: {'word ' * 100}"
            (folder(root) / f"w{number}.yaml").write_text(text)
        follower.until(lambda: follower.notices != [])
        with catalog._lock:
            catalog._connection.execute("PRAGMA max_page_count = 1000000")
        follower.until(lambda: len(follower.changes) == 201)
        (notice,) = follower.notices
        assert "full" in notice


def test_files_that_the_configuration_names_are_followed(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository()
    (root / "flows" / "deep").mkdir(parents=True)
    with following(catalog, root) as follower:
        (root / ".fleetprompt" / "config.toml").write_text(
            '[[workflows]]\nid = "x"\nentry = "flows/deep/x.yaml"\n'
        )
        follower.until(lambda: ("discovered", "x") in follower.kinds())
        (root / "flows" / "deep" / "x.yaml").write_text("name: X")
        follower.until(lambda: ("changed", "x") in follower.kinds())
        assert catalog.find("x").entry.name == "X"


def test_without_events_every_root_is_looked_at_and_people_are_told(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    def refuse(paths: list[str]) -> Notifier:
        raise OSError(f"OS file watch limit reached. ({len(paths)} folders)")

    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root, reconcile_s=0.05, opener=refuse) as follower:
        (notice,) = follower.notices
        assert "limit reached" in notice
        (folder(root) / "a.yaml").write_text("name: A2")
        follower.until(lambda: ("changed", "a") in follower.kinds())


def test_events_that_are_lost_are_made_good(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    class Deaf:
        """A watch whose queue ran over: it never tells of anything."""

        def watch(
            self, _debounce: int, _step: int, timeout_ms: int, stop: threading.Event | None
        ) -> str:
            assert stop is not None
            stop.wait(timeout_ms / 1000)
            return "timeout"

        def close(self) -> None: ...

    root = make_repository({"a.yaml": "name: A"})
    with following(catalog, root, reconcile_s=0.05, opener=lambda _: Deaf()) as follower:
        (folder(root) / "a.yaml").write_text("name: A2")
        follower.until(lambda: ("changed", "a") in follower.kinds())


def test_the_asynchronous_form_gives_batches_and_lets_go(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})

    async def follow() -> list[str]:
        kinds: list[str] = []
        changes = watch_roots(catalog, [os.fsencode(root)])
        async for batch in changes:
            if not kinds:
                (folder(root) / "a.yaml").write_text("name: A2")
            kinds.extend(change.kind for change in batch)
            if "changed" in kinds:
                break
        await changes.aclose()
        return kinds

    kinds = asyncio.run(asyncio.wait_for(follow(), BOUND_S))
    assert kinds == ["discovered", "changed"]
    end = time.monotonic() + BOUND_S
    for thread in threading.enumerate():
        if thread.name == "fleetprompt-watch":
            thread.join(end - time.monotonic())
            assert not thread.is_alive()


def test_an_error_of_the_catalog_reaches_whoever_iterates(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})

    async def follow() -> None:
        async for _ in watch_roots(catalog, [os.fsencode(root)]):
            catalog.close()
            (folder(root) / "a.yaml").write_text("name: A2")

    with pytest.raises(Exception, match="catalog"):
        asyncio.run(asyncio.wait_for(follow(), BOUND_S))
