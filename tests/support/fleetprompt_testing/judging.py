"""A workflow that asks a model once and shows all that came of it."""

SORT = """\
inputs: {mail: {type: string, default: "buy now"}}
steps:
  - id: sort
    tool: llm:big-1
    with:
      system: Be terse.
      prompt: "Spam? ${{ inputs.mail }}"
      schema: {type: object, required: [label], properties: {label: {enum: [spam, ham]}}}
  - {id: use, tool: flow:set, with: {label: $sort.json.label, usage: $sort.usage, by: $sort.actor}}
"""
