"""The layout of TensorBoard's charts, plots of predictions and tables of the worst examples."""

import csv
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sklearn.metrics import confusion_matrix
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from mtl.__main__ import main
from mtl.callbacks.prediction_plots import confusion, prediction_figure
from mtl.callbacks.tensorboard import GRADIENTS, LAYOUT
from mtl.callbacks.worst_examples import MAX_CHARACTERS, shortened
from mtl.predictions import Predictions
from mtl.tasks import MultiLabel, Task

QUIET = ["--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false"]


def events_of(folder: str) -> EventAccumulator:
    events = EventAccumulator(folder, size_guidance={"images": 0, "tensors": 0, "scalars": 0})
    events.Reload()
    return events


@pytest.fixture
def run(task_files: list[Path], backbone: str, in_tmp: Path) -> Path:
    """The folder of a run of three tasks, trained and tested."""
    arguments = [
        "fit",
        *[f"--tasks+={file}" for file in task_files],
        "--backbone",
        backbone,
        *QUIET,
        "--out",
        "run",
    ]
    main([*arguments, "--trainer.max_epochs", "2", "--trainer.log_every_n_steps", "1"])
    main(["test", "--ckpt_path", "run", *QUIET])
    return Path("run")


def test_every_chart_of_the_layout_shows_a_tag_that_is_logged(run: Path) -> None:
    events = events_of(str(run))
    [event] = events.Tensors("custom_scalars__config__")
    layout = layout_pb2.Layout.FromString(event.tensor_proto.string_val[0])
    assert [category.title for category in layout.category] == list(LAYOUT)
    tags = events.Tags()["scalars"]
    for category in layout.category:
        for chart in category.chart:
            [pattern] = chart.multiline.tag
            assert any(re.search(pattern, tag) for tag in tags), (category.title, chart.title)
    assert set(LAYOUT).isdisjoint(GRADIENTS)  # this run does not measure gradients
    shares = [
        events.Scalars(f"sampling_share/{task}")[-1].value for task in ("mood", "same", "near")
    ]
    assert sum(shares) == pytest.approx(1)


def test_hyper_parameters_are_listed_with_the_validation_and_test_scores(run: Path) -> None:
    events = events_of(str(run))
    metrics = json.loads((run / "metrics.json").read_text())
    assert events.Scalars("hp/score")[-1].value == pytest.approx(metrics["validation"]["mean"])
    assert events.Scalars("hp/test")[-1].value == pytest.approx(metrics["test"]["mean"])
    pages = events.PluginTagToContent("hparams")
    announced = plugin_data_pb2.HParamsPluginData.FromString(
        pages["_hparams_/experiment"]
    ).experiment
    assert [metric.name.tag for metric in announced.metric_infos] == ["hp/score", "hp/test"]
    settings = plugin_data_pb2.HParamsPluginData.FromString(
        pages["_hparams_/session_start_info"]
    ).session_start_info.hparams
    assert (
        settings["method"].string_value == "MultiHead"
        and settings["tasks"].string_value == "mood same near"
    )


def test_predictions_are_shown_after_training_and_after_the_test(run: Path) -> None:
    tags = events_of(str(run)).Tags()
    for task in ("mood", "same", "near"):
        for stage in ("val", "test"):
            assert f"{stage}_predictions/{task}" in tags["images"]
            assert f"{stage}_worst_examples/{task}/text_summary" in tags["tensors"]


def test_the_examples_with_the_highest_loss_are_listed_first_with_their_texts(
    run: Path, data_root: Path
) -> None:
    [event] = events_of(str(run)).Tensors("test_worst_examples/mood/text_summary")
    _, _, head, _, *lines = event.tensor_proto.string_val[0].decode().splitlines()
    columns = ["label", "prediction", "probability of prediction", "probability of label", "loss"]
    assert head == f"| {' | '.join(['row', 'text', *columns])} |"
    records = [
        json.loads(line) for line in (run / "predictions/test/mood.jsonl").read_text().splitlines()
    ]
    losses = {
        record["row"]: -math.log(record["probabilities"][record["label"]]) for record in records
    }
    with (data_root / "mood/test.csv").open() as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [int(cell[0]) for cell in cells] == sorted(losses, key=lambda row: -losses[row])[:12]
    for index, text, *_, loss in cells:
        assert text == texts[int(index)]
        assert float(loss) == pytest.approx(losses[int(index)], abs=2e-3)


def test_validating_a_checkpoint_later_does_not_change_the_curves_of_the_training(
    run: Path,
) -> None:
    before = len(events_of(str(run)).Scalars("score/mean"))
    main(["validate", "--ckpt_path", "run", *QUIET])
    events = events_of(str(run))
    assert (
        len(events.Scalars("score/mean")) == before and "validated/mean" in events.Tags()["scalars"]
    )


@given(st.text())
def test_a_text_is_shortened_to_one_line(text: str) -> None:
    line = shortened(text)
    assert len(line) <= MAX_CHARACTERS and not set("\n\r") & set(line)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1))
def test_the_confusion_matrix_equals_that_of_sklearn(pairs: list[tuple[int, int]]) -> None:
    labels, predictions = (torch.tensor(column) for column in zip(*pairs, strict=True))
    counts = confusion(labels, torch.nn.functional.one_hot(predictions, 4).float())
    assert np.array_equal(counts, confusion_matrix(labels, predictions, labels=range(4)))


def test_the_title_of_a_plot_is_within_the_figure() -> None:
    metrics = list(MultiLabel.metrics)
    task = Task("t", ["a"], labels="tags", classes=["x", "y", "z"], metrics=metrics)
    eye = torch.eye(3)
    predictions = Predictions(task, torch.arange(3), eye, eye, torch.zeros(3))
    figure = prediction_figure("t", predictions)
    FigureCanvasAgg(figure).draw()
    title = figure.axes[0].title.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= figure.bbox.width
    assert all(f"{metric}\u00a0" in figure.axes[0].get_title() for metric in metrics)
