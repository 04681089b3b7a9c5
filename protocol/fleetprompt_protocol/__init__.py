"""What crosses a process boundary: frames, the JSON-RPC peer, messages, ids, errors, redaction.

Nothing here knows what a workflow is.
"""
