"""Evaluation of methods: metrics over complete splits and all processes."""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict, cast

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, special

from mtl.batch import Batch, Segment, fitted_labels, loss_terms
from mtl.calibration import calibration_error
from mtl.errors import UserError
from mtl.methods.output_collector import OutputCollector
from mtl.methods.task_model import TaskModel
from mtl.metric_functions import check_metrics
from mtl.metrics import mean_score, task_metrics, task_score
from mtl.modules.loss_options import LossName, LossOptions
from mtl.modules.thresholds import EPSILON
from mtl.modules.token_losses import word_values
from mtl.predictions import Predictions
from mtl.tasks import Classification, Task, TokenLabels
from mtl.tasks.score import Score
from mtl.tasks.token_metrics import entity_scores


class SplitResult(TypedDict):
    """The result of one split, as it is written to `metrics.json`.

    Attributes:
        examples: Number of examples.
        loss: Mean loss.
        score: Mean of the metrics.
        metrics: Value of each metric by name.
        calibration_error: For classification the expected calibration error, in `mtl test` and
            `mtl validate`.
        entities: For token labels precision, recall, F1 and number of entities of each type.
    """

    examples: int
    loss: float
    score: float
    metrics: dict[str, float]
    calibration_error: NotRequired[float]
    entities: NotRequired[dict[str, dict[str, float]]]


def reject_non_finite(split: str, predictions: Predictions) -> None:
    """Rejects outputs that are not finite; metrics would count such examples as class 0.

    Raises:
        UserError: If there are any.
    """
    broken = int((~predictions.outputs.isfinite()).flatten(1).any(1).sum())
    if broken:
        raise UserError(
            f"{split}: the outputs of {broken} of {len(predictions.ids)} examples are not finite, "
            "so they cannot be scored: the weights are broken, or numbers overflow (in fp16, use "
            "--trainer.precision bf16-mixed). If this is a training, lower --model.lr"
        )


def split_result(predictions: Predictions) -> SplitResult:
    """Metrics and mean loss of a split."""
    metrics = task_metrics(predictions.task, predictions.outputs, predictions.labels)
    result = SplitResult(
        examples=len(predictions.ids),
        loss=float(predictions.losses.double().mean()),
        score=task_score(metrics),
        metrics=metrics,
    )
    kind = predictions.task.kind
    if isinstance(kind, TokenLabels) and kind.finder.types:
        outputs, labels = predictions.outputs.numpy(), predictions.labels.numpy()
        result["entities"] = entity_scores(kind, outputs, labels)
    return result


def scores_by_task(results: Mapping[str, SplitResult]) -> dict[str, float]:
    """The score of each task: the mean over its splits."""
    names = dict.fromkeys(split.partition("/")[0] for split in results)
    return {
        name: mean_score(
            {
                split: result["score"]
                for split, result in results.items()
                if split.partition("/")[0] == name
            }
        )
        for name in names
    }


def losses_by_task(results: Mapping[str, SplitResult]) -> dict[str, float]:
    """The mean loss of each task: the mean over its splits."""
    found: dict[str, list[float]] = {}
    for split, result in results.items():
        found.setdefault(split.partition("/")[0], []).append(result["loss"])
    return {task: sum(losses) / len(losses) for task, losses in found.items()}


def _of_words(batch: Batch, segment: Segment, outputs: Tensor) -> tuple[Segment, Tensor]:
    """The labels and outputs of words, from those of tokens."""
    words = batch.tokens["words"][segment.examples][: len(outputs), : outputs.shape[1]]
    labels = fitted_labels(segment.labels, outputs.shape[1])
    return (
        segment._replace(labels=word_values(labels, words, -1)),
        word_values(outputs, words, 0.0),
    )


def log_results(
    module: LightningModule, stage: str, results: Mapping[str, SplitResult], score: float
) -> None:
    """Logs the metrics, loss and score of each split, and the score of the run.

    Args:
        module: The method.
        stage: `val`, `validated` or `test`; prefix of the logged names.
        results: The results by split.
        score: The score of the run.
    """
    for split, result in results.items():
        module.log_dict(
            {f"{stage}/{split}/{metric}": value for metric, value in result["metrics"].items()}
        )
        module.log(f"{stage}_loss/{split}", result["loss"])
        module.log(f"{stage}_score/{split}", result["score"])
    module.log("score/mean" if stage == "val" else f"{stage}/mean", score, prog_bar=True)


class EvaluatedModel(TaskModel):
    """Evaluation of a method; arguments other than `score` as in `TaskModel`.

    Args:
        tasks: The tasks.
        losses: Name or options of the loss of each task that does not use its kind's default.
        score: An expression for the run's score; default: the mean over tasks.

    Attributes:
        predictions: Predictions of the last evaluation by split.
        results: Results of the last evaluation by split, or those of `best_results`.
        latest: Results of the last evaluation by split.
    """

    def __init__(
        self,
        tasks: list[Task],
        losses: Mapping[str, LossName | LossOptions] | None,
        score: str | None,
    ) -> None:
        super().__init__(tasks, losses)
        for task in tasks:
            check_metrics(task)
        self.score = Score(score) if score else None
        self.predictions: dict[str, Predictions] = {}
        self.results: dict[str, SplitResult] = {}
        self.latest: dict[str, SplitResult] = {}
        self._collector = OutputCollector(tasks)

    @property
    def scheme(self) -> Any:
        """The data module of the run."""
        return cast(Any, self.trainer).datamodule

    def run_score(self, results: Mapping[str, SplitResult] | None = None) -> float:
        """The value of `score`, or the mean over the tasks.

        Args:
            results: Results by split. Default: `self.results`.
        """
        results = self.results if results is None else results
        if self.score:
            return self.score({split: each["metrics"] for split, each in results.items()})
        return mean_score({split: each["score"] for split, each in results.items()})

    def best_results(self, results: dict[str, SplitResult]) -> dict[str, SplitResult]:
        """The results that a checkpoint would have which is written after a validation.

        Args:
            results: The results of the validation by split.
        """
        return results

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collects outputs; metrics are computed over complete splits."""
        self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collects outputs; metrics are computed over complete splits."""
        self._evaluate(batch)

    def predict_step(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Class probabilities or values of each task present."""
        return self._evaluate(batch)

    def on_validation_epoch_end(self) -> None:
        """Computes and logs metrics, and the score, which selects the best checkpoint."""
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        # `mtl validate` has its own prefix: its results do not belong to the curves of the
        # training.
        self._compute_results("val" if fitting else "validated")

    def on_test_epoch_end(self) -> None:
        """Computes and logs metrics and the score."""
        self._compute_results("test")

    def on_predict_epoch_end(self) -> None:
        """Gathers the predictions of all processes."""
        self._gather()

    def _evaluate(self, batch: Batch) -> dict[str, Tensor]:
        outputs, logits = {}, self(batch)
        for segment in batch.segments:
            task, size = segment.task, len(segment.labels)
            terms = loss_terms(segment.labels).clamp(min=1)
            losses = self.example_losses(segment, logits[task]) / terms
            outputs[task] = self.outputs(task, logits[task])[:size]
            if outputs[task].ndim == 3:  # of tokens
                segment, outputs[task] = _of_words(batch, segment, outputs[task])
            self._collector.add(batch.name, segment, outputs[task], losses)
        return outputs

    def _gather(self) -> None:
        self.predictions = self._collector.gather()
        for split, predictions in self.predictions.items():
            reject_non_finite(split, predictions)

    def _tune_thresholds(self) -> None:
        """Tunes the thresholds on the first validation split of each task that has some."""
        for name in sorted(self.thresholds.tuned):
            splits = [split for split in self.predictions if split.partition("/")[0] == name]
            for index, split in enumerate(splits):
                predictions = self.predictions[split]
                if index == 0:
                    known = predictions.labelled()
                    change = self.thresholds.tune(name, known.outputs, known.labels)
                logits = special.logit(predictions.outputs.double(), eps=EPSILON)
                outputs = (logits - change).sigmoid().to(predictions.outputs)
                self.predictions[split] = predictions._replace(outputs=outputs)

    def _compute_results(self, stage: str) -> None:
        """Gathers the predictions of all processes, then computes and logs the results."""
        self._gather()
        if self.trainer.sanity_checking:  # too few examples of each split to score
            return
        if stage == "val":
            self._tune_thresholds()
        self.latest = {split: split_result(each) for split, each in self.predictions.items()}
        self.results = self.best_results(self.latest) if stage == "val" else self.latest
        if stage != "val":
            for split, predictions in self.predictions.items():
                if isinstance(predictions.task.kind, Classification):
                    error = calibration_error(
                        predictions.outputs.numpy(), predictions.labels.numpy()
                    )
                    self.latest[split]["calibration_error"] = error
        log_results(self, stage, self.latest, self.run_score())
