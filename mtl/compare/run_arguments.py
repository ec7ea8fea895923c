"""The command line of a run."""

import json
from typing import Any

from mtl.compare.definition import Experiment, config_file
from mtl.compare.definition_parts import Variant
from mtl.compare.plan import Plan
from mtl.compare.run_spec import RunSpec


def run_arguments(plan: Plan, run: RunSpec, folders: dict[str, str]) -> list[str]:
    """Arguments of the run's command.

    Args:
        plan: The plan of the run.
        run: The run.
        folders: For each option that names another run that run's folder; `OPTION@TASK` names the
            run of a task.
    """
    row = plan.experiment.rows[run.row]
    tasks = row.tasks or list(plan.task_files)
    if run.task and row.of != "held_out":
        tasks = run.tasks
    arguments = [f"--tasks+={plan.task_files[task]}" for task in tasks]
    arguments += ["--backbone", plan.size.backbone]
    for config in row.configs:
        arguments += ["-c", str(config_file(config))]
    values = {"seed": run.seed, "task": run.task, **plan.size.values}
    for options in (plan.size.options, row.options, dict(run.choice), _joined(folders)):
        for name, value in options.items():
            if isinstance(value, dict) and set(value) <= set(plan.experiment.task_files):
                value = {task: entry for task, entry in value.items() if task in tasks}
            arguments += [f"--{name}", format_option(value, values)]
    if plan.experiment.paired and plan.limits_examples:
        arguments += ["--data.subset_seed", str(run.seed)]
    if row.command == "fit" and (score := _selection_score(plan.experiment, row, run)):
        arguments += ["--score", score]
    return [*arguments, "--seed_everything", str(run.seed), *plan.extra_options]


def _joined(folders: dict[str, str]) -> dict[str, str | list[str]]:
    """The folders by option; a list for an option with a folder for each task, `OPTION@TASK`."""
    joined: dict[str, str | list[str]] = {}
    for name, folder in folders.items():
        option, of_task, _ = name.partition("@")
        joined[option] = [*joined.get(option, []), folder] if of_task else folder
    return joined


def _selection_score(experiment: Experiment, row: Variant, run: RunSpec) -> str | None:
    """The score that selects the checkpoint, if it is not the default mean over tasks."""
    if row.of == "suite":
        return experiment.suite_score.text if experiment.suite_score and not row.tasks else None
    if row.of == "held_out" or len(run.tasks) != 1:
        return None
    column = experiment.main_columns.get(run.tasks[0], "")
    if "." in column:
        return column
    return None


def format_option(value: Any, values: dict[str, Any]) -> str:
    """Formats an option's value as a command-line argument.

    Args:
        value: The value.
        values: Values to fill in for names in braces.
    """
    if isinstance(value, str) and value[:1] == "{" and value[1:-1] in values:
        value = values[value[1:-1]]
    if not isinstance(value, str):
        return json.dumps(value)
    for name, replacement in values.items():
        value = value.replace(f"{{{name}}}", str(replacement))
    return value
