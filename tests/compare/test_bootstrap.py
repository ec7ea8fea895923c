"""Metrics on bootstrap resamples of the test examples."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtl.compare import bootstrap
from mtl.compare.bootstrap import RESAMPLES, resampled_metrics
from mtl.compare.resampled_metrics import resampled_metric
from mtl.metric_functions import METRICS, MULTI_LABEL_METRICS, metric_function
from mtl.metrics import task_metrics
from mtl.predictions import Predictions
from mtl.tasks import Task

# Number of outputs that each metric is tested with.
CLASSES = {
    name: 1 if name in Task("t", ["a"], range=(0, 5)).kind.metrics else 4 for name in METRICS
}


def outputs_and_labels(classes: int, examples: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    outputs = torch.rand(examples, classes, generator=generator)
    if classes == 1:  # with ties
        return (outputs * 4).round(), (outputs[:, 0] * 3 + torch.arange(examples) % 3).round()
    return outputs.softmax(1), torch.randint(classes, (examples,), generator=generator)


def task_of(metric: str, classes: int) -> Task:
    if classes == 1:
        return Task("t", ["a"], range=(0, 5), metrics=list(dict.fromkeys(["pearson", metric])))
    names = [f"c{index}" for index in range(classes)]
    return Task("t", ["a"], classes=names, metrics=list(dict.fromkeys(["accuracy", metric])))


@pytest.mark.parametrize(
    ("metric", "classes"), [*CLASSES.items(), ("f1", 2), ("matthews", 2), ("accuracy", 2)]
)
@pytest.mark.parametrize("distinct", [12, 3, 1])
def test_resampled_metrics_equal_the_metric_of_each_resample(
    metric: str, classes: int, distinct: int
) -> None:
    outputs, labels = outputs_and_labels(classes)
    generator = np.random.default_rng(distinct)
    drawn = generator.integers(distinct, size=(40, len(labels)))
    counts = np.array([np.bincount(one, minlength=len(labels)) for one in drawn], np.float32)
    task = task_of(metric, classes)
    found = resampled_metric(task, metric)(outputs.numpy(), labels.numpy(), counts)
    expected = [float(metric_function(task, metric)(outputs[one], labels[one])) for one in drawn]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("metric", MULTI_LABEL_METRICS)
def test_resampled_multi_label_metrics_equal_the_metric_of_each_resample(metric: str) -> None:
    task = Task("t", ["a"], labels="tags", classes=["x", "y", "z"], metrics=[metric])
    generator = torch.Generator().manual_seed(1)
    outputs, labels = (torch.rand(12, 3, generator=generator) for _ in range(2))
    labels = (labels > 0.6).float()
    drawn = np.random.default_rng(0).integers(12, size=(40, 12))
    counts = np.array([np.bincount(one, minlength=12) for one in drawn], np.float32)
    found = resampled_metric(task, metric)(outputs.numpy(), labels.numpy(), counts)
    expected = [float(metric_function(task, metric)(outputs[one], labels[one])) for one in drawn]
    assert found == pytest.approx(expected, abs=1e-5)


def predictions(outputs: torch.Tensor, labels: torch.Tensor, task: Task) -> Predictions:
    return Predictions(task, torch.arange(len(labels)), labels, outputs, torch.zeros(len(labels)))


def test_all_models_see_the_same_resamples_and_tasks_see_independent_ones(
    task_files: list[Path],
) -> None:
    task = Task.read(task_files[0])
    outputs, labels = outputs_and_labels(2, 400)
    models = [predictions(outputs, labels, task), predictions(outputs, labels, task)]
    one = resampled_metrics("mood", ["accuracy"], models)["accuracy"]
    again = resampled_metrics("mood", ["accuracy"], models[1:])["accuracy"]
    assert one.shape == (2, RESAMPLES)
    assert (one[0] == one[1]).all()
    assert (one[1] == again[0]).all()
    other = resampled_metrics("same", ["accuracy"], models)["accuracy"][0]
    assert abs(np.corrcoef(one[0], other)[0, 1]) < 4 / np.sqrt(RESAMPLES)


def test_the_variance_of_an_accuracy_is_binomial(task_files: list[Path]) -> None:
    task = Task.read(task_files[0])
    labels = torch.zeros(5000, dtype=torch.long)
    wrong = torch.arange(5000) % 4 == 0
    outputs = torch.stack([~wrong, wrong], 1).float()
    draws = resampled_metrics("mood", ["accuracy"], [predictions(outputs, labels, task)])
    expected = 100**2 * 0.75 * 0.25 / 5000
    assert draws["accuracy"].var() == pytest.approx(expected, rel=5 * np.sqrt(2 / RESAMPLES))
    assert draws["accuracy"].mean() == pytest.approx(75, abs=0.1)


def test_token_metrics_of_a_resample_are_those_of_the_drawn_texts() -> None:
    task = Task.read({"name": "tags", "tokens": "words", "classes": ["a", "b"]})
    names: Any = list(task.kind.metrics)
    task = replace(task, metrics=names)
    generator = np.random.default_rng(0)
    labels = torch.from_numpy(generator.integers(-1, 5, (30, 6)))
    labels[:, 0] = 1
    outputs = torch.from_numpy(np.eye(5)[generator.integers(0, 5, (30, 6))]).float()
    predictions = Predictions(task, torch.arange(30), labels, outputs, torch.zeros(30))
    resampled = resampled_metrics("tags", task.metrics, [predictions])
    counts = next(bootstrap._resamples("tags", 30))
    for resample in range(3):
        drawn = np.repeat(np.arange(30), counts[resample].astype(int))
        expected = task_metrics(task, outputs[drawn], labels[drawn])
        for metric, value in expected.items():
            assert resampled[metric][0, resample] == pytest.approx(100 * value)
