from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kendalltau, pearsonr, spearmanr
from sklearn import metrics as sklearn
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from mtl.errors import UserError
from mtl.metric_functions import check_metrics
from mtl.metrics import task_metrics, task_score
from mtl.tasks import Task
from mtl.tasks.score import Score


def classification(classes: int, metric: str) -> Task:
    return Task("t", ["a"], classes=[f"c{k}" for k in range(classes)], metrics=[metric])


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classification_metrics_equal_sklearn(classes: int) -> None:
    rng = np.random.default_rng(classes)
    outputs, labels = rng.dirichlet([1] * classes, 97), rng.integers(0, classes, 97)
    predicted = outputs.argmax(1)
    expected = {
        "accuracy": accuracy_score(labels, predicted),
        "matthews": matthews_corrcoef(labels, predicted),
        "f1": f1_score(labels, predicted, average="binary" if classes == 2 else "macro"),
        "f1_macro": f1_score(labels, predicted, average="macro"),
        "f1_weighted": f1_score(labels, predicted, average="weighted"),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, predicted),
        "quadratic_kappa": sklearn.cohen_kappa_score(labels, predicted, weights="quadratic"),
        "auroc": sklearn.roc_auc_score(
            labels, outputs[:, 1] if classes == 2 else outputs, multi_class="ovr"
        ),
    }
    for metric in expected:
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


def test_other_metrics_of_numbers_equal_scipy_and_sklearn() -> None:
    rng = np.random.default_rng(0)
    values, labels = rng.normal(size=83).round(1), np.round(rng.random(83) * 5, 1)
    task = Task("t", ["a"], range=(0, 5), metrics=["kendall", "r2", "mae", "rmse"])
    found = task_metrics(task, torch.tensor(values)[:, None], torch.tensor(labels))
    assert found == pytest.approx(
        {
            "kendall": kendalltau(values, labels).statistic,
            "r2": sklearn.r2_score(labels, values),
            "mae": sklearn.mean_absolute_error(labels, values),
            "rmse": sklearn.root_mean_squared_error(labels, values),
        }
    )
    assert task_score(found) == pytest.approx((found["kendall"] + found["r2"]) / 2)


def test_multi_label_metrics_equal_sklearn() -> None:
    rng = np.random.default_rng(0)
    outputs, labels = rng.random((97, 4)).round(2), rng.random((97, 4)) < [0.5, 0.2, 0.1, 0.4]
    predicted = outputs >= 0.5
    task = Task("t", ["a"], labels="tags", classes=list("wxyz"))
    task = replace(task, metrics=list(task.kind.metrics))
    assert task_metrics(
        task, torch.tensor(outputs), torch.tensor(labels).double()
    ) == pytest.approx(
        {
            "f1_micro": f1_score(labels, predicted, average="micro"),
            "f1_macro": f1_score(labels, predicted, average="macro"),
            "f1_samples": f1_score(labels, predicted, average="samples", zero_division=0),
            "subset_accuracy": accuracy_score(labels, predicted),
            "auroc": sklearn.roc_auc_score(labels, outputs),
            "average_precision": sklearn.average_precision_score(labels, outputs),
        },
        abs=1e-6,
    )


def test_classes_of_torchmetrics_are_metrics_by_their_import_path() -> None:
    rng = np.random.default_rng(0)
    outputs, labels = torch.tensor(rng.random((50, 3))), torch.tensor(rng.integers(0, 3, 50))
    path = "torchmetrics.classification.MulticlassCohenKappa"
    assert task_metrics(classification(3, path), outputs, labels)[path] == pytest.approx(
        sklearn.cohen_kappa_score(labels, outputs.argmax(1)), abs=1e-6
    )
    error = "torchmetrics.regression.MeanAbsoluteError"
    task = Task("t", ["a"], range=(0, 5), metrics=["pearson", error])
    found = task_metrics(task, outputs[:, :1], labels.double())
    assert found[error] == pytest.approx(sklearn.mean_absolute_error(labels, outputs[:, 0]))
    assert task_score(found) == found["pearson"]


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "torchmetrics.text.BERTScore",
        "torchmetrics.classification.os.System",
        "torchmetrics.classification.NoSuchClass",
        "torchmetrics.classification.accuracy.Tensor",
        "torchmetrics.classification.MulticlassConfusionMatrix",
    ],
)
def test_other_classes_are_refused(path: str) -> None:
    with pytest.raises((UserError, ValueError), match="metrics: "):
        check_metrics(classification(3, path))


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
