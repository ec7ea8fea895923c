"""The keywords of JSON Schema (draft 7) that the schemas of the package use."""

from collections.abc import Iterator
from typing import Any

TYPES: dict[str, Any] = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
    "array": list,
    "object": dict,
}
ANNOTATIONS = {"$schema", "title", "description", "default", "definitions"}


def errors(schema: dict[str, Any], value: Any, root: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a value. An unknown keyword is an error of the schema."""
    for keyword, rule in schema.items():
        if keyword not in ANNOTATIONS | {"else"} and not _holds(keyword, rule, value, schema, root):
            yield f"{keyword} {rule}: {value!r}"


def _holds(keyword: str, rule: Any, value: Any, schema: dict[str, Any], root: Any) -> bool:
    def fits(part: dict[str, Any], item: Any) -> bool:
        return not list(errors(part, item, root))

    match keyword:
        case "$ref":
            return fits(root["definitions"][rule.removeprefix("#/definitions/")], value)
        case "type":
            names = rule if isinstance(rule, list) else [rule]
            return any(isinstance(value, TYPES[name]) for name in names) and (
                not isinstance(value, bool) or "boolean" in names
            )
        case "enum":
            return value in rule
        case "anyOf":
            return any(fits(part, value) for part in rule)
        case "oneOf":
            return sum(fits(part, value) for part in rule) == 1
        case "allOf":
            return all(fits(part, value) for part in rule)
        case "if":
            return fits(rule, value) or fits(schema["else"], value)
        case "required":
            return not isinstance(value, dict) or set(rule) <= set(value)
        case "properties":
            return not isinstance(value, dict) or all(
                fits(part, value[name]) for name, part in rule.items() if name in value
            )
        case "additionalProperties":
            others = set(value) - set(schema.get("properties", {})) if type(value) is dict else ()
            return not others if rule is False else all(fits(rule, value[name]) for name in others)
        case "items":
            return not isinstance(value, list) or all(fits(rule, item) for item in value)
        case "minItems":
            return not isinstance(value, list) or len(value) >= rule
        case "maxItems":
            return not isinstance(value, list) or len(value) <= rule
        case "minimum":
            return not isinstance(value, int | float) or value >= rule
    raise AssertionError(f"keyword {keyword!r}: not part of this validation")
