"""`mtl merge`: one encoder from runs that were fine-tuned on one task each, without training."""

import argparse
import math
from functools import partial

from mtl.cli.command import LAYOUT, add_model_option, run_command
from mtl.cli.early import check_early, check_files
from mtl.cli.suggestions import suggest_options
from mtl.errors import UserError
from mtl.merging.grid import GRIDS, coefficients_to_try

# Options of `mtl validate` that the evaluation of merged encoders takes; the others would change
# the tasks or the method, which are those of the runs.
EVALUATION_OPTIONS = (
    "--data.root",
    "--data.cache",
    "--data.eval_batch_size",
    "--data.num_workers",
    "--score",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the options of the command."""
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, **LAYOUT)
    parser.usage = "mtl merge RUN RUN ... --out DIR [options]"
    parser.description = (
        "Merge the encoders of single-task runs into one, without training; each task keeps its "
        "head.\nThe runs have one task each (or are of the method Separate) and the same "
        "backbone.\nThe folder DIR is a run of the method MultiHead for all tasks, with "
        "coefficients.csv and coefficients.png."
    )
    parser.epilog = (
        "methods (theta_0: the pretrained weights; a task vector is a run's weights minus "
        "theta_0):\n"
        "  mean              mean of the weights\n"
        "  task_arithmetic   theta_0 + scale * sum of the task vectors\n"
        "  ties              task vectors trimmed to their largest values; one sign for each "
        "parameter;\n"
        "                    theta_0 + scale * mean of the values with that sign\n"
        "  dare              values of the task vectors dropped at random, the others divided by "
        "the\n"
        "                    density; theta_0 + scale * sum\n\n"
        "Each density and scale is evaluated on the validation splits, and the best score is "
        "used.\nWith one value of each nothing is selected. Further options: those of the "
        "Trainer,\nsuch as --trainer.accelerator cpu, and " + ", ".join(EVALUATION_OPTIONS) + "."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of finished runs")
    parser.add_argument("--out", required=True, metavar="DIR", help="the merged run's folder")
    parser.add_argument(
        "--method",
        choices=list(GRIDS),
        default="task_arithmetic",
        help="how encoders are merged (default: task_arithmetic)",
    )
    parser.add_argument(
        "--scale",
        nargs="+",
        type=_scale,
        metavar="S",
        help=f"factor of the merged task vector (default: {_defaults('scales')})",
    )
    parser.add_argument(
        "--density",
        nargs="+",
        type=_density,
        metavar="D",
        help="share of a task vector's values that ties and dare keep "
        f"(default: {_defaults('densities')})",
    )
    parser.add_argument(
        "--seed", type=_seed, metavar="N", help="decides which values dare drops (default: 0)"
    )
    add_model_option(parser)


def _defaults(coefficient: str) -> str:
    """The values that are tried, by method."""
    values = {name: getattr(grid, coefficient) for name, grid in GRIDS.items()}
    return "; ".join(
        f"{name}: {', '.join(f'{value:g}' for value in tried)}"
        for name, tried in values.items()
        if tried
    )


def _scale(value: str) -> float:
    number = _number(value)
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{value!r} is not a factor; give a number such as 0.3")
    return number


def _density(value: str) -> float:
    number = _number(value)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{value!r} is not a share above 0 and up to 1")
    return number


def _seed(value: str) -> int:
    if not value.isdecimal():
        raise argparse.ArgumentTypeError(f"{value!r} is not a seed; give 0 or more")
    return int(value)


def _number(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan


def run(args: argparse.Namespace) -> None:
    """Merges the runs.

    Raises:
        UserError: If the options or the runs do not fit together, or the folder is in use.
    """
    for folder in args.runs:
        check_files("validate", ["--ckpt_path", folder])
    coefficients = coefficients_to_try(args.method, args.density, args.scale)
    if args.seed is not None and args.method != "dare":
        raise UserError(f"--seed: {args.method} draws nothing at random; omit --seed")
    _check_evaluation_options(args)
    check_early("validate", ["--out", args.out, *args.unknown], args.options)
    from mtl.cli.merge_runs import merge_runs  # here, because it imports the libraries

    merge_runs(args, coefficients)


def takes_option(option: str) -> bool:
    """Whether the evaluation of merged encoders takes an option of `mtl fit`."""
    return option in EVALUATION_OPTIONS or option.startswith("--trainer.")


def _check_evaluation_options(args: argparse.Namespace) -> None:
    for word in args.unknown:
        option = word.partition("=")[0]
        if word[:1] == "-" and not takes_option(option):
            hint = suggest_options(option, [*args.options, *EVALUATION_OPTIONS])
            raise UserError(
                f"unknown option {option}.{hint} Tasks, method and data are those of the runs; "
                "`mtl merge --help` lists the options"
            )


def main(arguments: list[str]) -> None:
    """Runs `mtl merge`."""
    run_command("merge", arguments, add_arguments, run, accept_unknown=True)
