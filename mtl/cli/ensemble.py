"""`mtl ensemble`: combines the predictions of several runs, or averages their weights."""

import argparse
import math
import os
from collections.abc import Sequence
from functools import partial

from mtl.cli.command import LAYOUT, add_model_option, run_command
from mtl.cli.early import check_early, check_files
from mtl.errors import UserError


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
        "  hard       most frequent class; ties go to the first class. Several classes at once:\n"
        "             the classes that at least half of the runs predict\n"
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
    _check_runs(args.runs)
    for folder in args.runs:
        check_files(args.split, ["--ckpt_path", folder])
    check_early(args.split, ["--out", args.out, *args.unknown], args.options)
    from mtl.cli.ensemble_runs import combine_runs  # here, because it imports the libraries

    combine_runs(args)


def _check_runs(runs: Sequence[str]) -> None:
    """Checks that two or more runs are named, each once."""
    if len(runs) < 2:
        raise UserError(f"an ensemble needs at least two runs, but only {runs[0]} is named")
    for index, run in enumerate(runs):
        for other in runs[:index]:
            if os.path.realpath(run) == os.path.realpath(other):
                same = run if run == other else f"{other} and {run} are one folder, which"
                raise UserError(f"{same} is named twice; name each run of the ensemble once")


def main(arguments: list[str]) -> None:
    """Runs `mtl ensemble`."""
    run_command("ensemble", arguments, add_arguments, run, accept_unknown=True)
