"""JSON Schemas of the tools' models, in words that every host and model vendor understands."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

Json = Any

_NULL = {"type": "null"}


@cache
def plain_schema(model: type[BaseModel], *, may_be_null: bool = False) -> dict[str, Json]:
    """The model's schema without `$ref`, `anyOf` and generated titles, which some vendors refuse.

    Args:
        model: A tool's input or output.
        may_be_null: Whether a field that may be null says so (`type: [string, null]`); an input
            leaves such a field out instead.
    """
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    plain: dict[str, Json] = _plain(schema, definitions, may_be_null)
    plain.pop("description", None)  # the model's docstring is for whoever reads the code
    return plain


def _plain(schema: Json, definitions: dict[str, Json], may_be_null: bool) -> Json:
    if isinstance(schema, list):
        return [_plain(item, definitions, may_be_null) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        target = dict(definitions[schema["$ref"].rpartition("/")[2]])
        target.pop("description", None)
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    plain: dict[str, Json] = {}
    for key, value in schema.items():
        if key == "properties":
            plain[key] = {
                name: _plain(item, definitions, may_be_null) for name, item in value.items()
            }
        elif not (key == "title" or (key == "default" and value is None)):
            plain[key] = _plain(value, definitions, may_be_null)
    choices = plain.get("anyOf", [])
    others = [choice for choice in choices if choice != _NULL]
    if len(others) == 1:
        del plain["anyOf"]
        plain = {**others[0], **plain}
        if may_be_null and isinstance(plain.get("type"), str):
            plain["type"] = [plain["type"], "null"]
            if "enum" in plain:
                plain["enum"] = [*plain["enum"], None]
    return plain
