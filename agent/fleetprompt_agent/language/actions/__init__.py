"""Actions: what a step's `command` or `tool` becomes."""

from fleetprompt_agent.language.actions.action import Action
from fleetprompt_agent.language.actions.reading import read_action

__all__ = ["Action", "read_action"]
