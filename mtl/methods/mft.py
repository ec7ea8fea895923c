"""Meta fine-tuning: one model for the domains of a group, its rows weighed by how typical they are."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.errors import UserError
from mtl.methods.domain_base import DomainMethod
from mtl.mft.prototypes import Rescale, rescale_scores
from mtl.mft.score_files import (
    RESCORE,
    check_manifest,
    scores_of_examples,
    read_manifest,
    read_scores,
    weights_digest,
)
from mtl.modules.domains import DomainCorruption, checked_layers
from mtl.modules.encoder import Pooling


class MetaFineTuning(DomainMethod):
    """A shared encoder and a shared classifier for the domains of a group: a start from which each domain is fine-tuned.

    The loss of a row is its score times its cross-entropy, plus `domain_weight` times the domain-corruption loss.

    Source: Wang et al. 2020 (MFT), sections 3.2 to 3.4; the second of its three stages (specification B1, B2.1).
    Reads: token ids.  Batches: any scheme; published with the domains' rows shuffled together (`sequential`).
    Per task: nothing but the embedding of its domain.
    Relations: with `scores: none` and with `domain_weight: 0` it is `Joint`. The first stage is `mtl score-prototypes`, the third
    any run with `--model.init_from`.

    Args:
        scores: Folder of `mtl score-prototypes`; or `none`: all rows count the same.
        domain_weight: What the domain-corruption loss counts for (lambda).
        layers: Layers whose states it reads, counted from 0; four evenly spaced ones where absent (2, 5, 8, 11 of 12).
        weight_target: What the scores weigh: the `label` loss as in the paper, the `domain` loss as in its later release, or
            `both`.
        rescale: How scores are spread before they weigh: as they stand, `minmax` over 0 to 1, or by `rank`.
        pooling: What a row's vector is: the backbone's own pooler as published, the first token's state, or the mean.
        labels: `merged`, `union`, or `auto`: merged where all domains have as many classes.
        dropout: Share of the vector's entries that the classifier drops in training.

    Raises:
        UserError: Before training, if the scores are not said, or are of another backbone or of other rows, or there is no
            such layer.
    """

    def __init__(
        self,
        scores: Literal["none"] | Path | None = None,
        domain_weight: float = 0.1,
        layers: list[int] | None = None,
        weight_target: Literal["label", "domain", "both"] = "label",
        rescale: Rescale = "none",
        pooling: Pooling = "pooler",
        **kwargs: Any,
    ) -> None:
        super().__init__(domain_weight=domain_weight, pooling=pooling, **kwargs)
        if scores is None:
            raise UserError(
                "give the rows' scores, --model.scores DIR, which `mtl score-prototypes --out DIR` writes; "
                "or --model.scores none, and all rows count the same"
            )
        self.scores = None if scores == "none" else Path(scores)
        self.weight_target, self.rescale = weight_target, rescale
        try:
            self.layers = checked_layers(
                layers, int(self.encoder.backbone.config.num_hidden_layers)
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        self.corruption = DomainCorruption(self.encoder.width, len(self.tasks))
        self._scores: dict[str, Tensor] = {}  # by task and row number
        self._sha256: str | None = None

    @property
    def reads_token_states(self) -> bool:
        """The domain classifier reads the states of several layers."""
        return True

    def setup(self, stage: str) -> None:
        """Reads the scores; here, where the weights are still those of the backbone, in fp32 and whole."""
        super().setup(stage)
        if stage == "fit" and self.scores is not None:
            self._read(self.scores)

    def on_fit_start(self) -> None:
        """Shows how the scores are spread."""
        super().on_fit_start()
        for logger in self.loggers if self._scores else ():
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_histogram(
                    "scores", torch.cat(list(self._scores.values())).cpu(), 0
                )

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remembers which scores they were."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["scores"] = self._sha256

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses to go on with other scores."""
        super().on_load_checkpoint(checkpoint)
        if self._sha256 and checkpoint["scores"] != self._sha256:
            raise UserError(
                f"--model.scores {self.scores}: these are not the scores that the run was begun with"
            )

    def passed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, (B, classes), and each row's domain-corruption loss, (B,)."""
        vectors, means = self.encoder.with_layers(batch, self.layers)
        return self.head(vectors), self.corruption(
            means, batch.task_ids, several=len(batch.segments) > 1
        )

    def row_weights(self, segment: Segment) -> tuple[Tensor | float, Tensor | float]:
        """Each row's score, for the loss that it weighs."""
        if self.scores is None:
            return 1.0, 1.0
        ids, task = segment.ids, segment.task
        self._scores[task] = self._scores[task].to(ids.device)
        scores = self._scores[task][torch.where(ids < 0, -1 - ids, ids)]
        return (1.0 if self.weight_target == "domain" else scores), (
            1.0 if self.weight_target == "label" else scores
        )

    def _read(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if manifest["weights"] != weights_digest(self.encoder.backbone):
            raise UserError(
                f"--model.scores {folder}: made with other weights ({manifest['backbone']}) than this run's "
                f"({self.backbone}); {RESCORE} --backbone {self.backbone}"
            )
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        tables = {self.tasks[place].name: table for place, table in data.train_tables.items()}
        check_manifest(
            folder,
            manifest,
            {name: table.report.fingerprint for name, table in tables.items()},
            data.max_length,
        )
        scored, numbers = (
            read_scores(folder, self.tasks),
            [table.numbers for table in tables.values()],
        )
        weights = [
            scores_of_examples(folder, name, scored[name], table.numbers, table.labels)
            for name, table in tables.items()
        ]
        spread = [part.float() for part in rescale_scores(weights, self.rescale)]
        if (lowest := min(float(part.min()) for part in spread)) < 0:
            raise UserError(
                f"--model.scores {folder}: the lowest score is {lowest:.3f}, and a negative weight would train a row to be "
                "wrong; spread them with --model.rescale minmax or rank"
            )
        self._scores = {
            name: _by_number(rows, part)
            for name, rows, part in zip(tables, numbers, spread, strict=True)
        }
        self._sha256 = manifest["sha256"]
        self._tell(manifest, torch.cat(spread))

    def _tell(self, manifest: dict[str, Any], weights: Tensor) -> None:
        spread = f"{weights.min():.3f} to {weights.max():.3f}, mean {weights.mean():.3f}, std {weights.std():.3f}"
        related = manifest["correlation_with_length"]
        length = (
            ""
            if related is None
            else f"; rank correlation of the scores with length {related:+.2f}"
        )
        rank_zero_info(f"scores: {len(weights):,} rows weigh {spread} ({self.rescale}){length}")


def _by_number(numbers: Any, weights: Tensor) -> Tensor:
    """Weights by row number: a dense tensor, so that a batch's numbers index it where they are."""
    rows = torch.from_numpy(numbers.copy()).long()
    rows = torch.where(rows < 0, -1 - rows, rows)
    dense = weights.new_zeros(int(rows.max()) + 1)
    dense[rows] = weights
    return dense
