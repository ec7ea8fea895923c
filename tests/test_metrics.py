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
    draw = np.random.default_rng(classes)
    outputs, labels = draw.random((97, classes)), draw.integers(0, classes, 97)
    guesses = outputs.argmax(1)
    expected = {
        "accuracy": accuracy_score(labels, guesses),
        "matthews": matthews_corrcoef(labels, guesses),
        "f1": f1_score(labels, guesses, average="binary" if classes == 2 else "macro"),
    }
    for metric in ("accuracy", "matthews", "f1"):
        found = task_metrics(
            classification(classes, metric), torch.tensor(outputs), torch.tensor(labels)
        )
        assert found[metric] == pytest.approx(expected[metric], abs=1e-6)


def test_correlations_equal_scipy() -> None:
    draw = np.random.default_rng(0)
    values, labels = draw.normal(size=83), np.round(draw.random(83) * 5, 1)
    task = Task("t", ["a"], range=(0, 5))
    found = task_metrics(task, torch.tensor(values)[:, None], torch.tensor(labels))
    assert found["pearson"] == pytest.approx(pearsonr(values, labels)[0], abs=1e-6)
    assert found["spearman"] == pytest.approx(spearmanr(values, labels)[0], abs=1e-6)


def test_a_correlation_with_what_does_not_vary_counts_as_zero() -> None:
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


def test_the_courses_score_is_its_formula() -> None:
    found = {"sst": {"accuracy": 0.541}, "quora": {"accuracy": 0.901}, "sts": {"pearson": 0.891}}
    assert round(Score(COURSE)(found), 3) == 0.796  # the published total


def test_a_score_may_name_one_split_of_several_and_names_with_hyphens() -> None:
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
def test_what_is_no_score_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="score "):
        Score(text)


def test_a_score_of_what_is_not_measured_is_refused() -> None:
    there = {"sst": ["accuracy"], "quora": ["accuracy"], "sts": ["pearson"]}
    Score(COURSE).check(there)
    with pytest.raises(UserError, match="'stss' is none of .* Did you mean 'sts'"):
        Score("stss.pearson").check(there)
    with pytest.raises(UserError, match=r"'sst' has the metrics \['accuracy'\], not 'f1'"):
        Score("sst.f1").check(there)
