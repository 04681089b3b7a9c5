"""What loading a workflow and evaluating an expression cost, against floors of the same run.

    .venv/bin/python benchmarks/language/bench_language.py

CPU time of this process, the best of several rounds; ratios are what can be compared between
machines.
"""

from __future__ import annotations

import ast
import random
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import yaml

from fleetprompt_agent.language.expressions.errors import ExpressionError
from fleetprompt_agent.language.expressions.evaluator import compile_node
from fleetprompt_agent.language.expressions.expression import Expression
from fleetprompt_agent.language.expressions.parser import parse
from fleetprompt_agent.language.loader import load_workflow
from fleetprompt_agent.language.templates import parse_template
from fleetprompt_indexer.document import compose

if TYPE_CHECKING:
    from collections.abc import Callable

EXPRESSION = (
    'steps.build.exit_code == 0 && inputs.env == "prod" && inputs.files.exists(f, f.size > 1000)'
)
SCOPE = {
    "steps": {"build": {"exit_code": 0}},
    "inputs": {"env": "prod", "files": [{"size": 10}, {"size": 2000}]},
}


def typical_file(steps: int) -> bytes:
    """A workflow as people write it: commands, references, conditions, a gate."""
    lines = [
        "name: Review\ndescription: Looks at a pull request\nversion: 1.2.0\n",
        "inputs:\n  pr: {type: integer, required: true}\n  tag: {type: string, default: family}\n",
        "env: {LANG: C}\nsteps:\n",
        "  - id: s0\n    command: cli gh pr view ${{ inputs.pr }} --json files\n    output: json\n",
    ]
    lines += [
        f"  - id: s{number}\n"
        f"    name: Step number {number}\n"
        f"    command: cli tool run ${{{{ steps.s{number - 1}.text }}}} -t ${{{{ inputs.tag }}}}\n"
        f"    if: $s{number - 1}.exit_code == 0 && inputs.pr > 0\n"
        f"    stdin: $s{number - 1}.stdout\n"
        f"    env: {{STEP: '{number}'}}\n"
        f"    timeout: 30s\n"
        for number in range(1, steps)
    ]
    return "".join(lines).encode()


def best_us(work: Callable[[], object], seconds: float = 1.0) -> float:
    """The CPU time of one call in microseconds: the best of rounds that fill about `seconds`."""
    work()
    began = time.process_time()
    work()
    once = max(time.process_time() - began, 1e-6)
    count = max(1, int(0.05 / once))
    best = float("inf")
    until = time.process_time() + seconds
    while time.process_time() < until:
        began = time.process_time()
        for _ in range(count):
            work()
        best = min(best, (time.process_time() - began) / count)
    return best * 1e6


def show(what: str, value_us: float, floor_us: float | None = None, target: str = "") -> None:
    value = f"{value_us / 1000:9.2f} ms" if value_us >= 1000 else f"{value_us:9.1f} us"
    ratio = f"{value_us / floor_us:6.1f} x floor" if floor_us else " " * 14
    print(f"{what:44} {value}  {ratio}  {target}")


def main() -> None:
    floor = best_us(
        lambda: ast.parse('s.a.b == 0 and i.c == "prod" and any(f.size > 1000 for f in l)')
    )
    show("floor: CPython parses such an expression", floor)
    show("expression: parse", best_us(lambda: parse(EXPRESSION)), floor, "target 50 us")
    tree, references, slots = parse(EXPRESSION)
    show("expression: closures, once", best_us(lambda: compile_node(tree)), floor)
    expression = Expression(EXPRESSION, tree, references, slots)
    show("expression: evaluate", best_us(lambda: expression.evaluate(SCOPE)), None, "target 10 us")
    template = {"a": ["x ${{ inputs.env }}", "$build.exit_code"], "b": "constant"}
    show("template: render, cached", best_us(lambda: parse_template(template).render(SCOPE)))

    for steps, target in ((20, "target 5 ms"), (0, "target 150 ms")):
        if not steps:
            size = len(typical_file(200)) / 200
            steps = int(100_000 / size)
        data = typical_file(steps)
        floor = best_us(partial(yaml.load, data, yaml.CSafeLoader))
        show(f"floor: PyYAML loads {steps} steps, {len(data) // 1024} KB", floor)
        composed = best_us(partial(compose, data, format="yaml", file="w.yaml"))
        show("  compose, with places", composed, floor)
        load = partial(load_workflow, data, format="yaml", file="w.yaml")
        if load().plan is None:
            raise SystemExit(f"the file of the benchmark has faults: {load().diagnostics[:3]}")
        loaded = best_us(load, 2.0)
        show("  load: validate, compile, digest", loaded, floor, target)
        print(f"{'':44} {loaded / composed:12.1f} x composing it")
    worst_cases()


def once_us(work: Callable[[], object]) -> float:
    """The CPU time of the better of two calls, in microseconds."""
    return min(best_of_one(work), best_of_one(work))


def best_of_one(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1e6


HOSTILE = (
    "inputs.objects.exists(o, o.nope == 1)",
    "inputs.words.all(w, inputs.map == inputs.map)",
    "inputs.lists.all(x, inputs.lists == inputs.lists)",
    "inputs.words.all(w, inputs.text.startsWith(inputs.text))",
    "inputs.words.map(w, inputs.text + w)",
    "inputs.numbers.map(a, inputs.numbers.map(b, b))",
    '"x"' + '.replace("x", "xxxx")' * 30,
    "[[1]]" + ".map(a, a + a)" * 40,
    "[" + "1," * 1200 + "]",
    "1" + " + 1" * 900,
)
"""What takes longest of those in tests/agent/language/test_expression_bounds.py."""


def worst_cases() -> None:
    """The longest of hostile expressions, and of a file with random damage."""
    scope = {
        "inputs": {
            "text": "a" * 500_000,
            "numbers": list(range(200_000)),
            "words": ["x" * 100] * 10_000,
            "objects": [{"size": number} for number in range(20_000)],
            "map": {str(number): number for number in range(50_000)},
            "lists": [[1, 2, 3]] * 5_000,
        }
    }

    def refused(source: str) -> None:
        with suppress(ExpressionError):
            tree, references, slots = parse(source)
            Expression(source, tree, references, slots).evaluate(scope)

    slowest = max(once_us(partial(refused, source)) for source in HOSTILE)
    show("hostile expressions: the slowest", slowest, None, "target 25 ms")
    order = random.Random(1)
    text = typical_file(20).decode()
    signs = ["&x ", "*x", "!t ", "- ", ": ", "\n", "  ", "\t", "[", "]", "{", "}", '"', "'", "${{"]
    slowest = 0.0
    for _ in range(1000):
        damaged = text
        for _ in range(order.randint(1, 5)):
            place = order.randrange(len(damaged))
            sign = order.choice(signs) * order.choice((1, 1, 40))
            damaged = damaged[:place] + sign + damaged[place + order.choice((0, 1, 20)) :]
        data = damaged.encode()
        slowest = max(slowest, once_us(partial(load_workflow, data, format="yaml", file="w")))
    show("damaged files: the slowest of 1000", slowest, None, "target 50 ms")


if __name__ == "__main__":
    main()
