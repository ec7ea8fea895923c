"""The evaluation results of a model in the form that the hub reads: `model-index`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult
from huggingface_hub.repocard_data import eval_results_to_model_index

from mtl.export.intervals import LEVEL, Intervals
from mtl.tasks import MultipleChoice, Task, TokenLabels


def hub_data_set(task: Task) -> str | None:
    """Name of the task's data set on the hub; None if its data are local files."""
    name = task.source.hub
    return name if name and not Path(name).exists() else None


def model_index(
    name: str, metrics: Mapping[str, Any], tasks: Sequence[Task], intervals: Intervals
) -> dict[str, Any]:
    """The `model-index` of a model card: the test scores, or the validation scores without a test.

    Args:
        name: The model's name.
        metrics: The contents of the run's `metrics.json`.
        tasks: The tasks of the export.
        intervals: Intervals of the test scores.

    Returns:
        The entry, in a dictionary; empty if there are no scores.
    """
    by_name = {task.name: task for task in tasks}
    results = [
        _result(
            by_name[split.partition("/")[0]],
            split,
            stage,
            metric,
            value,
            result["examples"],
            intervals.get(split, {}).get(metric) if stage == "test" else None,
        )
        for stage in ("test", "validation")
        for split, result in metrics.get(stage, {}).get("tasks", {}).items()
        if split.partition("/")[0] in by_name and (stage == "test" or "test" not in metrics)
        for metric, value in result["metrics"].items()
    ]
    return {"model-index": eval_results_to_model_index(name, results)} if results else {}


def _result(
    task: Task,
    split: str,
    stage: str,
    metric: str,
    value: float,
    examples: int,
    interval: tuple[float, float] | None,
) -> EvalResult:
    part = split.partition("/")[2]
    data_set = hub_data_set(task)
    return EvalResult(
        task_type=_task_type(task),
        task_name=task.name,
        dataset_type=data_set or task.name,
        dataset_name=data_set or f"{task.name} (local files)",
        dataset_config=task.source.config if data_set else None,
        dataset_revision=task.source.revision if data_set else None,
        dataset_split=f"{stage}_{part}" if part else stage,
        metric_type=metric,
        # The hub shows the name; the arguments are for programs.
        metric_name=f"{metric} ({examples:,} examples{_shown(interval)})",
        metric_value=round(value, 6),
        metric_args=interval
        and {
            "confidence_level": LEVEL,
            "confidence_interval": [round(end, 6) for end in interval],
        },
    )


def _shown(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return ""
    return f", {100 * LEVEL:.0f} % interval {interval[0]:.3f} to {interval[1]:.3f}"


def _task_type(task: Task) -> str:
    if isinstance(task.kind, TokenLabels):
        return "token-classification"
    return "multiple-choice" if isinstance(task.kind, MultipleChoice) else "text-classification"
