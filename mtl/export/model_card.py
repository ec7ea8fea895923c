"""Write the model card (`README.md`) of an exported model."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml

from mtl.export.backbone import backbone_config, public_name
from mtl.export.formats import ExportFormat
from mtl.export.intervals import Intervals, score_intervals
from mtl.export.model_index import hub_data_set, model_index
from mtl.export.verdicts import comparison_verdicts
from mtl.inference.predictor import Predictor
from mtl.tasks import Task

# Settings that say nothing about the model, or are shown elsewhere on the card.
HIDDEN_SETTINGS = ("tasks", "backbone", "root", "cache", "num_workers")


def model_card(
    predictor: Predictor,
    export_format: ExportFormat,
    tasks: list[Task],
    notes: list[str],
    licence: str | None = None,
) -> str:
    """The model card as Markdown, with the metadata header of the hub.

    Args:
        predictor: The trained model.
        export_format: The format of the export.
        tasks: The tasks that the export can predict.
        notes: Notes on this export, a paragraph each.
        licence: The licence of the model, in the words of the hub.
    """
    splits = list(predictor.metrics.get("test", {}).get("tasks", {}))
    intervals = score_intervals(predictor.folder, splits, tasks)
    names = ", ".join(task.name for task in tasks)
    method = type(predictor.module).__name__
    backbone = public_name(predictor.module.backbone_name)
    lengths = sorted({predictor.length_limit(task) for task in tasks})
    sections = [
        _header(predictor, export_format, tasks, intervals, licence),
        f"# {method} on {backbone}: {names}\n",
        "This model was fine-tuned with `mtl`, a framework for multi-task fine-tuning of text "
        "encoders, and exported with `mtl export`. Inputs are truncated to "
        f"{' or '.join(map(str, lengths))} tokens.\n",
        "## Usage\n",
        export_format.usage(predictor, tasks[0]),
        "".join(f"- {note}\n" for note in notes),
        "## Tasks\n",
        "\n".join(_task(task) for task in tasks) + "\n",
        "## Evaluation results\n",
        _scores(predictor.metrics, tasks, intervals),
        _comparisons(predictor.folder),
        "## Training\n",
        _training(predictor, method, backbone),
        _configuration(predictor),
    ]
    return "\n".join(sections)


def _header(
    predictor: Predictor,
    export_format: ExportFormat,
    tasks: list[Task],
    intervals: Intervals,
    licence: str | None,
) -> str:
    backbone = predictor.module.backbone_name
    lines = [
        "---",
        f"library_name: {export_format.library}",
        f"pipeline_tag: {export_format.pipeline_tag}",
    ]
    if licence:
        lines.append(f"license: {json.dumps(licence)}")
    if not Path(backbone).exists():
        lines.append(f"base_model: {json.dumps(public_name(backbone).partition('@')[0])}")
    if data_sets := sorted({name for task in tasks if (name := hub_data_set(task))}):
        lines += ["datasets:", *(f"- {json.dumps(name)}" for name in data_sets)]
    name = f"{type(predictor.module).__name__} on {public_name(backbone)}"
    index = model_index(name, predictor.metrics, tasks, intervals)
    results = yaml.safe_dump(index, sort_keys=False).splitlines() if index else []
    return "\n".join([*lines, "tags:", "- multi-task", *results, "---", ""])


def _task(task: Task) -> str:
    source = task.source
    if name := hub_data_set(task):
        revision = source.revision and f"at revision {source.revision}"
        data = " ".join(filter(None, [f"`{name}`", source.config, revision]))
    else:
        data = "local files" + (f" (`{source.folder}`)" if source.folder else "")
    licence = task.licence or "not recorded; see the source of the data"
    inputs = "a pair of texts" if task.pair else "a text"
    if task.choices:
        inputs = "a text and candidates"
    columns = ", ".join(task.text_columns)
    return (
        f"- **{task.name}** (version {task.version}). Input: {inputs} ({columns}). "
        f"Output: {task.kind.description}. Data: {data}. Licence of the data: {licence}."
    )


def _scores(metrics: Mapping[str, Any], tasks: list[Task], intervals: Intervals) -> str:
    names = {task.name for task in tasks}
    lines = []
    for stage in ("validation", "test"):
        for split, result in metrics.get(stage, {}).get("tasks", {}).items():
            if split.partition("/")[0] in names:
                ends = intervals.get(split, {}) if stage == "test" else {}
                values = ", ".join(
                    f"{metric} {value:.4f}"
                    + (f" [{ends[metric][0]:.4f}, {ends[metric][1]:.4f}]" if metric in ends else "")
                    for metric, value in result["metrics"].items()
                )
                lines.append(f"| {split} | {stage} | {result['examples']:,} | {values} |")
    if not lines:
        return "Not available: the checkpoint was exported without the `metrics.json` of its run.\n"
    table = ["| task | split | examples | metrics |", "|---|---|---:|---|", *lines, ""]
    if selected := metrics.get("test", {}).get("selected_on_test", []):
        table += [
            "The checkpoint was selected by its score on the test examples of "
            f"{', '.join(selected)}, so that score is optimistic.",
            "",
        ]
    if intervals:
        table += [
            "In brackets: 95 % intervals over the choice of the test examples (percentile "
            "bootstrap), for this one model; the noise of the training is not in them.",
            "",
        ]
    return "\n".join(table)


def _comparisons(run: Path | None) -> str:
    """The verdicts of the comparisons that the run belongs to, as a section; empty without one."""
    lines = []
    for each in comparison_verdicts(run):
        lines += [f"**{each.question}** {each.answer}", ""]
        if each.row:
            decision = each.decision or "the row that the others are compared with"
            lines += [f"This model is a run of the row *{each.row}*: {decision}.", ""]
    heading = "## Comparison\n\nDecided by `mtl compare`, in points of the mean over tasks.\n\n"
    return heading + "\n".join(lines) if lines else ""


def _training(predictor: Predictor, method: str, backbone: str) -> str:
    metrics = predictor.metrics
    revision = getattr(backbone_config(predictor.module), "_commit_hash", None)
    values = {
        "method": method,
        "backbone": backbone + (f", revision {revision}" if revision else ""),
        "sampling": metrics.get("scheme"),
        "seed": metrics.get("seed"),
        "steps": metrics.get("steps"),
        "precision": metrics.get("precision"),
        "device": metrics.get("device"),
        "versions": ", ".join(
            f"{name} {version}" for name, version in metrics.get("versions", {}).items()
        ),
        "code": metrics.get("code"),
        "data fingerprints": ", ".join(
            f"{split} `{digest}`" for split, digest in metrics.get("data", {}).items()
        ),
    }
    lines = [f"| {name} | {value} |" for name, value in values.items() if value not in (None, "")]
    return "\n".join(["| setting | value |", "|---|---|", *lines, ""])


def _configuration(predictor: Predictor) -> str:
    """The settings of method and data as YAML, without what refers to one machine."""
    settings: dict[str, Any] = {"tasks": list(predictor.tasks)}
    for section, values in predictor.hyperparameters.items():
        class_path = {"class_path": values["_class_path"]} if "_class_path" in values else {}
        settings[section] = class_path | {
            name: _without_paths(value)
            for name, value in values.items()
            if name[0] != "_" and name not in HIDDEN_SETTINGS and value is not None
        }
    text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return f"```yaml\n{text}```\n"


def _without_paths(value: Any) -> Any:
    """The value, with absolute paths replaced by their last component."""
    if isinstance(value, dict):
        return {name: _without_paths(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    path = PurePath(value) if isinstance(value, str) else None
    return path.name if path and path.is_absolute() else value
