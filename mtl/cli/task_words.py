"""Mistakes in what the words of a command say about its tasks, found before any data are read."""

from collections.abc import Mapping, Sequence

from mtl.cli.class_options import names_tasks, option_value, options_in
from mtl.errors import UserError, reject_unknown
from mtl.tasks import Task, check_tasks
from mtl.tasks.score import Score
from mtl.user_files import parse_yaml

# Options that may be mappings whose keys are tasks.
BY_TASK = ("--model.losses", "--model.dropout", "--data.max_examples", "--data.augment")


def check_tasks_in(arguments: Sequence[str]) -> None:
    """Reads the task files that a command names, and checks the options that name tasks.

    Args:
        arguments: The arguments of the command.

    Raises:
        UserError: If a file is not a task, two tasks have the same name, or an option names a task
            or a metric that does not exist.
    """
    tasks, complete = [], not names_tasks(arguments)
    for option, value in options_in(arguments):
        if option not in ("--tasks", "--tasks+") or not value:
            continue
        if value[0] in "[{":
            complete = False
            continue
        if option == "--tasks":
            raise UserError(f"--tasks {value}: name each task with a plus, --tasks+={value}")
        try:
            tasks += Task.read_all(value)
        except UserError as error:
            raise UserError(f"--tasks: {error}") from error
    score = _read_score(option_value("--score", arguments))
    if not tasks or not complete:  # a configuration or a checkpoint may name others
        return
    named = {task.name: task for task in check_tasks(tasks)}
    if score:
        _check_score(score, named)
    for option, value in options_in(arguments):
        if option in BY_TASK and value.startswith("{"):
            content = parse_yaml(value, option)
            reject_unknown(option, "task", map(str, content), named)


def _read_score(text: str | None) -> Score | None:
    try:
        return Score(text) if text else None
    except UserError as error:
        raise UserError(f"--{error}") from error


def _check_score(score: Score, tasks: Mapping[str, Task]) -> None:
    """Checks that the tasks of a score have its metrics, whatever the split."""
    for name, metric in score.metrics:
        where = f"--score {score.text!r}"
        reject_unknown(where, "task", [name.partition("/")[0]], tasks)
        task = tasks[name.partition("/")[0]]
        reject_unknown(f"{where}: task {name!r}", "metric", [metric], task.metrics)
