"""What `mtl group` does: train a run of all tasks, estimate gains, write the comparison."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from mtl.errors import UserError
from mtl.grouping.definition import SETTINGS, TASKS, definition_fields, settings
from mtl.grouping.gains import Gains, groups_of
from mtl.grouping.run_files import CALLBACKS, estimates
from mtl.grouping.search import Group, best_groups
from mtl.system.package_data import editor_line
from mtl.training.run_folder import CONFIG, METRICS, write_atomic
from mtl.training.stored_config import read_run_configuration

# With more tasks there are too many groups to estimate each: 2^K - 1.
MOST_TASKS = 12
# Of the joint run, before the options of the command: batches of all tasks, one encoder.
DEFAULTS = ("-c", "sampling/mixed", "-c", "methods/multi_head")


def joint_run(options: Sequence[str], out: Path) -> Path:
    """Trains all tasks in one run, unless it is finished.

    Args:
        options: Options of `mtl fit`.
        out: The folder of the command.

    Returns:
        The run's folder.
    """
    from mtl.cli import lightning

    run = out / "joint"
    if not (run / METRICS).exists():
        callbacks = [f"--trainer.callbacks+={name}" for name in CALLBACKS]
        lightning.run(["fit", *DEFAULTS, *options, *callbacks, "--out", str(run)])
    return run


def propose_groups(runs: Sequence[Path], encoders: int, out: Path) -> None:
    """Estimates what groups gain, and writes the best ones.

    Args:
        runs: Folders of runs of all tasks.
        encoders: The largest number of encoders.
        out: The folder of what is written.

    Raises:
        UserError: If the runs have too few or too many tasks, or measured nothing.
    """
    config = _configuration(runs)
    tasks = [task["name"] for task in config["tasks"]]
    if not 2 <= len(tasks) <= MOST_TASKS:
        raise UserError(
            f"{runs[0]}: {len(tasks)} tasks; grouping needs 2 to {MOST_TASKS}, because it "
            "estimates every group"
        )
    found = estimates(runs, groups_of(tasks))
    proposals = {name: best_groups(tasks, gains, encoders) for name, gains in found.items()}
    definition = _write(out, config, found, proposals)
    _show(tasks, found, proposals, encoders)
    print(f"Judge them by training: mtl compare {definition}")


def _configuration(runs: Sequence[Path]) -> dict[str, Any]:
    """The configuration of the first run; the others have the same tasks."""
    configs = []
    for run in runs:
        if not (run / METRICS).exists() or not (run / CONFIG).exists():
            raise UserError(f"{run}: not the folder of a finished run; give one of `mtl fit`")
        configs.append(read_run_configuration(run / CONFIG))
    names = [[task["name"] for task in config["tasks"]] for config in configs]
    for run, other in zip(runs[1:], names[1:], strict=True):
        if other != names[0]:
            raise UserError(
                f"{runs[0]} and {run} have different tasks: {', '.join(names[0])}; "
                f"{', '.join(other)}"
            )
    return configs[0]


def _write(
    out: Path,
    config: Mapping[str, Any],
    found: Mapping[str, Gains],
    proposals: Mapping[str, Sequence[Group]],
) -> Path:
    """Writes the estimates, and the definition with the files that it names; returns its path."""
    for task in config["tasks"]:
        write_atomic(out / TASKS / f"{task['name']}.yaml", _yaml(_given(task)))
    write_atomic(out / f"{SETTINGS}.yaml", _yaml(settings(config)))
    contents = {
        estimator: {
            "groups": [group._asdict() for group in proposals[estimator]],
            "gains": [
                {"group": sorted(group), "gain": dict(sorted(of_tasks.items()))}
                for group, of_tasks in gains.items()
            ],
        }
        for estimator, gains in found.items()
    }
    write_atomic(out / "groups.json", json.dumps(contents, indent=2) + "\n")
    definition = out / "groups.yaml"
    text = editor_line("comparison") + _yaml(definition_fields(config, proposals))
    write_atomic(definition, text)
    return definition


def _given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a task that are not empty; a task file has no others."""
    inner = {
        name: _given(value) if isinstance(value, dict) else value for name, value in fields.items()
    }
    return {name: value for name, value in inner.items() if value not in (None, {}, [])}


def _yaml(fields: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True, width=100)


def _show(
    tasks: Sequence[str],
    found: Mapping[str, Gains],
    proposals: Mapping[str, Sequence[Group]],
    encoders: int,
) -> None:
    title = f"groups for up to {encoders} encoders; estimated gain over training alone, in %"
    table = Table(title=title, title_justify="left")
    for column in ("estimated by", "trained together", "task", "gain"):
        table.add_column(column, justify="right" if column == "gain" else "left")
    for estimator, groups in proposals.items():
        for group in groups:
            gains = found[estimator][frozenset(group.trained)]
            for index, task in enumerate(group.answered):
                words = (estimator, " + ".join(group.trained)) if not index else ("", "")
                table.add_row(*words, task, f"{100 * gains[task]:+.2g}")
    Console().print(table)
