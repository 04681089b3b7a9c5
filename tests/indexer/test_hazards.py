"""Files that have broken other readers: each is refused for its own reason, or read as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import yaml

from fleetprompt_indexer.document import compose
from fleetprompt_indexer.entry import format_of
from fleetprompt_indexer.reader import MAX_FILE_BYTES
from fleetprompt_indexer.scan import scan_root
from fleetprompt_protocol.errors import WorkflowError

if TYPE_CHECKING:
    from pathlib import Path

BOUNDED = """
import json, resource, sys
from pathlib import Path
from fleetprompt_indexer.scan import scan_root
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
report = scan_root(Path(sys.argv[1]))
json.dump([entry.to_json() for entry in report.entries], sys.stdout)
"""


def first_error(name: str, content: bytes) -> str | None:
    try:
        compose(content, format=format_of(name), file=name)
    except WorkflowError as error:
        found = (error.details or {})["diagnostics"]
        return next(str(d["code"]) for d in found if d["severity"] == "error")
    return None


def test_each_hazard_is_refused_for_its_own_reason(hazards: dict[str, Any]) -> None:
    assert all(len(hazard.content) <= MAX_FILE_BYTES for hazard in hazards.values())
    found = {name: first_error(name, hazard.content) for name, hazard in hazards.items()}
    assert found == {name: hazard.code for name, hazard in hazards.items()}


def test_what_is_taken_means_what_it_says(hazards: dict[str, Any]) -> None:
    def value(name: str) -> Any:
        return compose(hazards[name].content, format="yaml", file=name).to_python()

    assert value("norway.yaml") == {
        "name": "no",
        "version": 1.1,
        "inputs": {"on": {"default": "off"}},
    }
    assert value("times.yaml") == {"name": "12:30:45", "version": "2024-01-31"}
    assert value("line-separators.yaml") == {"a": 1, "b": 2, "c": 3}
    assert yaml.safe_load(hazards["norway.yaml"].content)["name"] is False, (
        "why we read it ourselves"
    )


def test_a_repository_of_hazards_is_listed_within_bounds(
    hostile_root: Path, hazards: dict[str, Any]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, hostile_root], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    entries = json.loads(done.stdout)
    by_file = {entry["file_path"].rpartition("/")[2]: entry for entry in entries}
    assert by_file.keys() >= hazards.keys()
    for name, hazard in hazards.items():
        entry = by_file[name]
        if hazard.code == "document.number":  # only composing looks at every number
            continue
        errors = [p for p in entry["problems"] if p["severity"] == "error"]
        assert hazard.code is None or errors[0]["code"] == hazard.code, name
        assert len(json.dumps(entry)) < 50_000
    shown = json.dumps(entries, ensure_ascii=False)
    assert "outside\n" not in shown
    for character in "\x1b\x07\u202e\x00":
        assert character not in shown


def test_file_system_hazards_have_their_codes(hostile_root: Path) -> None:
    report = scan_root(hostile_root)
    codes = {
        entry.workflow_id: entry.problems[0].code
        for entry in report.entries
        if entry.status == "unreadable" and entry.sha256 is None
    }
    locked = {"locked": "file.permission"} if "locked" in codes else {}
    assert codes == {
        "link": "file.symlink",
        "dangling": "file.symlink",
        "loop": "file.symlink",
        "above": "file.symlink",
        "up": "file.path",
        "folder": "file.not_regular",
        "pipe": "file.not_regular",
        "socket": "file.not_regular",
        "sparse": "file.too_large",
        "etc": "file.path",
        **locked,
    }
    named = {(e.workflow_id, e.problems[0].code) for e in report.entries if "secret" in e.file_path}
    assert named == {("up", "file.path"), ("link", "file.symlink")}
    assert "hidden" not in {entry.name for entry in report.entries}
