"""`mtl ensemble`: combines the predictions of several runs, or averages their weights."""

import argparse
import math
from functools import partial

from mtl.cli.command import LAYOUT, add_model_option, run_command
from mtl.cli.words import check_early, check_files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the options of the command."""
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, **LAYOUT)
    parser.usage = "mtl ensemble RUN RUN ... --out DIR [options]"
    parser.description = (
        "Combine several runs of the same tasks (other seeds, methods or encoders).\n"
        "Every run is evaluated as by `mtl test`; the folder DIR gets metrics.json and "
        "predictions."
    )
    parser.epilog = (
        "kinds of vote (numbers are always averaged):\n"
        "  soft       mean of the class probabilities\n"
        "  hard       most frequent class; ties go to the first class\n"
        "  weighted   soft, each run weighted by its validation score on the task\n"
        "  soup       one model with the mean of the weights\n\n"
        "Further options are those of `mtl test`, such as --trainer.accelerator cpu.\n"
        "Test data never selects or weights the runs."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--out", required=True, metavar="DIR", help="the ensemble's folder")
    parser.add_argument(
        "--vote",
        choices=["soft", "hard", "weighted", "soup"],
        default="soft",
        help="how runs are combined (default: soft)",
    )
    parser.add_argument(
        "--split",
        choices=["test", "predict"],
        default="test",
        help="`test` scores the predictions, `predict` does not (default: test)",
    )
    parser.add_argument(
        "--min_score",
        type=float,
        default=-math.inf,
        metavar="S",
        help="drop runs with a lower validation score",
    )
    add_model_option(parser)


def run(args: argparse.Namespace) -> None:
    """Combines the runs.

    Raises:
        UserError: If the runs do not fit together, or the folder is in use.
    """
    for folder in args.runs:
        check_files(args.split, ["--ckpt_path", folder])
    check_files(args.split, ["--out", args.out])
    check_early(args.split, args.unknown, args.options)
    from mtl.cli.ensemble_runs import combine_runs  # here, because it imports the libraries

    combine_runs(args)


def main(arguments: list[str]) -> None:
    """Runs `mtl ensemble`."""
    run_command("ensemble", arguments, add_arguments, run, accept_unknown=True)
