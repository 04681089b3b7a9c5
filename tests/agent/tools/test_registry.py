"""What the registry says of the tools holds for their models."""

from __future__ import annotations

import pytest

from fleetprompt_agent.tools.registry import TOOLS, Tool
from fleetprompt_protocol.errors import RequestError

WITH_DEFAULTS = [tool for tool in TOOLS.values() if tool.defaults is not None]


@pytest.mark.parametrize("tool", WITH_DEFAULTS, ids=lambda tool: tool.name)
def test_the_defaults_that_need_no_pydantic_are_those_of_the_model(tool: Tool) -> None:
    assert tool.defaults == tool.model().model_validate({}).model_dump()
    assert vars(tool.parse({})) == tool.defaults


@pytest.mark.parametrize("tool", TOOLS.values(), ids=lambda tool: tool.name)
def test_every_tool_has_a_handler_and_refuses_fields_that_it_does_not_know(tool: Tool) -> None:
    assert callable(tool.handler())
    with pytest.raises(RequestError) as caught:
        tool.parse({"no_such_field": 1})
    assert caught.value.code == "tool.invalid_input"
