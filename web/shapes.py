"""From the schemas that pydantic makes to those that OpenAPI needs: fields as parameters, bounds kept, titles left out. Pure."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

LARGEST = 10**18 - 1
"""No whole number of a request is above it."""
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""A field's bounds and their names in a schema."""


def parameters_of(model: type[BaseModel] | None, place: str, refs: Any, components: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of a model as parameters; one that may be left out is no null, it is not there."""
    if model is None:
        return []
    schema = components[refs[(model, "validation")]["$ref"].rpartition("/")[2]]
    found = []
    for name, field in schema.get("properties", {}).items():
        shape = bounded(given(tidy(field)), next(info for key, info in model.model_fields.items() if name in (key, info.alias)))
        told = {"name": name, "in": place, "required": name in schema.get("required", ()), "schema": shape}
        if place == "query" and "default" not in shape:
            told["allowEmptyValue"] = True  # and counts as not given
        if "description" in shape:
            told["description"] = shape.pop("description")
        found.append(told)
    return found


def given(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that is given: without null."""
    rest = {name: value for name, value in schema.items() if name != "anyOf" and (name, value) != ("default", None)}
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    return rest | (choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})


def bounded(schema: dict[str, Any], field: FieldInfo) -> dict[str, Any]:
    """The schema of a number with the bounds of its field, which pydantic drops where a validator of ours comes first."""
    if schema.get("type") not in ("integer", "number"):
        return schema
    bounds = {told: getattr(item, ours) for item in field.metadata for ours, told in BOUNDS.items() if hasattr(item, ours)}
    largest = {"maximum": LARGEST} if schema["type"] == "integer" else {}
    return {key: value for key, value in schema.items() if key not in BOUNDS} | largest | bounds


def tidy(schema: Any) -> Any:
    """A schema without the titles that only repeat its fields' names."""
    if isinstance(schema, list):
        return [tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: tidy(value) for name, value in schema.items() if not (name == "title" and isinstance(value, str))}
