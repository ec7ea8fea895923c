"""The JSON schemas with which editors check and complete task files and comparisons.

`python -m mtl.compare.schemas` writes them to `mtl/schemas/`, which is part of the package.
"""

import json
from typing import Any

from mtl.compare.definition import Experiment
from mtl.system.json_schema import Schema, document_schema
from mtl.system.package_data import schema_file
from mtl.tasks import Task
from mtl.tasks.task_file import WORDS


def task_schema() -> Schema:
    """The schema of task files. Words of the data may be written as numbers."""
    schema = document_schema(Task, "A task of mtl")
    for path in WORDS:
        holder = schema if len(path) == 1 else schema["definitions"][path[0].capitalize()]
        holder["properties"][path[-1]] = _numbers_allowed(holder["properties"][path[-1]])
    schema["properties"]["tasks"] = {
        "type": "object",
        "description": "Several tasks on one text: for each task's name its own fields. It has the "
        "other fields of the file too.",
        "additionalProperties": {"type": "object"},
    }
    schema["required"].remove("name")
    return schema | {"oneOf": [{"required": ["name"]}, {"required": ["tasks"]}]}


def comparison_schema() -> Schema:
    """The schema of comparisons. With `like`, a file has only the fields that differ."""
    schema = document_schema(Experiment, "A comparison of mtl")
    required = schema.pop("required")
    needed = schema["definitions"]["Preset"].pop("required")
    schema["properties"] = {
        "like": {
            "type": "string",
            "description": "A table's name, or a file relative to this one, from which this "
            "comparison inherits; the other fields list what differs.",
        },
        **schema["properties"],
    }
    complete = {
        "required": required,
        "oneOf": [{"required": ["suite"]}, {"required": ["tasks"]}],
        "properties": {"sizes": {"additionalProperties": {"required": needed}}},
    }
    return schema | {"if": {"required": ["like"]}, "else": complete}


SCHEMAS = {"task": task_schema, "comparison": comparison_schema}


def schema_text(name: str) -> str:
    """The contents of a schema's file."""
    return json.dumps(SCHEMAS[name](), indent=2, ensure_ascii=False) + "\n"


def _numbers_allowed(schema: Any) -> Any:
    """A schema that accepts a number wherever it accepts a string."""
    if isinstance(schema, dict):
        changed = {key: _numbers_allowed(value) for key, value in schema.items()}
        return changed | ({"type": ["string", "number"]} if schema.get("type") == "string" else {})
    return [_numbers_allowed(item) for item in schema] if isinstance(schema, list) else schema


if __name__ == "__main__":
    for schema in SCHEMAS:
        schema_file(schema).write_text(schema_text(schema), encoding="utf-8")
