"""`mtl score-prototypes`: the first stage of meta fine-tuning."""

import json
import time
import warnings
from pathlib import Path
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.utilities import rank_zero_info

from mtl.cli.class_options import class_options, with_config_files
from mtl.cli.errors import report_user_errors
from mtl.cli.parser import Parser
from mtl.cli.precision import FastTrainer, resolve_precision
from mtl.data import MultiTaskDataModule
from mtl.errors import UserError
from mtl.mft.report import plot_scores, print_scores
from mtl.mft.score_files import MANIFEST, TaskScores, weights_digest, write_scores
from mtl.mft.scoring import PrototypeScores, score_manifest
from mtl.system.provenance import provenance
from mtl.tasks import Task
from mtl.training.run_folder import CONFIG, config_digest

DESCRIPTION = (
    "Score how typical each training example is of its class, in its own domain and in the other "
    "domains: the first stage of meta fine-tuning. The pretrained encoder reads all examples "
    "twice. The output folder gets scores.jsonl (a line for each example), scores.json (what was "
    "scored, and how) and histogram.png. Train with these scores with `mtl fit --model "
    "MetaFineTuning --model.scores OUT`."
)


def add_arguments(parser: Parser) -> None:
    """Adds the options of the command."""
    parser.add_argument(
        "-c",
        "--config",
        action="config",
        help="Configuration files, or names of shipped ones such as suites/mft_g1.",
    )
    parser.add_argument(
        "--tasks",
        type=list[Task],
        required=True,
        help="The domains: task files, or tasks given inline.",
    )
    parser.add_argument(
        "--backbone",
        type=str,
        default="bert-base-uncased",
        help="The pretrained encoder, as in `mtl fit`.",
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="Folder to which the scores are written."
    )
    parser.add_argument(
        "--seed_everything",
        type=int,
        default=42,
        help="Seed, which matters if only some examples are selected.",
    )
    parser.add_class_arguments(PrototypeScores, None, skip={"tasks", "backbone"})
    parser.add_subclass_arguments(MultiTaskDataModule, "data", required=True)
    parser.add_class_arguments(FastTrainer, "trainer", instantiate=False)
    for option in ("tasks", "backbone"):
        parser.link_arguments(option, f"data.init_args.{option}")
    parser.link_arguments("seed_everything", "data.init_args.seed")


def run(parser: Parser, args: Namespace) -> None:
    """Computes the scores and writes them to a folder.

    Args:
        parser: The parser, which instantiates and saves the configuration.
        args: The parsed arguments.

    Raises:
        UserError: If tasks or data cannot be used, or the folder already holds scores.
    """
    out = Path(args.out)
    if (out / MANIFEST).exists():
        raise UserError(
            f"--out {out}: {out} already holds scores; choose another folder, or delete it to "
            "compute them again"
        )
    objects = parser.instantiate(args)
    seed_everything(args.seed_everything, verbose=False)
    data: MultiTaskDataModule = objects.data
    data.augment = {}  # an augmented example has the score of its original
    module = PrototypeScores(
        objects.tasks, objects.backbone, objects.pooling, objects.alpha, objects.others
    )
    trainer = Trainer(**_trainer_options(vars(objects.trainer)))
    weights = weights_digest(module.encoder.backbone)
    start = time.perf_counter()
    scores = _compute_scores(module, data, trainer)
    seconds = time.perf_counter() - start
    out.mkdir(parents=True, exist_ok=True)
    plot_scores(out / "histogram.png", scores)
    parser.save(args, out / CONFIG, overwrite=True)
    run_facts = {
        "seconds": seconds,
        "device": str(trainer.strategy.root_device),
        "precision": str(trainer.precision),
    }
    manifest = score_manifest(module, data, weights, scores) | run_facts | provenance()
    write_scores(out, scores, module.tasks, manifest)
    print_scores(f"{out}: prototypical scores", scores, module.tasks)


def scores_folder_name(arguments: list[str]) -> str:
    """The name of a folder of scores, derived from the resolved configuration.

    Args:
        arguments: The command-line arguments after `mtl score-prototypes`, without `--out`.
    """
    parser = _parser()
    with report_user_errors():
        args = _parse(parser, [*arguments, "--out", "."])
    content = json.loads(parser.dump(args, format="json", skip_none=False))
    return f"scores-{config_digest(content)}"


def _compute_scores(
    module: PrototypeScores, data: MultiTaskDataModule, trainer: Trainer
) -> dict[str, TaskScores]:
    """Runs both passes over the training examples."""
    loaders = data.training_example_loaders()
    for index, examples in data.train_splits.items():
        rank_zero_info(
            f"{data.tasks[index].name}: {len(examples):,} training examples, "
            f"{examples.lengths.mean():.1f} tokens per example"
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="predict returned None")
        trainer.predict(module, list(loaders.values()), return_predictions=False)
        module.finish_prototypes()
        trainer.predict(module, list(loaders.values()), return_predictions=False)
    scores = module.scores()
    assert all(
        len(scores[data.tasks[index].name].ids) == len(examples)
        for index, examples in data.train_splits.items()
    )
    return scores


def _trainer_options(options: dict[str, Any]) -> dict[str, Any]:
    """The configured options of the Trainer, changed to one process and all examples."""
    progress_bar = [] if options["enable_progress_bar"] is False else [RichProgressBar(leave=False)]
    return options | {
        "logger": False,
        "callbacks": progress_bar,
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "limit_predict_batches": None,
        "fast_dev_run": False,
    }


def _parser() -> Parser:
    parser = Parser("mtl score-prototypes", description=DESCRIPTION)
    add_arguments(parser)
    return parser


def _parse(parser: Parser, arguments: list[str]) -> Namespace:
    arguments = with_config_files(arguments)
    args: Namespace = parser.parse_strictly([*class_options(arguments, "data"), *arguments])
    resolve_precision(args.trainer)
    return args


def main(arguments: list[str]) -> None:
    """Parses the arguments and runs `mtl score-prototypes`."""
    parser = _parser()
    with report_user_errors():
        run(parser, _parse(parser, arguments))
