"""JSON schemas of dataclasses that are read from YAML, from their annotations and docstrings."""

import math
import types
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse

from mtl.bounds import Bounds

Schema = dict[str, Any]

SIMPLE: dict[Any, Schema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    Any: {},
}


def document_schema(cls: type[Any], title: str) -> Schema:
    """The schema of a document that holds the fields of a dataclass.

    Args:
        cls: The dataclass; those among its fields become definitions.
        title: The title of the schema.
    """
    parts = {part.__name__: object_schema(part) for part in _parts(cls) if part is not cls}
    head = {"$schema": "http://json-schema.org/draft-07/schema#", "title": title}
    return {**head, **object_schema(cls), "definitions": dict(sorted(parts.items()))}


def object_schema(cls: type[Any]) -> Schema:
    """The schema of a dataclass: its fields with their descriptions and defaults, and no others."""
    docstring = parse(cls.__doc__ or "")
    about = {each.arg_name: _one_line(each.description) for each in docstring.params}
    hints = get_type_hints(cls, include_extras=True)
    properties = {}
    for each in fields(cls):
        allowed = annotation_schema(hints[each.name])
        # Next to `$ref` draft 7 ignores other keywords, such as the description.
        allowed = {"allOf": [allowed]} if "$ref" in allowed else allowed
        about_field = {"description": about.get(each.name, ""), **_default(each)}
        properties[each.name] = about_field | allowed
    required = [each.name for each in fields(cls) if not _has_default(each)]
    return {
        "description": _one_line(docstring.short_description),
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def annotation_schema(annotation: Any) -> Schema:
    """The schema of the values that an annotation allows.

    Raises:
        TypeError: If the annotation has no schema.
    """
    if annotation in SIMPLE:
        return dict(SIMPLE[annotation])
    if is_dataclass(annotation) and isinstance(annotation, type):
        return {"$ref": f"#/definitions/{annotation.__name__}"}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        bounds = [part for part in arguments[1:] if isinstance(part, Bounds)]
        return annotation_schema(arguments[0]) | (_limits(bounds[0]) if bounds else {})
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [annotation_schema(part) for part in arguments]}
    if origin is list:
        return {"type": "array", "items": annotation_schema(arguments[0])}
    if origin is tuple and arguments[-1] is not ... and len(set(arguments)) == 1:
        length = {"minItems": len(arguments), "maxItems": len(arguments)}
        return {"type": "array", "items": annotation_schema(arguments[0]), **length}
    if origin is dict:
        return {"type": "object", "additionalProperties": annotation_schema(arguments[1])}
    raise TypeError(f"no JSON schema for the annotation {annotation}")


def _one_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _limits(bounds: Bounds) -> Schema:
    names = {
        "exclusiveMinimum" if bounds.low_open else "minimum": bounds.low,
        "exclusiveMaximum" if bounds.high_open else "maximum": bounds.high,
    }
    return {name: limit for name, limit in names.items() if math.isfinite(limit)}


def _has_default(each: "Field[Any]") -> bool:
    return each.default is not MISSING or each.default_factory is not MISSING


def _default(each: "Field[Any]") -> Schema:
    """The default of a field, where it says something: not empty, and a value of YAML."""
    value = each.default if each.default_factory is MISSING else each.default_factory()
    known = value is not MISSING and isinstance(value, str | int | float | list) and value != ""
    return {"default": value} if known and value != [] else {}


def _parts(annotation: Any) -> Iterator[type[Any]]:
    """The dataclasses within an annotation, and within their fields."""
    if is_dataclass(annotation) and isinstance(annotation, type):
        yield annotation
        for hint in get_type_hints(annotation, include_extras=True).values():
            yield from _parts(hint)
    for part in get_args(annotation):
        yield from _parts(part)
