"""A corpus of repositories with workflow files: the same one for the same number, on any machine."""

from __future__ import annotations

import json
import random
from pathlib import Path

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
    repository has: source folders, and `node_modules` with many empty files. The YAML has some 16
    bytes for each parse event, as 39 GitHub workflows found in installed packages have (16.1; 4,285
    other YAML files: 20.6): the fewer, the more a parser works for a byte.
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
