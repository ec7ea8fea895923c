"""The OpenAPI description of a server, with the model's tasks and columns."""

from collections.abc import Sequence
from typing import Any

from mtl._version import __version__
from mtl.tasks import Task

STATUS_CODES = {
    "400": "The body is not JSON.",
    "413": "The body is too large, or holds too many texts.",
    "422": "The request names an unknown field, task or column, or holds a text that cannot be "
    "used.",
    "500": "The model failed.",
    "503": "The server is overloaded.",
}


def describe(app: Any, tasks: Sequence[Task], max_texts: int) -> None:
    """Replaces the description of an application, which is shown at `/docs`.

    Args:
        app: The FastAPI application.
        tasks: The tasks of its model.
        max_texts: Maximum number of texts in a request.
    """
    app.title, app.version = f"mtl: {', '.join(task.name for task in tasks)}", __version__
    app.description = (
        "Predicts all tasks of a text in one pass through the encoder.\n\n"
        "| task | reads | predicts |\n|---|---|---|\n" + "\n".join(map(_table_row, tasks))
    )
    generated = app.openapi

    def openapi() -> dict[str, Any]:
        if not app.openapi_schema:
            operation = generated()["paths"]["/predict"]["post"]
            operation |= {
                "summary": "Predict",
                "requestBody": {"required": True, "content": _json(_request(tasks, max_texts))},
                "responses": _responses(),
            }
        schema: dict[str, Any] = app.openapi_schema
        return schema

    app.openapi = openapi


def _table_row(task: Task) -> str:
    return f"| {task.name} | {', '.join(task.text_columns)} | {task.kind.description} |"


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _request(tasks: Sequence[Task], max_texts: int) -> dict[str, Any]:
    columns = dict.fromkeys(column for task in tasks for column in task.text_columns)
    text = {"type": "string", "minLength": 1}
    single = any(len(task.text_columns) == 1 for task in tasks)
    example: Any = "a text" if single else dict.fromkeys(tasks[0].text_columns, "a text")
    by_column = {
        "type": "object",
        "description": "A text for each column; tasks without their columns are not predicted.",
        "properties": dict.fromkeys(columns, text),
    }
    return {
        "type": "object",
        "required": ["texts"],
        "additionalProperties": False,
        "properties": {
            "texts": {
                "type": "array",
                "minItems": 1,
                "maxItems": max_texts,
                "items": {"oneOf": [text, by_column]} if single else by_column,
            },
            "tasks": {
                "type": "array",
                "description": "The tasks to predict. Default: all that read the text's columns.",
                "items": {"enum": [task.name for task in tasks]},
            },
        },
        "example": {"texts": [example]},
    }


def _responses() -> dict[str, Any]:
    record = {
        "type": "object",
        "description": "The prediction of each task by name.",
        "additionalProperties": {
            "type": "object",
            "properties": {"prediction": {}, "probabilities": {"type": "object"}},
        },
    }
    answer = {
        "type": "object",
        "properties": {"predictions": {"type": "array", "items": record}},
    }
    error = {"type": "object", "properties": {"detail": {"type": "string"}}}
    return {
        "200": {"description": "A record for each text.", "content": _json(answer)},
        **{
            code: {"description": text, "content": _json(error)}
            for code, text in STATUS_CODES.items()
        },
    }
