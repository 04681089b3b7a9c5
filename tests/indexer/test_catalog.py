"""The catalog's file: made, migrated, repaired, searched, and never in the way."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.catalog_file import APPLICATION_ID, MIGRATIONS
from fleetprompt_indexer.index import index_roots
from fleetprompt_protocol.errors import FleetPromptError, OperatorError, WorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    MakeRepository = Callable[..., Path]

FILES = {
    "deploy.yaml": "name: Deploy the site\ndescription: Ships a release to production.\n"
    "steps:\n- command: cli gh release create\n- tool: mcp:github/create_issue\n",
    "review.yaml": "name: Code review\ndescription: Reads a pull request, then a release note.\n"
    "inputs: {pull_request: {type: integer}}\nsteps:\n- command: cli gh pr diff\n",
    "triage.json": '{"name": "Inbox triage", "steps": [{"tool": "com.example.mail/list"}]}',
    "broken.yaml": "name: Release me\nx: 1\nx: 2\n",
}


@pytest.fixture
def catalog(tmp_path: Path, make_repository: MakeRepository) -> Iterator[Catalog]:
    """A catalog of one root with four files."""
    root = make_repository(FILES, name="shop")
    with Catalog(tmp_path / "state" / "catalog.db") as catalog:
        index_roots(catalog, [root])
        yield catalog


def hits(catalog: Catalog, words: str = "", **filters: str) -> list[str]:
    return [item.entry.workflow_id for item in catalog.search(words, **filters).hits]  # type: ignore[arg-type]  # names of filters


def test_the_file_is_for_its_owner_alone(catalog: Catalog) -> None:
    assert stat.S_IMODE(catalog.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(catalog.path.parent.stat().st_mode) == 0o700


def test_search_ranks_names_above_descriptions(catalog: Catalog) -> None:
    assert hits(catalog, "release") == ["broken", "review", "deploy"]
    assert hits(catalog, "deploy site") == ["deploy"]
    assert hits(catalog, "deploy inbox") == []


def test_an_entry_whose_id_was_typed_comes_first(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    names = {
        "ship.yaml": "name: Sends",
        "a-ship.yaml": "name: ship ship",
        "b.yaml": "name: ship it",
    }
    index_roots(catalog, [make_repository(names)])
    assert hits(catalog, "ship")[0] == "ship"
    assert hits(catalog, "A Ship")[0] == "a-ship"


def test_the_last_word_may_be_a_beginning(catalog: Catalog) -> None:
    assert hits(catalog, "tri") == ["triage"]
    assert hits(catalog, "tri ") == []
    assert hits(catalog, "pull_req") == ["review"]


def test_search_filters_by_tool_agent_and_status(catalog: Catalog) -> None:
    assert sorted(hits(catalog, tool="cli:gh")) == ["deploy", "review"]
    assert hits(catalog, tool="cli:g") == []
    assert hits(catalog, "code", tool="cli:gh") == ["review"]
    assert hits(catalog, tool="mcp:github/create_issue") == ["deploy"]
    assert hits(catalog, agent="com.example.mail") == ["triage"]
    assert hits(catalog, agent="com.example") == []
    assert hits(catalog, status="invalid") == ["broken"]
    assert hits(catalog, "release", status="unvalidated") == ["review", "deploy"]
    assert hits(catalog, status="valid") == []
    assert hits(catalog) == ["broken", "deploy", "review", "triage"]


def test_a_validation_moves_an_entry_between_statuses(catalog: Catalog) -> None:
    item = catalog.find("deploy")
    assert item.entry.sha256 is not None
    catalog.mark_validated(
        item.root, item.entry.relative, sha256=item.entry.sha256, is_valid=True, digest="d"
    )
    assert hits(catalog, status="valid") == ["deploy"]
    assert "deploy" not in hits(catalog, status="unvalidated")
    assert catalog.find("deploy").to_json()["digest"] == "d"


def test_a_search_is_bounded_and_says_when_it_is_cut(catalog: Catalog) -> None:
    found = catalog.search("release", limit=2)
    assert ([item.entry.workflow_id for item in found.hits], found.is_cut) == (
        ["broken", "review"],
        True,
    )
    assert not catalog.search("release", limit=3).is_cut
    assert catalog.search("", limit=1).is_cut


@pytest.mark.parametrize(
    "words",
    [
        '"',
        '""',
        "a OR b",
        "NOT",
        "name:x",
        "*",
        "(",
        "x" * 10_000,
        "a\0b",
        "--",
        "é",
        "\ud800",
        "^a",
    ],
)
def test_nothing_that_is_typed_is_an_operator(catalog: Catalog, words: str) -> None:
    catalog.search(words)
    catalog.search("release " + words, tool=words, agent=words)


@given(st.text(max_size=30), st.none() | st.text(max_size=10))
@settings(max_examples=100)
def test_any_text_may_be_searched(words: str, tool: str | None) -> None:
    with Catalog(Path(os.environ["SEARCHED_CATALOG"])) as catalog:
        catalog.search(words, tool=tool)


@pytest.fixture(autouse=True, scope="module")
def _searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("searched")
    workflows = folder / "shop" / ".fleetprompt" / "workflows"
    workflows.mkdir(parents=True)
    for name, text in FILES.items():
        (workflows / name).write_text(text)
    with Catalog(folder / "catalog.db") as catalog:
        index_roots(catalog, [folder / "shop"])
    os.environ["SEARCHED_CATALOG"] = str(folder / "catalog.db")
    yield
    del os.environ["SEARCHED_CATALOG"]


def test_an_id_in_two_roots_is_ambiguous_and_both_places_are_named(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    other = make_repository({"deploy.yaml": "name: Other"}, name="other")
    index_roots(catalog, [other])
    with pytest.raises(WorkflowError) as caught:
        catalog.find("deploy")
    assert caught.value.code == "workflow.ambiguous"
    assert "other" in caught.value.message
    assert "shop" in caught.value.message
    assert catalog.find("deploy", root=other).entry.name == "Other"
    assert all(not item.entry.problems for item in catalog.entries(other))


def test_an_id_twice_in_one_root_is_told_with_both_places(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"x.yaml": "id: same", "y.yaml": "id: same"})
    index_roots(catalog, [root])
    codes = [[p.code for p in item.entry.problems] for item in catalog.entries(root)]
    assert codes == [["workflow.ambiguous"], ["workflow.ambiguous"]]
    assert catalog.find(".fleetprompt/workflows/y.yaml", root=root).entry.workflow_id == "same"


def test_what_is_not_there_is_not_found(catalog: Catalog) -> None:
    for reference in ("nothing", "", "\udcff", "a\0b"):
        with pytest.raises(WorkflowError) as caught:
            catalog.find(reference)
        assert caught.value.code == "workflow.not_found"


def test_entries_come_in_pages(catalog: Catalog) -> None:
    first = catalog.entries(limit=2)
    second = catalog.entries(after=first[-1], limit=2)
    names = [item.entry.workflow_id for item in (*first, *second)]
    assert names == ["broken", "deploy", "review", "triage"]
    assert catalog.entries(after=second[-1]) == []


def test_a_root_can_be_forgotten(catalog: Catalog) -> None:
    (root,) = catalog.roots()
    catalog.forget(root)
    assert (catalog.roots(), catalog.entries(), hits(catalog, "release")) == ([], [], [])
    assert index_roots(catalog).roots == 0


# The file


def test_a_catalog_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    old = sqlite3.connect(path)
    old.executescript(MIGRATIONS[0])
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 1")
    old.execute("INSERT INTO roots (path) VALUES (?)", (b"/srv/shop",))
    old.execute(
        "INSERT INTO entries VALUES (1, 1, X'61', NULL, 1, 'abc', 'unvalidated', 'local', 'old', "
        "'Old one', NULL, NULL, 'a', '[]', '[]', '{}', '', '{}', '[]')"
    )
    old.commit()
    old.close()
    with Catalog(path) as catalog:
        assert catalog.notices == []
        assert hits(catalog, "old") == ["old"]
        assert catalog.mark_validated(Path("/srv/shop"), b"a", sha256="abc", is_valid=True)
        assert hits(catalog, status="valid") == ["old"]
    with closing(sqlite3.connect(path)) as db:
        version = db.execute("PRAGMA user_version").fetchone()
    assert version == (len(MIGRATIONS),)


def test_files_of_an_older_catalog_are_looked_at_again_and_those_that_went_are_noticed(
    tmp_path: Path, make_repository: MakeRepository
) -> None:
    root = make_repository({"new.yaml": "name: New"})
    names = [b".fleetprompt/workflows/" + name for name in (b"g\xff.yaml", b"new.yaml", b"z.yaml")]
    path = tmp_path / "catalog.db"
    old = sqlite3.connect(path)
    for script in MIGRATIONS[:3]:
        old.executescript(script)
    old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    old.execute("PRAGMA user_version = 3")
    old.execute("INSERT INTO roots (path, folders) VALUES (?, X'61')", (bytes(root),))
    old.execute("INSERT INTO roots (path) VALUES (X'2f62')")
    old.execute("INSERT INTO scan_roots VALUES (?, 1)", (bytes(root),))
    old.executemany(
        "INSERT INTO entries VALUES (NULL, 1, ?, X'62', 1, 'abc', 'unvalidated', 'local', 'old', "
        "'Old one', NULL, NULL, 'a', '[]', '[]', '{}', '', '{}', '[]')",
        [(name,) for name in names],
    )
    old.commit()
    old.close()
    with Catalog(path) as catalog:
        known = catalog.known_root(bytes(root))
        assert known is not None
        assert known.files == dict.fromkeys(names)
        assert index_roots(catalog).removed == 2
        assert (hits(catalog, "old"), hits(catalog, "new")) == ([], ["new"])


def foreign_database(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE letters (text)")
    other.execute("INSERT INTO letters VALUES ('dear')")
    other.commit()
    other.close()


def newer_catalog(path: Path) -> None:
    Catalog(path).close()
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    newer.close()


@pytest.mark.parametrize(
    "spoil",
    [
        foreign_database,
        newer_catalog,
        lambda path: path.write_bytes(b"this is no database at all, whoever wrote it\n" * 100),
        lambda path: path.write_bytes(b"SQLite format 3\0" + b"\xff" * 5000),
    ],
)
def test_a_file_that_is_no_catalog_of_ours_is_set_aside_with_a_notice(
    tmp_path: Path, make_repository: MakeRepository, spoil: Callable[[Path], object]
) -> None:
    path = tmp_path / "catalog.db"
    spoil(path)
    before = path.read_bytes()
    with Catalog(path) as catalog:
        (notice,) = catalog.notices
        assert str(path) in notice
        summary = index_roots(catalog, [make_repository(FILES)])
        assert (summary.found, summary.notices) == (4, [notice])
    assert (tmp_path / "catalog.db.set-aside").read_bytes() == before
    with Catalog(path) as catalog:
        assert catalog.notices == []
        assert hits(catalog, "triage") == ["triage"]


def damaged_catalog(path: Path, root: Path) -> None:
    with Catalog(path) as catalog:
        index_roots(catalog, [root])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2  # the header and the schema stay
    data[middle:] = b"\xa5" * (len(data) - middle)
    path.write_bytes(data)


def test_damage_that_shows_when_it_is_read_is_repaired(
    tmp_path: Path, make_repository: MakeRepository
) -> None:
    root = make_repository({f"w{n}.yaml": f"name: W{n}" for n in range(300)})
    damaged_catalog(tmp_path / "catalog.db", root)
    with Catalog(tmp_path / "catalog.db") as catalog:
        assert catalog.notices == []
        assert catalog.entries() == []
        assert len(catalog.notices) == 1
        assert index_roots(catalog, [root]).found == 300
        assert hits(catalog, "W7 ") == ["w7"]


def test_damage_that_shows_in_an_index_run_leaves_a_whole_catalog(
    tmp_path: Path, make_repository: MakeRepository
) -> None:
    root = make_repository({f"w{n}.yaml": f"name: W{n}" for n in range(300)})
    damaged_catalog(tmp_path / "catalog.db", root)
    (root / ".fleetprompt" / "workflows" / "w7.yaml").write_text("name: New")
    with Catalog(tmp_path / "catalog.db") as catalog:
        summary = index_roots(catalog, [root])
        assert (summary.found, len(summary.notices)) == (300, 1)
        assert len(catalog.entries()) == 300
        assert index_roots(catalog).found == 300


def test_a_table_that_is_missing_is_repaired(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    Catalog(path).close()
    broken = sqlite3.connect(path)
    broken.execute("DROP TABLE entry_words")
    broken.close()
    with Catalog(path) as catalog:
        catalog.search("x")
        assert len(catalog.notices) == 1


def test_a_place_that_cannot_be_written_is_an_error_for_the_operator(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere.db")
    (tmp_path / "folder.db").mkdir()
    for path in (tmp_path / "file" / "catalog.db", tmp_path / "link.db", tmp_path / "folder.db"):
        with pytest.raises(OperatorError) as caught:
            Catalog(path)
        assert caught.value.code == "catalog.unavailable"
    assert not (tmp_path / "elsewhere.db").exists()


def test_ctrl_c_ends_the_wait_for_another_writer(tmp_path: Path) -> None:
    path = tmp_path / "catalog.db"
    program = (
        "import signal, sys\n"
        "from pathlib import Path\n"
        "from fleetprompt_indexer.catalog import Catalog\n"
        "catalog = Catalog(Path(sys.argv[1]), wait_s=3600)\n"
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.3)\n"
        "try:\n"
        "    catalog.forget_scan_root(b'/')\n"
        "except KeyboardInterrupt:\n"
        "    sys.exit(7)\n"
    )
    Catalog(path).close()
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    done = subprocess.run([sys.executable, "-c", program, path], timeout=120)
    assert done.returncode == 7
    with Catalog(path, wait_s=0) as catalog, pytest.raises(OperatorError) as caught:
        catalog.forget(tmp_path)
    assert (caught.value.code, caught.value.retryable) == ("catalog.unavailable", True)
    writer.execute("ROLLBACK")
    writer.close()


def test_a_closed_catalog_says_so(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog.db")
    catalog.close()
    with pytest.raises(FleetPromptError):
        catalog.entries()


def test_a_writer_that_is_killed_leaves_a_good_catalog(
    tmp_path: Path, make_repository: MakeRepository
) -> None:
    root = make_repository({f"w{n}.yaml": f"name: W{n}" for n in range(900)})
    path = tmp_path / "state" / "catalog.db"
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from fleetprompt_indexer import catalog_rows as module\n"
        "from fleetprompt_indexer.catalog import Catalog\n"
        "from fleetprompt_indexer.index import index_roots\n"
        "plain = module._row\n"
        "def row(*values):\n"
        "    row.left -= 1\n"
        "    if row.left == 0:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return plain(*values)\n"
        "row.left = int(sys.argv[3])\n"
        "module._row = row\n"
        "index_roots(Catalog(Path(sys.argv[1])), [Path(sys.argv[2])])\n"
    )
    for left in (1, 450):
        done = subprocess.run([sys.executable, "-c", program, path, root, str(left)])
        assert done.returncode == -9
        with Catalog(path) as catalog:
            assert catalog.notices == []
            assert len(catalog.entries()) == 0
    with Catalog(path) as catalog:
        assert index_roots(catalog).found == 900
        assert len(catalog.search("W7").hits) == 20
