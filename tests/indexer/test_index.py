"""Bringing the catalog up to date: what is found, what is noticed, and what is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.index import Change, Progress, index_root, index_roots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    MakeRepository = Callable[..., Path]


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog."""
    with Catalog(tmp_path / "state" / "catalog.db") as catalog:
        yield catalog


def listed(catalog: Catalog) -> dict[str, str]:
    return {item.entry.workflow_id: item.entry.status for item in catalog.entries()}


def test_roots_are_found_in_a_tree_and_remembered(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    make_repository({"a.yaml": "name: A"}, name="tree/one")
    make_repository({"b.yaml": "name: B"}, name="tree/deep/er/two")
    make_repository({"c.yaml": "name: C"}, name="tree/one/nested")
    make_repository({"x.yaml": "name: X"}, name="tree/one/node_modules/package")
    make_repository({"y.yaml": "name: Y"}, name="elsewhere")
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "elsewhere")
    summary = index_roots(catalog, [tmp_path / "tree"])
    assert (summary.roots, summary.found, summary.discovered) == (3, 3, 3)
    assert listed(catalog) == dict.fromkeys("abc", "unvalidated")
    again = index_roots(catalog)
    assert (again.roots, again.found, again.discovered, again.changed) == (3, 3, 0, 0)


def test_new_roots_are_found_by_a_full_walk(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    make_repository({"a.yaml": "name: A"}, name="tree/one")
    index_roots(catalog, [tmp_path / "tree"])
    make_repository({"b.yaml": "name: B"}, name="tree/two")
    assert index_roots(catalog, [tmp_path / "tree"]).discovered == 0
    assert index_roots(catalog, [tmp_path / "tree"], full=True).discovered == 1
    assert index_roots(catalog).found == 2


def test_a_change_a_new_file_and_a_removed_one_are_noticed(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A", "b.yaml": "name: B", "c.yaml": "name: C"})
    index_roots(catalog, [root])
    folder = root / ".fleetprompt" / "workflows"
    (folder / "a.yaml").write_text("name: A2")
    (folder / "b.yaml").unlink()
    (folder / "d.yaml").write_text("name: D")
    changes: list[Change] = []
    summary = index_roots(catalog, on_change=changes.append)
    assert (summary.found, summary.discovered, summary.changed, summary.removed) == (3, 1, 1, 1)
    assert sorted((c.kind, c.workflow_id) for c in changes if c.kind != "removed") == [
        ("changed", "a"),
        ("discovered", "d"),
    ]
    assert [c.relative for c in changes if c.kind == "removed"] == [
        b".fleetprompt/workflows/b.yaml"
    ]
    assert catalog.find("a").entry.name == "A2"


def test_a_change_that_leaves_size_and_mtime_alone_is_noticed(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    file = root / ".fleetprompt" / "workflows" / "a.yaml"
    status = file.stat()
    index_roots(catalog, [root])
    file.write_text("name: B")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert index_roots(catalog).changed == 1
    assert catalog.find("a").entry.name == "B"


def test_touching_a_file_is_no_change(catalog: Catalog, make_repository: MakeRepository) -> None:
    root = make_repository({"a.yaml": "name: A"})
    index_roots(catalog, [root])
    os.utime(root / ".fleetprompt" / "workflows" / "a.yaml")
    summary = index_roots(catalog)
    assert (summary.found, summary.changed) == (1, 0)


def test_a_validation_holds_until_the_bytes_change(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "steps: []"})
    file = root / ".fleetprompt" / "workflows" / "a.yaml"
    index_roots(catalog, [root])
    item = catalog.find("a")
    assert item.entry.sha256 is not None
    finding = {
        "code": "steps.empty",
        "severity": "error",
        "message": "No steps.",
        "file": "a.yaml",
        "line": 1,
        "column": 8,
        "docs": "a field of a later version",
    }
    assert catalog.mark_validated(
        item.root,
        item.entry.relative,
        sha256=item.entry.sha256,
        is_valid=False,
        digest="d" * 64,
        diagnostics=[finding],
    )
    marked = catalog.find("a")
    assert (marked.entry.status, marked.digest) == ("invalid", "d" * 64)
    assert [problem.code for problem in marked.entry.problems] == ["steps.empty"]
    file.write_text("steps: [ ]")
    index_roots(catalog)
    assert (catalog.find("a").entry.status, catalog.find("a").digest) == ("unvalidated", None)
    file.write_text("steps: []")
    index_roots(catalog)
    assert catalog.find("a").entry.status == "invalid", "the same bytes, the same validation"
    assert not catalog.mark_validated(root, b"nothing", sha256="0" * 64, is_valid=True)


def test_a_validation_of_other_bytes_is_not_taken(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "steps: []"})
    index_roots(catalog, [root])
    relative = catalog.find("a").entry.relative
    assert not catalog.mark_validated(root, relative, sha256="0" * 64, is_valid=True)
    assert catalog.find("a").entry.status == "unvalidated"


def test_a_root_that_is_away_is_stale_and_comes_back(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    index_roots(catalog, [root])
    root.rename(tmp_path / "away")
    summary = index_roots(catalog)
    assert (summary.roots_gone, summary.found) == (1, 0)
    assert listed(catalog) == {"a": "stale"}
    assert [h.entry.workflow_id for h in catalog.search("", status="stale").hits] == ["a"]
    (tmp_path / "away").rename(root)
    assert index_roots(catalog).found == 1
    assert listed(catalog) == {"a": "unvalidated"}


def test_a_full_run_drops_what_is_gone(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    make_repository({"a.yaml": "name: A"}, name="tree/one")
    gone = make_repository({"b.yaml": "name: B"}, name="tree/two")
    index_roots(catalog, [tmp_path / "tree"])
    shutil.rmtree(gone)
    assert index_roots(catalog, full=True).removed == 1
    assert [path.name for path in catalog.roots()] == ["one"]


def test_folders_that_cannot_be_looked_through_are_told(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    tree = make_repository({"a.yaml": "name: A"}, name="tree/one").parent
    summary = index_roots(catalog, [tree, tmp_path / "file", tmp_path / "none"])
    assert summary.found == 1
    assert [notice.rpartition("through: ")[2] for notice in summary.notices] == [
        "Not a directory.",
        "No such file or directory.",
    ]
    shutil.rmtree(tree)
    assert index_roots(catalog).notices == []
    assert len(index_roots(catalog, full=True).notices) == 1
    assert (index_roots(catalog, full=True).notices, catalog.roots()) == ([], [])


def test_a_folder_that_is_no_root_any_more_lists_nothing(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    index_roots(catalog, [root])
    shutil.rmtree(root / ".fleetprompt")
    assert index_roots(catalog).removed == 1
    assert listed(catalog) == {}


def test_a_workflow_folder_that_becomes_a_link_lists_nothing(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    root = make_repository({"a.yaml": "name: A"})
    index_roots(catalog, [root])
    folder = root / ".fleetprompt" / "workflows"
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    summary = index_roots(catalog)
    assert (summary.removed, summary.refused) == (1, {"file.symlink": 1})


def test_a_new_configuration_is_noticed(catalog: Catalog, make_repository: MakeRepository) -> None:
    root = make_repository({"a.yaml": "name: A"})
    index_roots(catalog, [root])
    config = root / ".fleetprompt" / "config.toml"
    config.write_text('[[workflows]]\nid = "alpha"\nentry = ".fleetprompt/workflows/a.yaml"\n')
    index_roots(catalog)
    assert set(listed(catalog)) == {"alpha"}
    config.write_text('[[workflows]]\nid = "gamma"\nentry = "missing.yaml"\n')
    index_roots(catalog)
    assert listed(catalog) == {"a": "unvalidated", "gamma": "unreadable"}
    assert index_roots(catalog).changed == 0
    config.write_text("[fleetprompt]\nenabled = false\n")
    assert index_roots(catalog).removed == 2


def test_refusals_are_counted_by_code(catalog: Catalog, make_repository: MakeRepository) -> None:
    root = make_repository({"a.yaml": "a: *x", "b.yaml": "a: *x", "c.yaml": b"\xff"})
    refused = {"document.alias": 2, "document.encoding": 1}
    assert index_roots(catalog, [root]).refused == refused
    other = make_repository({"d.yaml": "a: *x"})
    assert index_roots(catalog, [other]).refused == {"document.alias": 1}, "what was asked for"
    shutil.rmtree(other)
    assert index_roots(catalog).refused == refused, "what is there"


def test_a_refusal_that_stays_is_no_change(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    root = make_repository({"large.yaml": b"#" * 200_000})
    os.mkfifo(root / ".fleetprompt" / "workflows" / "pipe.yaml")
    assert index_roots(catalog, [root]).discovered == 2
    assert index_roots(catalog).changed == 0
    (root / ".fleetprompt" / "workflows" / "large.yaml").write_text("name: small")
    assert index_roots(catalog).changed == 1


def test_files_are_not_opened_when_nothing_has_changed(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    # A file whose content could not be read any more is still listed, because nothing looks at it.
    # What changed within two seconds of a scan is looked at again, so the clock has to move on.
    root = make_repository({"a.yaml": "name: A"})
    index_roots(catalog, [root])
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "from fleetprompt_indexer import index\n"
        "from fleetprompt_indexer.catalog import Catalog\n"
        "opened = []\n"
        "index.RACY_NS = 0\n"
        "with Catalog(Path(sys.argv[1])) as catalog:\n"
        "    index.index_roots(catalog)\n"
        "    sys.addaudithook(lambda e, a: opened.append(a[0]) if e == 'open' else None)\n"
        "    index.index_roots(catalog)\n"
        "print([path for path in opened if 'a.yaml' in str(path)])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(catalog.path)], capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_one_root_gives_its_own_changes(catalog: Catalog, make_repository: MakeRepository) -> None:
    root = make_repository({"a.yaml": "name: A"})
    first = index_root(catalog, os.fsencode(root))
    assert [(change.kind, change.workflow_id) for change in first] == [("discovered", "a")]
    assert index_root(catalog, os.fsencode(root)) == []
    (root / ".fleetprompt" / "workflows" / "a.yaml").write_text("name: B")
    (second,) = index_root(catalog, os.fsencode(root))
    assert second.to_json() == {
        "root": str(root),
        "file_path": ".fleetprompt/workflows/a.yaml",
        "workflow_id": "a",
        "sha256": catalog.find("a").entry.sha256,
    }
    assert index_root(catalog, os.fsencode(root / "none")) == []


def test_progress_is_reported(catalog: Catalog, make_repository: MakeRepository) -> None:
    for number in range(3):
        make_repository({"a.yaml": "name: A"}, name=f"tree/{number}")
    reports: list[Progress] = []
    root = catalog.path.parent.parent / "tree"
    for number in range(1000):
        (root / f"folder{number}").mkdir()
    index_roots(catalog, [root], on_progress=reports.append)
    assert [(report.folders, report.total) for report in reports[:2]] == [(500, None), (1000, None)]
    last = reports[-1]
    assert (last.roots, last.total, last.found) == (3, 3, 3)
    assert last.path.startswith(str(root))


def test_names_not_in_utf_8_are_kept(catalog: Catalog, make_repository: MakeRepository) -> None:
    root = make_repository(name=os.fsdecode(b"r\xff"))
    with open(os.fsencode(root) + b"/.fleetprompt/workflows/w\xfe.yaml", "wb") as file:
        file.write(b"id: w")
    index_roots(catalog, [root])
    item = catalog.find("w")
    assert (item.root, item.entry.relative) == (root, b".fleetprompt/workflows/w\xfe.yaml")
    assert item.entry.file_path == ".fleetprompt/workflows/w\\xfe.yaml"
    assert index_roots(catalog).changed == 0


def test_an_interrupted_run_is_continued(
    catalog: Catalog, make_repository: MakeRepository, tmp_path: Path
) -> None:
    for number in range(40):
        make_repository({f"w{n}.yaml": f"name: W{n}" for n in range(30)}, name=f"tree/{number:02}")

    def stop(progress: Progress) -> None:
        if progress.roots > 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_roots(catalog, [tmp_path / "tree"], on_progress=stop)
    kept = len(catalog.entries())
    assert 0 < kept < 1200
    summary = index_roots(catalog)
    assert (summary.found, summary.discovered) == (1200, 1200 - kept)


def test_two_indexers_at_once_agree(make_repository: MakeRepository, tmp_path: Path) -> None:
    for number in range(30):
        make_repository({f"w{n}.yaml": f"name: W{n}" for n in range(10)}, name=f"tree/{number}")
    path = tmp_path / "state" / "catalog.db"
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from fleetprompt_indexer.catalog import Catalog\n"
        "from fleetprompt_indexer.index import index_roots\n"
        "with Catalog(Path(sys.argv[1])) as catalog:\n"
        "    for _ in range(3):\n"
        "        summary = index_roots(catalog, [Path(sys.argv[2])], full=True)\n"
        "    print(summary.found, summary.notices)\n"
    )
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, path, tmp_path / "tree"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    assert [child.communicate(timeout=60) for child in children] == [("300 []\n", "")] * 3
    with Catalog(path) as catalog:
        assert len(catalog.entries()) == 300
        assert len(catalog.search("w3", limit=50).hits) == 30


def test_readers_are_not_kept_waiting_by_a_writer(
    catalog: Catalog, make_repository: MakeRepository
) -> None:
    index_roots(catalog, [make_repository({"a.yaml": "name: A"})])
    with Catalog(catalog.path) as writer, Catalog(catalog.path) as reader:
        answers: list[int] = []
        asked = threading.Event()

        def read() -> None:
            answers.append(len(reader.entries()))
            asked.set()

        def hold(_connection: object) -> None:
            thread = threading.Thread(target=read)
            thread.start()
            assert asked.wait(30), "the reader waits for the writer"
            thread.join()

        writer._write(hold)  # the one way to stand inside a transaction
        assert answers == [1]
