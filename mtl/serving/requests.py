"""Read and check the requests that a server receives."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mtl.errors import UserError, list_words, reject_unknown, shorten
from mtl.inference.texts import text_fault
from mtl.tasks import Task
from mtl.tasks.token_readers import joined_words

FIELDS = ("texts", "tasks")
# HTTP status codes of requests that are refused.
NOT_JSON, TOO_LARGE, INVALID = 400, 413, 422


class RequestError(UserError):
    """A request that cannot be answered.

    Args:
        status: The HTTP status code.
        message: What is wrong, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Limits(NamedTuple):
    """What a request may hold.

    Attributes:
        texts: Maximum number of texts.
        body: Maximum number of bytes of the body.
    """

    texts: int
    body: int


class ReadText(NamedTuple):
    """One element of a request's `texts`.

    Attributes:
        positions: For each task to predict, the indices of its texts in `texts`.
        texts: The texts.
    """

    positions: tuple[tuple[str, tuple[int, ...]], ...]
    texts: tuple[str, ...]


class RequestReader:
    """Reads the bodies of requests.

    A body is an object. `texts` is a list of strings, for tasks that read one text, or of objects
    that map a task's text columns to texts. `tasks` names the tasks to predict; by default, every
    task whose columns a text has.

    Args:
        tasks: The tasks of the model.
        limits: What a request may hold.
    """

    def __init__(self, tasks: Sequence[Task], limits: Limits) -> None:
        self.tasks, self.limits = {task.name: task for task in tasks}, limits

    def __call__(self, body: bytes) -> list[ReadText]:
        """Reads a body.

        Raises:
            RequestError: If it is not JSON, has another form, or names unknown tasks or columns.
        """
        fields = _parse(body)
        try:
            reject_unknown("the body", "field", fields, FIELDS)
            tasks, named = self._tasks(fields), fields.get("tasks") is not None
            texts = self._texts(fields)
            return [
                self._read(f"texts[{index}]", text, tasks, named)
                for index, text in enumerate(texts)
            ]
        except RequestError:
            raise
        except UserError as error:
            raise RequestError(INVALID, str(error)) from error

    def _tasks(self, fields: Mapping[str, Any]) -> list[Task]:
        names = fields.get("tasks")
        if names is None:
            return list(self.tasks.values())
        if not isinstance(names, list) or not names:
            raise UserError(
                f"tasks is {shorten(names)}; give a list of names, or omit it to predict all tasks"
            )
        reject_unknown("tasks", "task", [str(name) for name in names], self.tasks)
        return [self.tasks[name] for name in dict.fromkeys(names)]

    def _texts(self, fields: Mapping[str, Any]) -> list[Any]:
        texts = fields.get("texts")
        if not isinstance(texts, list) or not texts:
            fault = f"is {shorten(texts)}" if "texts" in fields else "is missing"
            raise UserError(f"texts {fault}; give a list of texts, such as {self.example()}")
        if len(texts) > self.limits.texts:
            raise RequestError(
                TOO_LARGE,
                f"{len(texts):,} texts; this server accepts {self.limits.texts:,} in a request: "
                "send several requests",
            )
        return texts

    def _read(self, where: str, text: object, tasks: Sequence[Task], named: bool) -> ReadText:
        if isinstance(text, dict):
            return self._read_columns(where, text, tasks, named)
        if fault := text_fault(text):
            raise UserError(f"{where} {fault}")
        several = [task for task in tasks if len(task.text_columns) > 1]
        if len(several) == len(tasks) or (named and several):
            columns = list_words([repr(column) for column in several[0].text_columns])
            raise UserError(
                f"{where} is a single text, but task {several[0].name!r} reads {columns}; give an "
                f"object with a text for each, such as {self.example(several[0])}"
            )
        single = [task.name for task in tasks if task not in several]
        return ReadText(tuple((name, (0,)) for name in single), (str(text),))

    def _read_columns(
        self, where: str, columns: Mapping[str, Any], tasks: Sequence[Task], named: bool
    ) -> ReadText:
        missing = {
            task.name: [column for column in task.text_columns if column not in columns]
            for task in tasks
        }
        chosen = [task for task in tasks if not missing[task.name]]
        if not chosen or (named and len(chosen) < len(tasks)):
            lacking = next(task for task in tasks if missing[task.name])
            raise UserError(
                f"{where} has no column {missing[lacking.name][0]!r}, which task {lacking.name!r} "
                f"reads; its columns are {list_words([shorten(name) for name in columns])}"
                if columns
                else f"{where} is empty; give a text for each column, such as {self.example()}"
            )
        read = list(dict.fromkeys(column for task in chosen for column in task.text_columns))
        texts = {column: joined_words(columns[column]) for column in read}
        for column, text in texts.items():
            if fault := text_fault(text):
                raise UserError(f"{where}.{column} {fault}")
        positions = ((task.name, tuple(map(read.index, task.text_columns))) for task in chosen)
        return ReadText(tuple(positions), tuple(texts.values()))

    def too_large(self) -> str:
        """The message for a body that is too large."""
        return f"the body has more than {self.limits.body:,} bytes; send fewer texts in a request"

    def example(self, task: Task | None = None) -> str:
        """A valid body as JSON, for one task (default: the first)."""
        columns = (task or next(iter(self.tasks.values()))).text_columns
        text = (
            "a text" if len(columns) == 1 else {column: f"the {column} text" for column in columns}
        )
        return json.dumps({"texts": [text]}, ensure_ascii=False)


def _parse(body: bytes) -> dict[str, Any]:
    if not body.strip():
        raise RequestError(NOT_JSON, 'the body is empty; send JSON, such as {"texts": ["a text"]}')
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
        raise RequestError(NOT_JSON, f"the body is not JSON: {reason}") from error
    if not isinstance(fields, dict):
        raise RequestError(
            INVALID,
            f'the body is {shorten(fields)}; send an object, such as {{"texts": ["a text"]}}',
        )
    return fields
