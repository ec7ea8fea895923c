"""`mtl calibrate`: temperatures that make a run's class probabilities match their accuracy."""

import argparse
from pathlib import Path

from mtl.cli.command import add_model_option, run_command
from mtl.cli.early import check_early, check_run
from mtl.errors import UserError
from mtl.inference.options import MANIFEST


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the options of the command."""
    parser.usage = "mtl calibrate RUN [--task NAME] [options of `mtl validate`]"
    parser.description = (
        "Fit a temperature for each task on the validation examples: logits are divided by it, so "
        "that of the predictions with probability 0.8 about 80 % are right. Predictions stay the "
        "same. The temperatures are written to calibration.json in the run's folder; `mtl test`, "
        "`predict`, `serve` and mtl.load use them. Delete the file to undo it. Further options "
        "are those of `mtl validate`, such as --data.root; `mtl validate --help all` lists them."
    )
    parser.add_argument(
        "run", metavar="RUN", help="a run's folder (its best checkpoint), or a checkpoint"
    )
    parser.add_argument(
        "--task",
        action="append",
        metavar="NAME",
        help="task to calibrate, repeatable (default: all that predict one of several classes)",
    )
    add_model_option(parser)


def run(args: argparse.Namespace) -> None:
    """Calibrates the run.

    Raises:
        UserError: If the run cannot be evaluated, or a task that is named, or every task, cannot be
            calibrated.
    """
    if Path(args.run, MANIFEST).exists():
        raise UserError(
            f"{args.run}: an export has no validation examples; calibrate its run, then export it"
        )
    check_run("calibrate", args.run)
    classes = [option for name in args.model or () for option in ("--model", name)]
    arguments = ["--ckpt_path", args.run, *classes, *args.unknown]
    check_early("validate", arguments, args.options)
    # Here, because they import the libraries.
    from mtl.cli.calibrated_tasks import calibrate_tasks, choose_tasks
    from mtl.cli.lightning import command_line
    from mtl.cli.merge_evaluation import Evaluation

    evaluation = command_line(Evaluation, ["validate", *arguments], "validate")
    tasks = choose_tasks(evaluation.model.tasks, args.task or [])
    calibrate_tasks(evaluation, tasks, named=bool(args.task))


def main(arguments: list[str]) -> None:
    """Runs `mtl calibrate`."""
    run_command("calibrate", arguments, add_arguments, run, accept_unknown=True)
