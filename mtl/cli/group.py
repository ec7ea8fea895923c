"""`mtl group`: which tasks to train together, from the gradients of one run of all tasks."""

import argparse
from functools import partial
from itertools import takewhile
from pathlib import Path

from mtl.cli.class_options import option_value, options_in
from mtl.cli.command import LAYOUT, run_command
from mtl.cli.early import check_early
from mtl.cli.suggestions import suggest_options
from mtl.errors import UserError
from mtl.training.run_folder import check_writable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the options of the command."""
    parser.formatter_class = partial(argparse.RawDescriptionHelpFormatter, **LAYOUT)
    parser.usage = (
        "mtl group RUN [RUN ...] --encoders B --out DIR\n"
        "       mtl group --tasks+=TASK ... --encoders B --out DIR [options of mtl fit]"
    )
    parser.description = (
        "Propose groups of tasks to train together, for a number of encoders, and write a "
        "comparison\nthat judges them. The gains of groups are estimated from runs of all tasks "
        "with the callbacks\nGradientSnapshots, TaskAffinity or both; without RUN, such a run is "
        "trained in DIR/joint."
    )
    parser.epilog = (
        "DIR gets groups.yaml, the definition of the comparison: each task alone, all in one, and "
        "the groups.\nRun it with: mtl compare DIR/groups.yaml\n\nThe joint run takes the options "
        "of mtl fit, such as --backbone NAME or -c methods/lora; its defaults are\n"
        "-c sampling/mixed -c methods/multi_head."
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of what is written")
    parser.add_argument(
        "--encoders",
        required=True,
        type=_count,
        metavar="B",
        help="the largest number of encoders: of groups",
    )


def _count(value: str) -> int:
    if not value.isdecimal() or not int(value):
        raise argparse.ArgumentTypeError(f"{value!r} is not a number of encoders; give 1 or more")
    return int(value)


def run(args: argparse.Namespace) -> None:
    """Proposes groups.

    Raises:
        UserError: If the runs, or the options of the joint run, cannot be used.
    """
    # Not an argument of the parser, which would take values of unknown options for runs.
    runs = [Path(word) for word in takewhile(lambda word: word[:1] != "-", args.unknown)]
    options = args.unknown[len(runs) :]
    if runs and options:
        option = options[0].partition("=")[0]
        hint = suggest_options(option, args.options)
        raise UserError(
            f"unknown option {option}.{hint} With RUN, all settings are those of the run"
        )
    check_writable(Path(args.out))
    if not runs:
        if not any(option.startswith("--tasks") for option, _ in options_in(options)):
            raise UserError("give the folder of a run of all tasks, or --tasks+= for each task")
        if option_value("--ckpt_path", options):
            raise UserError("--ckpt_path: give the folder of the run without an option")
        check_early("fit", options, args.options)
    from mtl.cli.group_runs import joint_run, propose_groups  # here: imports the libraries

    out = Path(args.out)
    propose_groups(runs or [joint_run(options, out)], args.encoders, out)


def main(arguments: list[str]) -> None:
    """Runs `mtl group`."""
    run_command("group", arguments, add_arguments, run, accept_unknown=True)
