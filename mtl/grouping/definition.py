"""The comparison that judges proposed groups of tasks: its definition, and the files it names."""

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.grouping.search import Group

SINGLE, TOGETHER = "single", "all in one"
SETTINGS, TASKS = "settings", "tasks"
# Options of the Trainer that belong to the joint run alone.
OF_RUN = ("callbacks", "logger", "default_root_dir", "plugins")
SEEDS = (1, 2, 3, 4, 5)


def definition_fields(
    config: Mapping[str, Any], proposals: Mapping[str, Sequence[Group]]
) -> dict[str, Any]:
    """The fields of the definition: each task alone, all in one, and the proposed groups.

    Args:
        config: The configuration of the joint run, whose settings all rows have.
        proposals: The groups by the word for the estimator.
    """
    tasks = [task["name"] for task in config["tasks"]]
    rows: dict[str, Any] = {SINGLE: {"of": "task"}, TOGETHER: {}}
    # The groups that a row trains already, with the names of its estimators.
    known = {frozenset([frozenset(tasks)]), frozenset(frozenset([task]) for task in tasks)}
    named: dict[frozenset[frozenset[str]], list[str]] = {}
    for estimator, groups in proposals.items():
        named.setdefault(frozenset(frozenset(each.trained) for each in groups), []).append(
            estimator
        )
    for groups in proposals.values():
        sets = frozenset(frozenset(each.trained) for each in groups)
        if sets not in known:
            known.add(sets)
            rows[f"groups by {' and '.join(named[sets])}"] = {
                "of": [list(each.trained) for each in groups]
            }
    return {
        "question": "Are groups of tasks better than one encoder for each task, or for all?",
        "tasks": [f"{TASKS}/{task}.yaml" for task in tasks],
        "baseline": SINGLE,
        "budget": "the settings of the joint run: as many passes over the examples of a group",
        "rows": {name: row | {"configs": [f"{SETTINGS}.yaml"]} for name, row in rows.items()},
        "sizes": {
            "mini": {
                "backbone": config["backbone"],
                "options": _options_by_task(config, tasks),
                "seeds": list(SEEDS),
            }
        },
    }


def settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration file of all rows: method, data and Trainer of the joint run."""
    tasks = [task["name"] for task in config["tasks"]]
    by_task = _options_by_task(config, tasks)
    found: dict[str, Any] = {
        "trainer": {
            name: value
            for name, value in config["trainer"].items()
            if value is not None and name not in OF_RUN
        }
    }
    for section in ("model", "data"):
        arguments = config[section]["init_args"].items()
        found[section] = {
            "class_path": config[section]["class_path"],
            "init_args": {
                name: value for name, value in arguments if f"{section}.{name}" not in by_task
            },
        }
    return found


def _options_by_task(config: Mapping[str, Any], tasks: Sequence[str]) -> dict[str, Any]:
    """Arguments with a value for each task: a comparison gives a run those of its own tasks."""
    return {
        f"{section}.{name}": value
        for section in ("model", "data")
        for name, value in config[section]["init_args"].items()
        if isinstance(value, dict) and value and set(value) <= set(tasks)
    }
