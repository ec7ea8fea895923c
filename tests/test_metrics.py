import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from mtl.errors import UserError
from mtl.metrics import Score, task_metrics
from mtl.tasks.task import Metric, Task


def classification(classes: int, metric: Metric) -> Task:
    return Task("t", ["a"], classes=[f"c{k}" for k in range(classes)], metrics=[metric])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classification_metrics_equal_sklearn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    outputs, labels = rng.random((97, classes)), rng.integers(0, classes, 97)
    predicted = outputs.argmax(1)
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "matthews": matthews_corrcoef(labels, predicted),
        "f1": f1_score(labels, predicted, average="binary" if classes == 2 else "macro"),
    }
    for metric in ("accuracy", "matthews", "f1"):
        metrics = task_metrics(
            classification(classes, metric), torch.tensor(outputs), torch.tensor(labels)
        )
        assert metrics[metric] == pytest.approx(expected[metric], abs=1e-6)


def test_correlations_equal_scipy() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=83), np.round(rng.random(83) * 5, 1)
    task = Task("t", ["a"], range=(0, 5))
    metrics = task_metrics(task, torch.tensor(values)[:, None], torch.tensor(labels))
    assert metrics["pearson"] == pytest.approx(pearsonr(values, labels)[0], abs=1e-6)
    assert metrics["spearman"] == pytest.approx(spearmanr(values, labels)[0], abs=1e-6)


def test_a_correlation_with_constant_predictions_or_labels_counts_as_zero() -> None:
    task = Task("t", ["a"], range=(0, 5))
    assert task_metrics(task, torch.ones(4, 1), torch.tensor([0.0, 1, 2, 3])) == {
        "pearson": 0.0,
        "spearman": 0.0,
    }
    same = torch.tensor([[0.9, 0.1]] * 4)
    for labels in ([0, 1, 0, 1], [0, 0, 0, 1], [1, 1, 0, 1], [0, 0, 0, 0]):
        assert task_metrics(classification(2, "matthews"), same, torch.tensor(labels)) == {
            "matthews": 0.0
        }


COURSE = "(sst.accuracy + quora.accuracy + (sts.pearson + 1) / 2) / 3"


def test_the_score_of_the_cs224n_course_is_computed_as_published() -> None:
    metrics = {"sst": {"accuracy": 0.541}, "quora": {"accuracy": 0.901}, "sts": {"pearson": 0.891}}
    assert round(Score(COURSE)(metrics), 3) == 0.796  # the published total


def test_a_score_may_contain_a_split_and_task_names_with_hyphens() -> None:
    score = Score("-mnli/matched.accuracy * 2 + my-task.f1 - 1.5")
    assert score({"mnli/matched": {"accuracy": 0.25}, "my-task": {"f1": 1.0}}) == -1.0


@pytest.mark.parametrize(
    "text",
    [
        "sst.accuracy +",
        "max(sst.accuracy, 1)",
        "sst",
        "__import__('os').system",
        "2 ** 3",
        "[1][0]",
    ],
)
def test_other_expressions_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="score "):
        Score(text)


def test_a_score_with_an_unknown_task_or_metric_is_refused() -> None:
    available = {"sst": ["accuracy"], "quora": ["accuracy"], "sts": ["pearson"]}
    Score(COURSE).check(available)
    with pytest.raises(UserError, match="unknown task 'stss'.* Did you mean 'sts'"):
        Score("stss.pearson").check(available)
    with pytest.raises(
        UserError, match=r"task 'sst': unknown metric 'f1'. Choose from: accuracy\."
    ):
        Score("sst.f1").check(available)
