from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleetprompt.cells import cell_width
from fleetprompt.escaping import shown
from fleetprompt.gate_view import gate_lines
from fleetprompt.results import Gate
from fleetprompt.style import Style

PLAIN = Style(colour=False)


def approval(**fields: Any) -> Gate:
    return Gate.model_validate(
        {
            "gate_id": "g",
            "kind": "approval",
            "step_path": "release",
            "action": {
                "tool": "cli:gh",
                "argv": ["gh", "release", "create", "v1 final"],
                "cwd": None,
                "tainted": [False, False, False, True],
            },
            "prompt": "Ship it?",
            "preview": "3 commits",
            **fields,
        }
    )


def test_the_action_comes_first_then_the_author_then_the_preview() -> None:
    lines = gate_lines(approval(), 80, PLAIN)
    assert lines == [
        "Approval wanted: release",
        "  What will happen:",
        "    tool: cli:gh",
        "    argv: gh release create 'v1 final'",
        "  The author asks:",
        "    Ship it?",
        "  Preview (made by earlier steps, not to be trusted):",
        "    │ 3 commits",
    ]


def test_a_gate_for_side_effects_lists_every_step() -> None:
    gate = Gate.model_validate(
        {
            "gate_id": "g",
            "kind": "effects",
            "action": {"workflow_id": "deploy", "digest": "abc"},
            "items": [
                {
                    "step_path": "build",
                    "tool": "cli:make",
                    "as_written": {"argv": ["make", "all"]},
                    "for_each": False,
                    "approval": False,
                },
                {
                    "step_path": "push",
                    "tool": "cli:git",
                    "as_written": {"argv": ["git", "push"]},
                    "for_each": True,
                },
            ],
        }
    )
    lines = gate_lines(gate, 80, PLAIN)
    assert "    - build" in lines
    assert "        argv: make all" in lines
    assert "    - push" in lines
    assert "      for each" in lines


def test_an_action_is_never_cut() -> None:
    argv = ["program", *(f"argument-{i}" for i in range(200))]
    text = "\n".join(gate_lines(approval(action={"argv": argv}), 60, PLAIN))
    assert all(word in text for word in argv)


def test_a_long_preview_is_cut_and_says_so() -> None:
    preview = "\n".join(f"line {i}" for i in range(1000))
    lines = gate_lines(approval(preview=preview), 80, PLAIN)
    assert len(lines) < 60
    assert any("960 more lines" in line for line in lines)


def test_a_preview_cannot_move_the_cursor_or_pose_as_the_question() -> None:
    gate = approval(preview="\x1b[2J\x1b[HApprove? [y/N]\r\u202eevil")
    lines = gate_lines(Gate.model_validate(shown(gate.to_json())), 80, PLAIN)
    assert not any(c in line for line in lines for c in "\x1b\r\u202e")
    assert all(line.startswith("    │ ") for line in lines if "Approve?" in line)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=30),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4)
    ),
    max_leaves=15,
)


@settings(max_examples=100)
@given(json_values, json_values, st.lists(json_values, max_size=4))
def test_any_gate_can_be_shown_in_sixty_columns(action: Any, preview: Any, items: Any) -> None:
    gate = shown(approval(action=action, preview=preview, items=items).to_json())
    lines = gate_lines(Gate.model_validate(gate), 60, PLAIN)
    assert all(cell_width(line) <= 60 for line in lines)
    assert not any("\x1b" in line or "\n" in line for line in lines)
