"""Whatever happens to a root, an index run ends with what a fresh look would list."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fleetprompt_indexer.catalog import Catalog
from fleetprompt_indexer.index import index_roots
from fleetprompt_indexer.scan import scan_root

NAMES = st.sampled_from(["a.yaml", "b.yml", "c.json", "d.yaml"])
TEXTS = st.sampled_from(
    ["name: A", "name: B", "id: same", "id: b", "a: *x", "{}", "", "name: A\nsteps: []", "\t"]
)
CONFIGS = st.sampled_from(
    [
        "",
        "[fleetprompt]\nenabled = false\n",
        '[[workflows]]\nid = "x"\nentry = "flows/x.yaml"\n',
        '[[workflows]]\nid = "other"\nentry = ".fleetprompt/workflows/a.yaml"\n',
        "broken = ",
    ]
)


class Root(RuleBasedStateMachine):
    """A root under random changes, and a catalog that follows."""

    def __init__(self) -> None:
        super().__init__()
        self.top = Path(tempfile.mkdtemp())
        self.root = self.top / "root"
        self.folder = self.root / ".fleetprompt" / "workflows"
        self.folder.mkdir(parents=True)
        (self.root / "flows").mkdir()
        self.catalog = Catalog(self.top / "catalog.db")
        index_roots(self.catalog, [self.root])

    def teardown(self) -> None:
        self.catalog.close()
        shutil.rmtree(self.top)

    def clear(self, path: Path) -> None:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)

    @rule(name=NAMES, text=TEXTS)
    def write(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / name).is_dir():
            (self.folder / name).write_text(text)

    @rule(name=NAMES, text=TEXTS)
    def write_in_place_of(self, name: str, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clear(self.folder / name)
        (self.folder / ".new").write_text(text)
        (self.folder / ".new").rename(self.folder / name)

    @rule(name=NAMES)
    def remove(self, name: str) -> None:
        self.clear(self.folder / name)

    @rule(name=NAMES)
    def link(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clear(self.folder / name)
        (self.folder / name).symlink_to(self.root / "flows" / "x.yaml")

    @rule(name=NAMES)
    def make_folder(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clear(self.folder / name)
        (self.folder / name).mkdir()

    @rule(one=NAMES, other=NAMES)
    def rename(self, one: str, other: str) -> None:
        if (self.folder / one).is_file() and not (self.folder / other).is_dir():
            (self.folder / one).rename(self.folder / other)

    @rule(name=NAMES)
    def touch(self, name: str) -> None:
        if (self.folder / name).is_file():
            os.utime(self.folder / name)

    @rule(text=CONFIGS)
    def configure(self, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder.parent / "config.toml").write_text(text)

    @rule(text=TEXTS)
    def write_elsewhere(self, text: str) -> None:
        (self.root / "flows" / "x.yaml").write_text(text)

    @rule()
    def exchange_workflows(self) -> None:
        if self.folder.is_dir():
            self.folder.rename(self.folder.with_name("old"))
            self.folder.mkdir()
            shutil.rmtree(self.folder.with_name("old"))

    @rule()
    def remove_everything(self) -> None:
        self.clear(self.root / ".fleetprompt")

    @invariant()
    def the_catalog_lists_what_is_there(self) -> None:
        index_roots(self.catalog)
        listed = {item.entry.relative: item.entry.to_json() for item in self.catalog.entries()}
        there = {entry.relative: entry.to_json() for entry in scan_root(self.root).entries}
        assert listed == there
        with closing(sqlite3.connect(self.catalog.path)) as file:
            # Raises when the words are not those of the entries.
            file.execute(
                "INSERT INTO entry_words (entry_words, rank) VALUES ('integrity-check', 1)"
            )


TestRoot = Root.TestCase
TestRoot.settings = settings(max_examples=25, stateful_step_count=20)
