"""Meta fine-tuning: one model for the domains of a group, its rows weighed by how typical they are."""

from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from mtl.batch import Batch, Segment
from mtl.methods.domains import WithDomains
from mtl.modules.domains import DomainCorruption, checked_layers
from mtl.modules.encoder import Pooling
from mtl.scores import AGAIN, Scored, of_rows, read_manifest, read_scores, weights_digest
from mtl.text import DataError
from mtl.typicality import Rescale, correlation, rescaled


class MetaFineTuning(WithDomains):
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
        DataError: Before training, if the scores are of another backbone or of other rows, or there is no such layer.
    """

    def __init__(
        self,
        scores: Literal["none"] | Path,
        domain_weight: float = 0.1,
        layers: list[int] | None = None,
        weight_target: Literal["label", "domain", "both"] = "label",
        rescale: Rescale = "none",
        pooling: Pooling = "pooler",
        **kwargs: Any,
    ) -> None:
        super().__init__(domain_weight=domain_weight, pooling=pooling, **kwargs)
        self.scores = None if scores == "none" else Path(scores)
        self.weight_target, self.rescale = weight_target, rescale
        try:
            self.layers = checked_layers(layers, int(self.encoder.backbone.config.num_hidden_layers))
        except ValueError as error:
            raise DataError(str(error)) from error
        self.corruption = DomainCorruption(self.encoder.width, len(self.tasks))
        self._scores: dict[str, Tensor] = {}  # by task and row number

    def on_fit_start(self) -> None:
        """Reads the scores, and refuses those of another backbone or of other rows."""
        if self.scores is not None:
            self._read(self.scores)
        super().on_fit_start()

    def passed(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits of all classes, (B, classes), and each row's domain-corruption loss, (B,)."""
        vectors, means = self.encoder.with_layers(batch, self.layers)
        return self.head(vectors), self.corruption(means, batch.task_ids)

    def row_weights(self, segment: Segment) -> tuple[Tensor | float, Tensor | float]:
        """Each row's score, for the loss that it weighs."""
        if self.scores is None:
            return 1.0, 1.0
        ids = segment.ids
        scores = self._scores[segment.task].to(ids.device)[torch.where(ids < 0, -1 - ids, ids)]
        return (1.0 if self.weight_target == "domain" else scores), (1.0 if self.weight_target == "label" else scores)

    def _read(self, folder: Path) -> None:
        manifest = read_manifest(folder)
        if not self.trainer.ckpt_path and manifest["weights"] != weights_digest(self.encoder.backbone):
            raise DataError(
                f"--model.scores {folder}: made with other weights ({manifest['backbone']}) than this run's "
                f"({self.backbone}); {AGAIN} --backbone {self.backbone}"
            )
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        scored, tables, weights = read_scores(folder, self.tasks), {}, []
        for place, table in data.train_tables.items():
            name = self.tasks[place].name
            if name not in scored or manifest["tasks"][name]["fingerprint"] != table.report.fingerprint:
                there = manifest["tasks"].get(name, {}).get("where", "no such task")
                raise DataError(
                    f"--model.scores {folder}: {name!r} was scored from other rows ({there}) than those of {table.report.where}; "
                    f"{AGAIN}"
                )
            tables[name] = table
            weights.append(of_rows(folder, name, scored[name], table.numbers, table.labels))
        spread = [part.float() for part in rescaled(weights, self.rescale)]
        for (name, table), part in zip(tables.items(), spread, strict=True):
            self._scores[name] = _by_number(table.numbers, part).to(self.device)
        self._tell(scored, torch.cat(spread))

    def _tell(self, scored: dict[str, Scored], weights: Tensor) -> None:
        scores, tokens = (torch.cat([torch.from_numpy(getattr(part, of)) for part in scored.values()]) for of in FIELDS)
        spread = (
            f"{weights.min():.3f} to {weights.max():.3f}, mean {weights.mean():.3f}, std {weights.std():.3f} ({self.rescale})"
        )
        related = f"{correlation(scores, tokens):+.2f}"
        rank_zero_info(f"scores: {len(weights):,} rows weigh {spread}; rank correlation of the scores with length {related}")
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_histogram("scores", weights, 0)


FIELDS = ("scores", "tokens")


def _by_number(numbers: Any, weights: Tensor) -> Tensor:
    """Weights by row number: a dense tensor, so that a batch's numbers index it where they are."""
    rows = torch.from_numpy(numbers.copy()).long()
    rows = torch.where(rows < 0, -1 - rows, rows)
    dense = weights.new_zeros(int(rows.max()) + 1)
    dense[rows] = weights
    return dense
