"""Meta fine-tuning: one model for the domains of a group, with examples weighted by typicality."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.bounds import NonNegative, NonNegativeInt
from mtl.errors import UserError
from mtl.methods.domain_base import DomainMethod
from mtl.mft.prototypes import Rescale, rescale_scores
from mtl.mft.score_files import (
    RESCORE,
    check_manifest,
    read_manifest,
    read_scores,
    scores_of_examples,
    weights_digest,
)
from mtl.modules.backbone_checks import Pooling
from mtl.modules.domains import DomainCorruption, checked_layers


class MetaFineTuning(DomainMethod):
    """A shared encoder and classifier for the domains of a group; each domain is then fine-tuned.

    The loss of an example is its prototypical score times its cross-entropy, plus `domain_weight`
    times the domain-corruption loss.

    Source: Wang et al. 2020 (MFT), sections 3.2 to 3.4; the second of its three stages
    (specification B1, B2.1).
    Reads: token ids.
    Batches: any scheme; published with the examples of all domains shuffled (`sequential`).
    Per task: nothing but the embedding of its domain.
    Relations: with `scores: none` and `domain_weight: 0` it is `Joint`. The first stage is
    `mtl score-prototypes`, the third any run with `--model.init_from`.

    Args:
        scores: Folder that `mtl score-prototypes` wrote, or `none`: all examples have weight 1.
        domain_weight: Weight of the domain-corruption loss (lambda).
        layers: Layers whose states the domain classifier reads, counted from 0; default: four
            evenly spaced ones (2, 5, 8, 11 of 12).
        weight_target: The loss that the scores weight: the `label` loss as in the paper, the
            `domain` loss as in its later release, or `both`.
        rescale: How scores are rescaled: `none`, `minmax` to [0, 1], or by `rank`.
        pooling: One vector per example: the output of the backbone's own pooler as published, the
            first token's state, or the mean over tokens.

    Raises:
        UserError: Before training, if no scores are given, they belong to another backbone or to
            other examples, or a layer does not exist.
    """

    def __init__(
        self,
        scores: Literal["none"] | Path | None = None,
        domain_weight: NonNegative = 0.1,
        layers: list[NonNegativeInt] | None = None,
        weight_target: Literal["label", "domain", "both"] = "label",
        rescale: Rescale = "none",
        pooling: Pooling = "pooler",
        **kwargs: Any,
    ) -> None:
        super().__init__(domain_weight=domain_weight, pooling=pooling, **kwargs)
        if scores is None:
            raise UserError(
                "no scores are given: add --model.scores DIR with a folder that `mtl "
                "score-prototypes --out DIR` wrote, or --model.scores none for equal weights"
            )
        self.scores = None if scores == "none" else Path(scores)
        self.weight_target, self.rescale = weight_target, rescale
        try:
            self.layers = checked_layers(layers, self.encoder.layer_count)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.corruption = DomainCorruption(self.encoder.width, len(self.tasks))
        self._scores: dict[str, Tensor] = {}  # by task and example index
        self._sha256: str | None = None

    @property
    def reads_token_states(self) -> bool:
        """True: the domain classifier reads the states of several layers."""
        return True

    def setup(self, stage: str) -> None:
        """Reads the scores while the weights are those of the backbone, in fp32 and not sharded."""
        super().setup(stage)
        if stage == "fit" and self.scores is not None:
            self._read_scores(self.scores)

    def on_fit_start(self) -> None:
        """Logs a histogram of the scores."""
        super().on_fit_start()
        for logger in self.loggers if self._scores else ():
            if isinstance(logger, TensorBoardLogger):
                scores = torch.cat(list(self._scores.values())).cpu()
                logger.experiment.add_histogram("scores", scores, 0)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the digest of the scores."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["scores"] = self._sha256

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Verifies the digest of the scores.

        Raises:
            UserError: If the run was started with other scores.
        """
        super().on_load_checkpoint(checkpoint)
        if self._sha256 and checkpoint["scores"] != self._sha256:
            raise UserError(
                f"--model.scores {self.scores}: the run was started with other scores; give the "
                "folder of those, or start a new run"
            )

    def logits_and_domain_losses(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, (B, classes), and domain-corruption losses, shape (B,)."""
        pooled, means = self.encoder.pooled_with_layer_means(batch, self.layers)
        several = len(batch.segments) > 1
        return self.head(pooled), self.corruption(means, batch.task_ids, several=several)

    def example_weights(self, segment: Segment) -> tuple[Tensor | float, Tensor | float]:
        """The examples' scores for the losses in `weight_target`, otherwise 1."""
        if self.scores is None:
            return 1.0, 1.0
        ids, task = segment.ids, segment.task
        self._scores[task] = self._scores[task].to(ids.device)
        scores = self._scores[task][torch.where(ids < 0, -1 - ids, ids)]
        label_weights = 1.0 if self.weight_target == "domain" else scores
        domain_weights = 1.0 if self.weight_target == "label" else scores
        return label_weights, domain_weights

    def _read_scores(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if manifest["weights"] != weights_digest(self.encoder.backbone):
            raise UserError(
                f"--model.scores {folder}: computed with other weights ({manifest['backbone']}) "
                f"than this run's ({self.backbone_name}); {RESCORE} --backbone {self.backbone_name}"
            )
        splits = {
            self.tasks[index].name: split for index, split in self.scheme.train_splits.items()
        }
        fingerprints = {name: split.report.fingerprint for name, split in splits.items()}
        check_manifest(folder, manifest, fingerprints, self.scheme.max_length)
        scored = read_scores(folder, self.tasks)
        scores = [
            scores_of_examples(folder, name, scored[name], split.numbers, split.labels)
            for name, split in splits.items()
        ]
        weights = [each.float() for each in rescale_scores(scores, self.rescale)]
        if (lowest := min(float(each.min()) for each in weights)) < 0:
            raise UserError(
                f"--model.scores {folder}: the lowest score is {lowest:.3f}, and a negative weight "
                "would increase an example's loss; rescale with --model.rescale minmax or rank"
            )
        self._scores = {
            name: _by_index(split.numbers, each)
            for (name, split), each in zip(splits.items(), weights, strict=True)
        }
        self._sha256 = manifest["sha256"]
        _report(torch.cat(weights), self.rescale, manifest["correlation_with_length"])


def _report(weights: Tensor, rescale: Rescale, correlation_with_length: float | None) -> None:
    statistics = (
        f"{weights.min():.3f} to {weights.max():.3f}, "
        f"mean {weights.mean():.3f}, std {weights.std():.3f}"
    )
    message = f"scores: weights of {len(weights):,} examples: {statistics} (rescale: {rescale})"
    if correlation_with_length is not None:
        message += f"; rank correlation of the scores with length {correlation_with_length:+.2f}"
    rank_zero_info(message)


def _by_index(numbers: npt.NDArray[np.int64], weights: Tensor) -> Tensor:
    """Weights by example index, as a dense tensor that a batch's ids index on their device.

    Args:
        numbers: Index of each example in the split; -1 - i for an augmented copy of example i.
        weights: Weight of each example.
    """
    ids = torch.from_numpy(numbers.copy()).long()
    ids = torch.where(ids < 0, -1 - ids, ids)
    dense = weights.new_zeros(int(ids.max()) + 1)
    dense[ids] = weights
    return dense
