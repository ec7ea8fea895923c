"""`mtl score-prototypes`: how typical each training row is, the first stage of meta fine-tuning."""

import hashlib
import json
import math
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.table import Table

from mtl.batch import Batch
from mtl.cli.lightning import Parser, classes, report_user_errors
from mtl.data import MultiTaskDataModule
from mtl.errors import UserError
from mtl.mft.prototypes import Others, Prototypes, correlation, typicality
from mtl.mft.score_files import MANIFEST, Scored, weights_digest, write_scores
from mtl.modules import Encoder
from mtl.modules.encoder import Pooling
from mtl.system.provenance import provenance
from mtl.tasks import Task, check_tasks
from mtl.training.run_folder import CONFIG


class PrototypeScores(LightningModule):
    """Two passes of the un-tuned encoder over the training rows: prototypes of classes and domains, then each row's score.

    Vectors are not kept, so a million rows take no more memory than a batch and their scores.

    Source: Wang et al. 2020 (MFT), section 3.2; specification B1.

    Args:
        tasks: The domains, which share their classes by their places.
        backbone: Name or directory of the pretrained encoder, or `NAME@REVISION`.
        pooling: What a row's vector is: the mean over its tokens, the first token's state, or the backbone's own pooler.
        alpha: What a row's own domain counts for, from 0 to 1; the others count for the rest.
        others: How the other domains are taken together: the cosine with the mean of their prototypes, or the mean cosine.

    Raises:
        UserError: If the domains do not share their classes, or `alpha` is no share.
    """

    def __init__(
        self,
        tasks: list[Task],
        backbone: str,
        pooling: Pooling = "mean",
        alpha: float = 0.5,
        others: Others = "mean_prototype",
    ) -> None:
        super().__init__()
        self.tasks = check_tasks(tasks)
        self.places = {task.name: place for place, task in enumerate(self.tasks)}
        if found := [task.name for task in self.tasks if task.regression]:
            raise UserError(
                f"prototypes are of classes, and {found[0]!r} is a regression; leave it out"
            )
        counts = {task.name: len(task.classes) for task in self.tasks}
        if len(set(counts.values())) > 1:
            raise UserError(
                f"prototypes are of classes that all domains share, and theirs differ in number: {counts}"
            )
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha {alpha}: a share from 0 to 1")
        self.backbone, self.pooling, self.alpha, self.others = backbone, pooling, alpha, others
        self.encoder = Encoder(backbone, pooling)
        self.prototypes = Prototypes(
            len(self.tasks), counts[self.tasks[0].name], self.encoder.width
        )
        self.means: torch.Tensor | None = None
        self._seen: dict[str, list[tuple[np.ndarray, ...]]] = {}

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Adds the rows to the prototypes; in the second pass scores them."""
        vectors = self.encoder(batch).float()
        for segment in batch.segments:
            place, classes = self.places[segment.task], segment.labels.cpu()
            own = vectors[segment.examples][: len(classes)].cpu()
            if self.means is None:
                self.prototypes.add(place, classes, own)
                continue
            scores = typicality(own, classes, place, self.means, self.alpha, self.others)
            tokens = batch.tokens["attention_mask"][segment.examples][: len(classes)].sum(1).cpu()
            found = (segment.ids.cpu(), classes, tokens, scores)
            self._seen.setdefault(segment.task, []).append(tuple(part.numpy() for part in found))

    def scored(self) -> dict[str, Scored]:
        """The scores of each task's rows, in the rows' order."""
        found = {}
        for name, parts in self._seen.items():
            columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
            order = np.argsort(columns[0])
            found[name] = Scored(*(column[order] for column in columns))
        return found


def score_prototypes(words: list[str]) -> None:
    """Runs the command.

    Args:
        words: What stands after `mtl score-prototypes`.

    Raises:
        UserError: If tasks or rows cannot be used, or the folder holds scores already.
    """
    parser = _parser()
    config = parser.parse_args([*classes(words, "data"), *words])
    out = Path(config.out)
    if (out / MANIFEST).exists():
        raise UserError(
            f"{out} holds scores already; give --out another folder, or delete this one to score again"
        )
    made = parser.instantiate(config)
    seed_everything(config.seed_everything, verbose=False)
    data: MultiTaskDataModule = made.data
    data.augment = {}  # only the rows themselves are scored; what is made of one later weighs as it does
    module = PrototypeScores(made.tasks, made.backbone, made.pooling, made.alpha, made.others)
    trainer = Trainer(**_once(vars(made.trainer)))
    loaders = data.training_example_loaders()
    for place, table in data.train_tables.items():
        rank_zero_info(
            f"{data.tasks[place].name}: {len(table):,} training rows, {table.lengths.mean():.1f} tokens a row"
        )
    digest = weights_digest(module.encoder.backbone)
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="predict returned None")
        trainer.predict(module, list(loaders.values()), return_predictions=False)
        module.means = module.prototypes.means()
        trainer.predict(module, list(loaders.values()), return_predictions=False)
    scored, seconds = module.scored(), time.perf_counter() - begun
    assert all(
        len(scored[data.tasks[place].name].rows) == len(table)
        for place, table in data.train_tables.items()
    )
    out.mkdir(parents=True, exist_ok=True)
    _draw(out, scored)
    parser.save(config, out / CONFIG, overwrite=True)
    ran = {
        "seconds": seconds,
        "device": str(trainer.strategy.root_device),
        "precision": str(trainer.precision),
    }
    write_scores(
        out, scored, module.tasks, _manifest(module, data, digest, scored) | ran | provenance()
    )
    _show(out, scored, module.tasks)


def name_of(words: list[str]) -> str:
    """The name that a folder of scores gets of its resolved configuration.

    Args:
        words: What stands after `mtl score-prototypes`, but for `--out`.
    """
    parser = _parser()
    with report_user_errors():
        config = parser.parse_args([*classes(words, "data"), *words, "--out", "."])
    content = json.loads(parser.dump(config, format="json", skip_none=False))
    return f"scores-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]}"


def _once(given: dict[str, Any]) -> dict[str, Any]:
    """The trainer's options for two passes over every row in one process, whatever a configuration says of many."""
    bar = [] if given["enable_progress_bar"] is False else [RichProgressBar(leave=False)]
    own = {"logger": False, "callbacks": bar, "devices": 1, "num_nodes": 1, "strategy": "auto"}
    return given | own | {"limit_predict_batches": None, "fast_dev_run": False}


def _parser() -> Parser:
    parser = Parser(
        "mtl score-prototypes",
        description="Scores how typical each training row is of its class, in its own domain and in the others: the first "
        "stage of meta fine-tuning. The un-tuned encoder reads all rows twice. The folder gets scores.jsonl (a line a row), "
        "scores.json (what was scored, and how) and histogram.png; `mtl fit --model MetaFineTuning --model.scores OUT` reads it.",
    )
    parser.add_argument(
        "-c",
        "--config",
        action="config",
        help="Configuration files, such as configs/suites/mft_g1.yaml.",
    )
    parser.add_argument(
        "--tasks",
        type=list[Task],
        required=True,
        help="The domains: task files, or tasks written inline.",
    )
    parser.add_argument(
        "--backbone",
        type=str,
        default="bert-base-uncased",
        help="The pretrained encoder, as of `mtl fit`.",
    )
    parser.add_argument("--out", type=Path, required=True, help="The scores' folder.")
    parser.add_argument(
        "--seed_everything",
        type=int,
        default=42,
        help="The run's seed, where it decides which rows are drawn.",
    )
    parser.add_class_arguments(PrototypeScores, None, skip={"tasks", "backbone"})
    parser.add_subclass_arguments(MultiTaskDataModule, "data", required=True)
    parser.add_class_arguments(Trainer, "trainer", instantiate=False)
    for option in ("tasks", "backbone"):
        parser.link_arguments(option, f"data.init_args.{option}")
    parser.link_arguments("seed_everything", "data.init_args.seed")
    return parser


def _manifest(
    module: PrototypeScores, data: MultiTaskDataModule, digest: str, scored: dict[str, Scored]
) -> dict[str, Any]:
    scores, tokens = (
        torch.from_numpy(np.concatenate([getattr(part, of) for part in scored.values()]))
        for of in ("scores", "tokens")
    )
    related = correlation(scores, tokens)
    return {
        "backbone": module.backbone,
        "weights": digest,
        "pooling": module.pooling,
        "alpha": module.alpha,
        "others": module.others,
        "max_length": data.max_length,
        "rows": len(scores),
        "scores": {
            "min": float(scores.min()),
            "max": float(scores.max()),
            "mean": float(scores.mean()),
            "std": float(scores.std()),
        },
        "correlation_with_length": None if math.isnan(related) else related,
        "tasks": {
            task.name: {
                "split": task.splits.train,
                "where": table.report.where,
                "fingerprint": table.report.fingerprint,
                "rows": len(scored[task.name].rows),
                "classes": task.classes,
            }
            for task, table in (
                (data.tasks[place], table) for place, table in data.train_tables.items()
            )
        },
    }


def _draw(out: Path, scored: dict[str, Scored]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    bars, points = figure.subplots(1, 2)
    bars.hist([part.scores for part in scored.values()], bins=30, stacked=True, label=list(scored))
    bars.set(xlabel="prototypical score", ylabel="rows")
    bars.legend()
    shown = np.random.default_rng(0)
    for name, part in scored.items():
        some = shown.permutation(len(part.scores))[:2000]
        points.scatter(part.tokens[some], part.scores[some], s=6, alpha=0.5, label=name)
    points.set(xlabel="tokens", ylabel="prototypical score")
    figure.savefig(out / "histogram.png", dpi=150)


def _show(out: Path, scored: dict[str, Scored], tasks: list[Task]) -> None:
    table = Table(title=f"{out}: prototypical scores", title_justify="left")
    for column in ("domain", "class", "rows", "mean", "std", "least", "most", "with length"):
        table.add_column(column, justify="left" if column in ("domain", "class") else "right")
    for task in tasks:
        for place, name in enumerate(task.classes):
            part = scored[task.name]
            of = part.classes == place
            if not of.any():
                continue
            scores, tokens = part.scores[of], part.tokens[of]
            figures = [scores.mean(), scores.std(), scores.min(), scores.max()]
            related = correlation(torch.from_numpy(scores), torch.from_numpy(tokens))
            table.add_row(
                task.name,
                name,
                f"{of.sum():,}",
                *(f"{figure:.4f}" for figure in figures),
                f"{related:+.2f}",
            )
    Console().print(table)
    scores, tokens = (
        torch.from_numpy(np.concatenate([getattr(part, of) for part in scored.values()]))
        for of in ("scores", "tokens")
    )
    Console().print(
        f"{len(scores):,} rows; rank correlation of the scores with length {correlation(scores, tokens):+.2f}"
    )


def main(words: list[str]) -> None:
    """Runs the command; an error of the user's is one message."""
    with report_user_errors():
        score_prototypes(words)
