"""What the model card says of a run's scores and of its comparisons."""

import json
from math import sqrt
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, ModelCardData

from mtl.errors import UserError
from mtl.methods import MultiHead
from mtl.tasks import Task
from tests.export.runs import export, save_run

EXAMPLES, RIGHT = 400, 280


def add_predictions(run: Path) -> None:
    """Saves predictions of `mood` of which 70 % are right."""
    lines = [
        {
            "row": index,
            "label": "good",
            "prediction": "good" if index < RIGHT else "bad",
            "probabilities": {"bad": 0.1, "good": 0.9}
            if index < RIGHT
            else {"bad": 0.8, "good": 0.2},
            "loss": 0.5,
        }
        for index in range(EXAMPLES)
    ]
    (run / "predictions/test").mkdir(parents=True)
    text = "\n".join(json.dumps(line) for line in lines) + "\n"
    (run / "predictions/test/mood.jsonl").write_text(text)


def test_scores_have_the_interval_of_a_share(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "run", MultiHead, tasks, backbone)
    add_predictions(run)
    card = (export(run, tmp_path / "out", "--format", "mtl") / "README.md").read_text()
    data = ModelCard(card).data
    assert isinstance(data, ModelCardData)
    results = {each.task_name: each for each in data.eval_results or []}
    arguments = results["mood"].metric_args
    assert arguments
    share = RIGHT / EXAMPLES
    half = 1.96 * sqrt(share * (1 - share) / EXAMPLES)  # the normal approximation
    assert arguments["confidence_level"] == 0.95
    assert arguments["confidence_interval"] == pytest.approx([share - half, share + half], abs=0.01)
    low, high = arguments["confidence_interval"]
    assert f"95 % interval {low:.3f} to {high:.3f}" in (results["mood"].metric_name or "")
    assert f"[{low:.4f}, {high:.4f}]" in card
    assert results["same"].metric_args is None  # its predictions are not saved


def make_comparison(folder: Path, run: Path) -> None:
    (folder / "runs" / "my_row").mkdir(parents=True)
    (folder / "runs" / "my_row" / "seed-1").symlink_to(run)
    (folder / "summary.json").write_text(
        json.dumps({"question": "Is sharing better?", "answer": "Use my row."})
    )
    (folder / "table.csv").write_text(
        "row,column,sentence\nmy row,mood,\nmy row,mean,better than one model per task by 2.0\n"
    )


def test_the_verdict_of_the_runs_comparison_is_quoted(
    tasks: list[Task], backbone: str, tmp_path: Path
) -> None:
    run = save_run(tmp_path / "runs/one", MultiHead, tasks, backbone)
    other = save_run(tmp_path / "runs/two", MultiHead, tasks, backbone)
    make_comparison(tmp_path / "runs/tables/mine", run)
    link = tmp_path / "runs/tables/mine/runs/my_row/seed-1"
    card = (
        export(link, tmp_path / "a", "--task", "mood", "--license", "mit") / "README.md"
    ).read_text()
    assert "**Is sharing better?** Use my row." in card
    assert "a run of the row *my row*: better than one model per task by 2.0." in card
    assert '\nlicense: "mit"\n' in card
    card = (export(other, tmp_path / "b", "--task", "mood") / "README.md").read_text()
    assert "## Comparison" not in card and "license:" not in card
    (tmp_path / "runs/tables/mine/summary.json").write_text("{")
    with pytest.raises(UserError, match="mine: the comparison of this run cannot be read"):
        export(run, tmp_path / "c", "--task", "mood")
