"""Repositories with workflow files: the same ones for the same number, on any machine."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

# ruff: noqa: SIM905  # as text the lists stay short
VERBS = "build check collect deploy fetch label lint notify publish report review scan test".split()
NOUNS = "branch cache cluster docs image inbox issues metrics pods release schema site tags".split()
PROGRAMS = "gh git kubectl terraform npm cargo make pytest ruff jq curl docker helm aws".split()
SERVERS = "github linear slack sentry grafana".split()
WORDS = (
    "the of and to in for every when that is with from after before only until each nightly "
    "weekly release candidate production staging review approval rollback artifact summary owner "
    "team dashboard alert incident customer invoice ledger migration backup restore index"
).split()


def make(folder: Path, files: int, seed: int = 7) -> int:
    """Write about `files` workflow files into repositories beneath the folder; the exact number.

    One to ten files in a repository, about 3.3 KB each, 6% of them JSON; beside them what a
    repository has: source folders, and `node_modules` with many empty files. The YAML has 13.9
    bytes for each parse event, a little less than 39 GitHub workflows found in installed packages
    (16.1) and 4,285 other YAML files (20.6): the fewer, the more a parser does for a byte.
    """
    chance = random.Random(seed)
    made = repository = 0
    while made < files:
        owner = folder / f"team{repository % 97:02}" / f"repository{repository:06}"
        workflows = owner / ".fleetprompt" / "workflows"
        workflows.mkdir(parents=True)
        for number in range(min(chance.choice([1, 1, 2, 2, 3, 3, 4, 5, 6, 10]), files - made)):
            workflow = _workflow(chance, made)
            stem = f"{workflow['name'].replace(' ', '-').lower()}-{number}"
            if chance.random() < 0.06:
                text, ending = json.dumps(workflow, indent=2), "json"
            else:
                text, ending = _yaml(workflow), "yaml"
            (workflows / f"{stem}.{ending}").write_text(text)
            made += 1
        for package in range(5):
            modules = owner / "node_modules" / f"package{package}"
            modules.mkdir(parents=True)
            for name in ("index.js", "package.json"):
                (modules / name).touch()
        (owner / "src" / "lib").mkdir(parents=True)
        repository += 1
    return made


def _workflow(chance: random.Random, number: int) -> dict[str, object]:
    verb, noun = chance.choice(VERBS), chance.choice(NOUNS)
    steps: list[dict[str, object]] = []
    for index in range(chance.randint(4, 20)):
        step: dict[str, object] = {"id": f"{chance.choice(VERBS)}_{index}"}
        if chance.random() < 0.5:
            step["name"] = " ".join(chance.sample(WORDS, 5)).capitalize()
        match chance.randrange(6):
            case 0:
                server = chance.choice(SERVERS)
                step["tool"] = f"mcp:{server}/{chance.choice(VERBS)}_{chance.choice(NOUNS)}"
                step["with"] = {"owner": "$inputs.owner", "limit": chance.randint(1, 100)}
            case 1:
                step["command"] = "flow set"
                step["with"] = {"summary": "${{ inputs.owner }}", "count": index}
            case _:
                words = " ".join(f"--{word}" for word in chance.sample(WORDS, 3))
                step["command"] = (
                    f"cli {chance.choice(PROGRAMS)} {chance.choice(VERBS)} {chance.choice(NOUNS)} "
                    f"{words} --format json"
                )
        if index:
            step["needs"] = [steps[chance.randrange(index)]["id"]]
            step["stdin"] = f"${steps[-1]['id']}.stdout"
        if chance.random() < 0.3:
            step["if"] = f"inputs.count > {index} && steps.{step['id']}.json.count > 0"
        if chance.random() < 0.3:
            step["timeout"] = "30s"
        if chance.random() < 0.1:
            prompt = " ".join(chance.choices(WORDS, k=14))
            step["approval"] = {"prompt": f"{prompt.capitalize()}?"}
        steps.append(step)
    return {
        "name": f"{verb.title()} {noun}",
        "description": " ".join(chance.choices(WORDS, k=chance.randint(8, 60))) + f" w{number}.",
        "version": f"1.{chance.randint(0, 40)}",
        "inputs": {
            "owner": {"type": "string", "required": True, "description": "Who is asked"},
            "count": {"type": "integer", "default": chance.randint(1, 9)},
        },
        "steps": steps,
        "outputs": {"summary": f"${steps[-1]['id']}.text"},
    }


def _yaml(workflow: dict[str, object]) -> str:
    lines: list[str] = []
    for key, value in workflow.items():
        if key == "steps":
            lines.append("steps:")
            for step in workflow["steps"]:  # type: ignore[attr-defined]  # a list of steps
                lines.append(f"  # {len(lines)}: see {step['id']} in the handbook for the reasons.")
                for place, (name, inner) in enumerate(step.items()):
                    lines.append(f"{'- ' if place == 0 else '  '}{name}: {_scalar(inner)}")
                lines.append("")
        elif isinstance(value, dict):
            lines.append(f"{key}:")
            lines.extend(f"  {name}: {_scalar(inner)}" for name, inner in value.items())
        else:
            lines.append(f"{key}: {value}")
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_quoted(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(str(item) for item in value) + "]"
    return str(value)


def _quoted(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) and not value.isalpha() else str(value)


def hostile() -> dict[str, bytes]:
    """Files of up to 100 KB that cost some reader more than they should: name to content."""
    full = 100_000
    yaml = {
        "flow-lists": "a: " + "[" * 25_000 + "]" * 25_000,
        "block-lists": "a:\n" + "- " * 49_000 + "x",
        "merge-bomb": "a0: &a0 {k0: 0}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9)),
        "aliases": "a: &x 1\nb: [" + "*x, " * 20_000 + "]",
        "anchors": "".join(f"k{n}: &a{n}\n" for n in range(6_000)),
        "many-scalars": "a: [" + "1," * 49_000 + "]",
        "many-keys": "".join(f"k{n}:\n" for n in range(11_000)),
        "many-steps": "steps:\n" + "- {id: a, command: cli b}\n" * 2_200,
        "many-inputs": "inputs:\n" + "".join(f" i{n}: {{default: x}}\n" for n in range(2_400)),
        "duplicates": "a: 1\n" * 20_000,
        "tags": "a: [" + "!t x, " * 16_000 + "]",
        "long-plain": "name: " + "x " * 49_000,
        "long-escapes": 'name: "' + "\\x41" * 24_000 + '"',
        "long-control": 'description: "' + "\\x1b" * 24_000 + '"',
        "long-secret": "description: " + "token=" * 16_000,
        "long-words": "description: " + "a_b-c." * 16_000,
        "long-folded": "a: >\n" + "  x\n\n" * 19_000,
        "long-integer": "inputs: {a: {default: " + "9" * 90_000 + "}}",
        "blank-lines": "\n" * full,
        "quotes": "a: " + "'" * full,
        "questions": "? a\n" * 25_000,
        "colons": "a: " * 33_000,
        "comments": "a:\n" + "  #\n" * 25_000 + "  b: 1\n",
        "zeros": "\0" * full,
    }
    jsons = {
        "lists": '{"a": ' + "[" * 90_000,
        "many": '{"a": [' + "1," * 45_000 + "1]}",
        "many-maps": '{"a": [' + "{}," * 9_000 + "1]}",
        "lines": '{"a": [\n' + "1,\n" * 9_500 + "1]}",
        "long-text": '{"name": "' + "\\u00e9" * 16_000 + '"}',
        "space": "{" + " " * 90_000,
        "quotes": '{"' * 40_000,
        "backslashes": '{"a": "' + "\\" * 90_001,
    }
    files = {f"{name}.yaml": text for name, text in yaml.items()}
    files |= {f"{name}.json": text for name, text in jsons.items()}
    return {name: text.encode() for name, text in files.items()}
