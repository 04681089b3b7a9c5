from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt_agent.language.edges import levels
from fleetprompt_agent.language.loader import Compiled
from fleetprompt_agent.language.plan import Need

Load = Callable[[str], Compiled]


def edges(compiled: Compiled) -> dict[str, list[tuple[str, str]]]:
    plan = compiled.raise_if_invalid()
    steps = (*plan.steps, *plan.finally_steps)
    return {step.id: [(need.step_id, need.origin) for need in step.needs] for step in steps}


def test_in_a_chain_needs_replaces_the_step_before(load: Load) -> None:
    compiled = load("""\
        steps:
          - {id: a, command: cli x}
          - {id: b, command: cli x}
          - {id: c, command: cli x, needs: [a]}
          - {id: d, command: cli x, needs: []}
          - {id: e, command: cli x, needs: [c, d]}
        """)
    assert edges(compiled) == {
        "a": [],
        "b": [("a", "order")],
        "c": [("a", "needs")],
        "d": [],
        "e": [("c", "needs"), ("d", "needs")],
    }


def test_in_a_chain_a_reference_makes_an_edge_where_none_leads_yet(load: Load) -> None:
    compiled = load("""\
        steps:
          - {id: a, command: cli x}
          - {id: b, command: cli x}
          - {id: c, command: cli x, stdin: $a.stdout}
          - {id: d, command: cli x, needs: [], stdin: $b.stdout}
          - {id: e, command: cli x, if: $a.exit_code == 0}
        """)
    assert edges(compiled)["c"] == [("b", "order")]
    assert edges(compiled)["d"] == [("b", "reference")]
    assert edges(compiled)["e"] == [("d", "order")]


def test_in_a_graph_needs_and_references_are_the_edges(load: Load) -> None:
    compiled = load("""\
        type: graph
        steps:
          - {id: join, tool: flow:set, with: {a: $left.text, b: "x ${{ steps.right.text }}"}}
          - {id: left, command: cli x, needs: [start]}
          - {id: right, command: cli x, needs: [start], env: {A: $start.text}}
          - {id: start, command: cli x}
        """)
    assert edges(compiled) == {
        "join": [("left", "reference"), ("right", "reference")],
        "left": [("start", "needs")],
        "right": [("start", "needs")],
        "start": [],
    }
    warned = [(one.code, one.path) for one in compiled.diagnostics]
    assert warned == [("graph.effect_at_start", "steps[3].id")]


def test_steps_of_finally_form_a_chain_and_wait_for_no_other(load: Load) -> None:
    compiled = load("""\
        type: graph
        steps: [{id: a, command: cli x}]
        finally:
          - {id: y, command: cli x, stdin: $a.stdout}
          - {id: z, command: cli x, if: run.status == 'failed' && $a.exit_code != 0}
        """)
    assert edges(compiled) == {"a": [], "y": [], "z": [("y", "order")]}


def test_every_place_that_refers_to_a_step_makes_an_edge(load: Load) -> None:
    compiled = load("""\
        type: graph
        steps:
          - {id: s, command: cli x, output: json}
          - {id: a, command: 'cli x ${{ steps.s.text }}'}
          - {id: b, tool: cli:x, with: {args: [$s.text]}}
          - {id: c, command: cli x, if: $s.exit_code == 0}
          - {id: d, command: cli x, env: {A: $s.text}}
          - {id: e, approval: {preview: $s.text}}
          - {id: f, command: cli x, for_each: $s.json}
          - {id: g, command: cli x, postcondition: result.exit_code == steps.s.exit_code}
          - {id: h, ask: {prompt: x, choices_from: $s.json}}
          - {id: i, command: 'flow set a:=["${{ steps.s.text }}"]'}
        """)
    found = edges(compiled)
    assert {step for step, needs in found.items() if needs == [("s", "reference")]} == set(
        "abcdefghi"
    )


def test_a_cycle_is_reported_once_with_its_way(load: Load) -> None:
    compiled = load("""\
        type: graph
        steps:
          - {id: a, command: flow noop, needs: [c]}
          - {id: b, command: flow noop, needs: [a]}
          - {id: c, command: flow noop, needs: [b]}
        """)
    (found,) = compiled.diagnostics
    assert (found.code, found.path) == ("needs.cycle", "steps[0].needs[0]")
    assert "a → c → b → a" in found.message


def test_a_thousand_steps_in_one_cycle_are_searched_without_recursion(load: Load) -> None:
    steps = "".join(
        f"  - {{id: s{number}, command: flow noop, needs: [s{(number + 1) % 1000}]}}\n"
        for number in range(1000)
    )
    compiled = load("type: graph\nsteps:\n" + steps)
    assert [one.code for one in compiled.diagnostics] == ["needs.cycle"]


@settings(max_examples=100)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.lists(st.sets(st.integers(0, 11)), min_size=n, max_size=n)
    )
)
def test_levels_put_each_step_after_what_it_needs(wanted: list[set[int]]) -> None:
    graph = {
        str(number): tuple(Need(str(need), "needs") for need in needs if need < number)
        for number, needs in enumerate(wanted)
    }
    found = levels(graph)
    place = {step: depth for depth, level in enumerate(found) for step in level}
    assert set(place) == set(graph)
    for step, needs in graph.items():
        depths = [place[need.step_id] for need in needs]
        assert place[step] == 1 + max(depths, default=-1)
