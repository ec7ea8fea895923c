"""The model card: what a stranger has to know of an exported model."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml

from mtl.inference.predictor import Predictor
from mtl.tasks import Task

TAGS = {"classifier": "text-classification", "masked_lm": "fill-mask", "mtl": "text-classification"}


def public_name(backbone: str) -> str:
    """A backbone's name as others can use it: of a directory of this machine its last part."""
    return Path(backbone).name if Path(backbone).exists() else backbone


def model_card(trained: Predictor, kind: str, tasks: list[Task], notes: list[str]) -> str:
    """The card's text, with the hub's header.

    Args:
        trained: The model.
        kind: What it became: `classifier`, `masked_lm` or `mtl`.
        tasks: The tasks that it answers.
        notes: What is particular to this export, a sentence each.
    """
    name = ", ".join(task.name for task in tasks)
    method, backbone = type(trained.module).__name__, public_name(trained.module.backbone)
    parts = [
        _header(trained, kind, tasks, backbone),
        f"# {method} on {backbone}: {name}\n",
        f"Made by `mtl export` of a run of `mtl`, multi-task fine-tuning. Longest row: {trained.max_length} tokens.\n",
        _use(kind, tasks[0]),
        "".join(f"- {note}\n" for note in notes),
        "## Tasks\n",
        "\n".join(_task(task) for task in tasks) + "\n",
        "## Scores\n",
        _scores(trained.metrics, tasks),
        "## How it was made\n",
        _made(trained, method, backbone),
    ]
    return "\n".join(part for part in parts if part)


def _header(trained: Predictor, kind: str, tasks: list[Task], backbone: str) -> str:
    lines = [
        "---",
        "library_name: mtl" if kind == "mtl" else "library_name: transformers",
        f"pipeline_tag: {TAGS[kind]}",
    ]
    if not Path(trained.module.backbone).exists():
        lines.append(f"base_model: {json.dumps(backbone.partition('@')[0])}")
    if hubs := sorted(
        {
            task.source.hub
            for task in tasks
            if task.source.hub and not Path(task.source.hub).exists()
        }
    ):
        lines += ["datasets:", *(f"- {json.dumps(hub)}" for hub in hubs)]
    return "\n".join([*lines, "tags:", "- multi-task", "---", ""])


def _use(kind: str, task: Task) -> str:
    names = ["firsts", "seconds"] if task.pair else ["texts"]
    columns = ", ".join(names)
    if kind == "mtl":
        return f'```python\nimport mtl\n\nmodel = mtl.load("THIS DIRECTORY")\nmodel.predict([...], task="{task.name}")\n```\n'
    if kind == "masked_lm":
        return ""  # a prompt has to be written first; the notes say how
    said = "logits[:, 0]  # the value" if task.regression else "logits.softmax(-1)"
    return f"""\
```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("THIS DIRECTORY")
model = AutoModelForSequenceClassification.from_pretrained("THIS DIRECTORY")
{columns} = {", ".join('["..."]' for _ in names)}  # {", ".join(task.texts)}
logits = model(**tokenizer({columns}, truncation=True, padding=True, return_tensors="pt")).logits
{said}
```
"""


def _task(task: Task) -> str:
    asked = (
        f"a number from {task.range[0]:g} to {task.range[1]:g}"
        if task.range
        else f"one of {', '.join(task.classes)}"
    )
    source = task.source
    if source.hub and not Path(source.hub).exists():
        data = " ".join(
            filter(
                None,
                [f"`{source.hub}`", source.config, source.revision and f"at {source.revision}"],
            )
        )
    else:
        data = "local files" + (f" (`{source.folder}`)" if source.folder else "")
    kind = "a pair" if task.pair else "a text"
    terms = (
        f"Their licence: {task.licence}."
        if task.licence
        else "Their licence is not recorded: see their source."
    )
    return f"- **{task.name}** (version {task.version}): {kind} ({', '.join(task.texts)}), {asked}. Data: {data}. {terms}"


def _scores(metrics: Mapping[str, Any], tasks: list[Task]) -> str:
    names = {task.name for task in tasks}
    lines = []
    for stage in ("validation", "test"):
        for split, result in metrics.get(stage, {}).get("tasks", {}).items():
            if split.partition("/")[0] in names:
                values = ", ".join(
                    f"{metric} {value:.4f}" for metric, value in result["metrics"].items()
                )
                lines.append(f"| {split} | {stage} | {result['rows']:,} | {values} |")
    if not lines:
        return (
            "The run's scores are not at hand: its `metrics.json` was not beside the checkpoint.\n"
        )
    selected = metrics.get("test", {}).get("selected_on_test", [])
    note = (
        f"\nThe test rows of {', '.join(selected)} also selected the checkpoint.\n"
        if selected
        else ""
    )
    return "\n".join(["| task | rows of | rows | metrics |", "|---|---|---:|---|", *lines, note])


def _made(trained: Predictor, method: str, backbone: str) -> str:
    metrics, config = (
        trained.metrics,
        getattr(getattr(trained.module, "encoder", None), "backbone", None),
    )
    revision = getattr(getattr(config, "config", None), "_commit_hash", None)
    rows = {
        "method": method,
        "backbone": backbone + (f", revision {revision}" if revision else ""),
        "sampling": metrics.get("scheme"),
        "seed": metrics.get("seed"),
        "steps": metrics.get("steps"),
        "precision": metrics.get("precision"),
        "device": metrics.get("device"),
        "versions": ", ".join(
            f"{name} {number}" for name, number in metrics.get("versions", {}).items()
        ),
        "code": metrics.get("code"),
        "rows": ", ".join(
            f"{split} `{digest}`" for split, digest in metrics.get("data", {}).items()
        ),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value not in (None, "")]
    manifest = yaml.safe_dump(_manifest(trained), sort_keys=False, allow_unicode=True)
    return "\n".join(["| what | value |", "|---|---|", *lines, "", "```yaml", manifest + "```", ""])


def _manifest(trained: Predictor) -> dict[str, Any]:
    """How method and data were configured, without what is of one machine."""
    own = ("tasks", "backbone", "root", "cache", "num_workers")
    parts: dict[str, Any] = {"tasks": list(trained.tasks)}
    for part, values in trained.made.items():
        shown = {
            name: _public(value)
            for name, value in values.items()
            if name[0] != "_" and name not in own and value is not None
        }
        parts[part] = (
            {"class_path": values["_class_path"], **shown} if "_class_path" in values else shown
        )
    return parts


def _public(value: Any) -> Any:
    """A value in which paths of this machine are their last parts."""
    if isinstance(value, dict):
        return {name: _public(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_public(part) for part in value]
    return (
        PurePath(value).name if isinstance(value, str) and PurePath(value).is_absolute() else value
    )
