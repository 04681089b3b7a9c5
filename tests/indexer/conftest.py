"""Repositories made for one test, harmless and hostile ones."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

MakeRepository = Callable[..., Path]


@pytest.fixture
def make_repository(tmp_path: Path) -> MakeRepository:
    """Give a function that makes a root with the workflow files it is given."""
    count = 0

    def make(files: dict[str, str | bytes] | None = None, *, name: str | None = None) -> Path:
        nonlocal count
        count += 1
        root = tmp_path / (name or f"repository{count}")
        folder = root / ".fleetprompt" / "workflows"
        folder.mkdir(parents=True)
        for file, content in (files or {}).items():
            data = content.encode() if isinstance(content, str) else content
            (folder / file).write_bytes(data)
        return root

    return make


@dataclass(frozen=True)
class Hazard:
    """A file that has broken, stalled or misled some reader of YAML or JSON."""

    content: bytes
    code: str | None
    """What it is refused for; None when it is taken."""


def _yaml(content: str | bytes, code: str | None) -> Hazard:
    return Hazard(content.encode() if isinstance(content, str) else content, code)


FULL = 100_000
"""Bytes of the hazards that are as long as a file may be."""

MERGE_BOMB = "a0: &a0 {k0: 0, j0: 0}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: {n}}}\n" for n in range(1, 7)
)
LAUGHS = "a0: &a0 lol\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


def _repeated(part: str) -> str:
    return part * (FULL // len(part.encode()))


_HAZARDS: dict[str, Hazard] = {
    # nesting: 25,000 levels end PyYAML's composer with a segmentation fault
    "flow-lists": _yaml("a: " + "[" * 25_000 + "]" * 25_000, "document.too_deep"),
    "flow-lists-open": _yaml("a: " + "[" * (FULL - 3), "document.too_deep"),
    "flow-maps": _yaml("a: " + "{a: " * 20_000 + "}" * 20_000, "document.too_deep"),
    "flow-mixed": _yaml("a: " + "[{a: " * 15_000, "document.too_deep"),
    "block-lists": _yaml("a:\n" + "- " * 49_000 + "x", "document.too_deep"),
    "block-maps": _yaml("".join(" " * n + "a:\n" for n in range(400)), "document.too_deep"),
    "explicit-keys": _yaml("? " * 49_000, "document.key"),
    # growth: a few hundred bytes that become gigabytes
    "merge-bomb": _yaml(MERGE_BOMB, "document.merge_key"),
    "laughs": _yaml(LAUGHS, "document.alias"),
    "alias-key": _yaml("a: &x 1\n*x : 2\n", "document.alias"),
    "alias-to-itself": _yaml("a: &x [*x]\n", "document.alias"),
    "alias-to-nothing": _yaml("a: *nothing\n", "document.alias"),
    "anchors": _yaml("".join(f"k{n}: &a{n}\n" for n in range(6_000)), "document.anchors"),
    "many-scalars": _yaml("a: [" + "1," * 49_000 + "]", "document.too_complex"),
    "many-keys": _yaml("".join(f"k{n}:\n" for n in range(11_000)), "document.too_complex"),
    "many-maps": _yaml("a:\n" + "- {}\n" * 19_000, "document.too_complex"),
    # one thing, as long as a file may be
    "long-key": _yaml("a: 1\n" + "k" * FULL + ": 1", "document.syntax"),
    "long-quoted-key": _yaml(f'a: 1\n"{"k" * FULL}": 1', "document.syntax"),
    "long-plain": _yaml("a: " + "x" * FULL, None),
    "long-quoted": _yaml('a: "' + "\\n" * 49_000 + '"', None),
    "long-escapes": _yaml('a: "' + "\\x41" * 24_000 + '"', None),
    "long-block": _yaml("a: |\n" + "  line\n" * 14_000, None),
    "long-folded": _yaml("a: >\n" + "  x\n\n" * 19_000, None),
    "long-comment": _yaml("#" * FULL + "\na: 1", None),
    "long-integer": _yaml("a: " + "9" * FULL, "document.number"),
    "long-hexadecimal": _yaml("a: 0x" + "f" * FULL, "document.number"),
    "long-float": _yaml("a: 0." + "1" * FULL, "document.number"),
    "long-tag": _yaml("a: !" + "t" * FULL + " x", "document.tag"),
    "long-anchor": _yaml("a: &" + "t" * FULL + " x", None),
    "long-alias": _yaml("a: *" + "t" * FULL, "document.alias"),
    "long-directive": _yaml("%YAML " + "1" * FULL + "\n--- {}", "document.syntax"),
    "blank-lines": _yaml("\n" * FULL + "a: 1", None),
    "spaces": _yaml(" " * FULL, "document.empty"),
    "tabs": _yaml("a:\n" + "\t" * FULL, "document.syntax"),
    "dashes": _yaml("-" * FULL, "document.not_a_map"),
    "quotes": _yaml("a: " + "'" * 99_999, "document.syntax"),
    "colons": _yaml("a" + ":" * FULL, "document.not_a_map"),
    "colon-spaces": _yaml(_repeated("a: "), "document.syntax"),
    "commas": _yaml("a: [" + "," * FULL, "document.syntax"),
    "brackets": _yaml("a: " + "]" * FULL, "document.syntax"),
    "document-starts": _yaml(_repeated("---\n"), "document.not_a_map"),
    "document-ends": _yaml("a: 1\n" + _repeated("...\n"), None),
    "duplicates": _yaml("a: 1\n" * 9_000, "document.duplicate_key"),
    "questions": _yaml(_repeated("? a\n"), "document.duplicate_key"),
    # meaning: what one reader takes for something else than the next one
    "duplicate": _yaml("a: 1\nb: {c: 1, d: 2, c: 3}\n", "document.duplicate_key"),
    "norway": _yaml("name: no\nversion: 1.10\ninputs: {on: {default: off}}\n", None),
    "times": _yaml("name: 12:30:45\nversion: 2024-01-31\n", None),
    "python-object": _yaml("a: !!python/object/apply:os.system [id]\n", "document.tag"),
    "python-name": _yaml("a: !!python/name:os.system\n", "document.tag"),
    "binary": _yaml("a: !!binary aGk=\n", "document.tag"),
    "set": _yaml("a: !!set {b, c}\n", "document.tag"),
    "tag-directive": _yaml("%TAG ! tag:x,2000:\n---\na: !y 1\n", "document.tag"),
    "include": _yaml("a: !include /etc/passwd\n", "document.tag"),
    "two-documents": _yaml("a: 1\n---\nb: 2\n", "document.multiple"),
    "template": _yaml("{{ if x }}: 1\n", "document.key"),
    "expression": _yaml("steps:\n- with: {a: ${{ b }}}\n", "document.syntax"),
    "glob": _yaml("paths: *.py\n", "document.syntax"),
    "infinite": _yaml("a: .inf\n", "document.number"),
    "not-a-number": _yaml("a: .NaN\n", "document.number"),
    # bytes
    "nothing": _yaml("", "document.empty"),
    "zeros": _yaml(b"\0" * FULL, "document.syntax"),
    "escape": _yaml("name: \x1b]0;owned\x07\n", "document.syntax"),
    "escaped-escape": _yaml('name: "\\e]0;owned\\a\\u202egnp.exe"\n', None),
    "utf-16": _yaml("a: 1".encode("utf-16"), "document.encoding"),
    "utf-32": _yaml("a: 1".encode("utf-32"), "document.encoding"),
    "latin-1": _yaml("a: é".encode("latin-1"), "document.encoding"),
    "overlong": _yaml(b"a: \xc0\xaf\n", "document.encoding"),
    "surrogate": _yaml(b"a: \xed\xa0\x80\n", "document.encoding"),
    "beyond-unicode": _yaml(b"a: \xf4\x90\x80\x80\n", "document.encoding"),
    "cut": _yaml("a: é".encode()[:-1], "document.encoding"),
    "byte-order-mark": _yaml(b"\xef\xbb\xbfname: marked\n", None),
    "mark-in-the-middle": _yaml("a: 1\n\ufeffb: 2\n", "document.syntax"),
    "line-separators": _yaml("a: 1\u2028b: 2\x85c: 3\n", None),
    "carriage-returns": _yaml("a: 1\rb: 2\r\nc: 3\n", None),
    "random": _yaml(bytes(n * 167 % 251 for n in range(5_000)), "document.encoding"),
    "elf": _yaml(b"\x7fELF\x02\x01\x01" + b"\0" * 500, "document.syntax"),
    "gzip": _yaml(b"\x1f\x8b\x08\0\0\0\0\0", "document.encoding"),
}
_HAZARDS = {f"{name}.yaml": hazard for name, hazard in _HAZARDS.items()} | {
    f"{name}.json": hazard
    for name, hazard in {
        "lists": _yaml('{"a": ' + "[" * 90_000, "document.too_deep"),
        "maps": _yaml('{"a": ' + '{"a": ' * 16_000, "document.too_deep"),
        "many": _yaml('{"a": [' + "1," * 45_000 + "1]}", "document.too_complex"),
        "duplicate": _yaml('{"a": 1, "\\u0061": 2}', "document.duplicate_key"),
        "not-a-number": _yaml('{"a": NaN}', "document.syntax"),
        "infinite": _yaml('{"a": -Infinity}', "document.syntax"),
        "overflow": _yaml('{"a": 1e999}', "document.number"),
        "long-integer": _yaml('{"a": ' + "9" * 90_000 + "}", "document.number"),
        "long-text": _yaml('{"a": "' + "\\u00e9" * 16_000 + '"}', None),
        "long-space": _yaml("{" + " " * 90_000 + "}", None),
        "half-pair": _yaml('{"a": "\\ud800"}', "document.syntax"),
        "comment": _yaml('{"a": 1 /* b */}', "document.syntax"),
        "comma": _yaml('{"a": 1,}', "document.syntax"),
        "single-quotes": _yaml("{'a': 1}", "document.syntax"),
        "newline": _yaml('{"a": "b\nc"}', "document.syntax"),
        "quotes": _yaml('{"' * 40_000, "document.syntax"),
        "backslashes": _yaml('{"a": "' + "\\" * 90_001, "document.syntax"),
        "list": _yaml("[]", "document.not_a_map"),
        "nothing": _yaml("", "document.empty"),
        "yaml": _yaml("a: 1", "document.syntax"),
        "byte-order-mark": _yaml(b'\xef\xbb\xbf{"name": "marked"}', None),
        "utf-16": _yaml('{"a": 1}'.encode("utf-16-le"), "document.syntax"),
    }.items()
}


@pytest.fixture
def hazards() -> dict[str, Hazard]:
    """File name to a file that has broken, stalled or misled a reader."""
    return _HAZARDS


@pytest.fixture
def hostile_root(
    tmp_path: Path, make_repository: MakeRepository, hazards: dict[str, Hazard]
) -> Path:
    """A repository that holds every hazard, of contents and of file systems."""
    root = make_repository(
        {name: hazard.content for name, hazard in hazards.items()}, name="hostile"
    )
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.yaml").write_text("name: outside\n")
    folder = root / ".fleetprompt" / "workflows"
    (folder / "link.yaml").symlink_to(outside / "secret.yaml")
    (folder / "dangling.yaml").symlink_to(outside / "none")
    (folder / "loop.yaml").symlink_to(folder / "loop.yaml")
    (folder / "above.yaml").symlink_to("../../../outside/secret.yaml")
    (folder / "folder.yaml").mkdir()
    (folder / "deeper").mkdir()
    (folder / "deeper" / "hidden.yaml").write_text("name: hidden\n")
    os.mkfifo(folder / "pipe.yaml")
    listener = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket is short
    try:
        listener.bind("socket.yaml")
    finally:
        os.chdir(here)
        listener.close()
    with (folder / "sparse.yaml").open("wb") as file:
        file.truncate(1 << 40)
    (folder / "locked.yaml").write_text("name: locked\n")
    (folder / "locked.yaml").chmod(0)
    (folder / ("n" * 250 + ".yaml")).write_text("name: long\n")
    for name in (b"w\xff.yaml", b"new\nline.yaml", b"\x1b[31m.yaml", "\u202eyl.yaml".encode()):
        with open(os.fsencode(folder) + b"/" + name, "wb") as file:
            file.write(b"name: odd\n")
    (root / "linked").symlink_to(outside)
    (root / ".fleetprompt" / "config.toml").write_text(
        "[project]\nname = '${HOME} `id` $(id)'\n"
        "[[workflows]]\nid = 'up'\nentry = '../outside/secret.yaml'\n"
        "[[workflows]]\nid = 'link'\nentry = 'linked/secret.yaml'\n"
        "[[workflows]]\nid = 'etc'\nentry = '/etc/x.yaml'\n"
        "[[workflows]]\nid = 'passwd'\nentry = '/etc/passwd'\n"
    )
    return root
