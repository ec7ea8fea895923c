"""`mtl compare`: trains several methods on the same tasks, and says which one to use."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mtl.cli.command import run_command
from mtl.cli.compare_words import check_definition
from mtl.cli.early import check_early
from mtl.compare.durations import parse_budget
from mtl.errors import UserError

if TYPE_CHECKING:
    from mtl.compare.api import Comparison

# Options of the comparison that is made without a definition, by the name of their argument.
DEFAULT_OPTIONS = ("methods", "backbone", "epochs", "batch_size", "trials")

INTERRUPTED = "interrupted; run the same command to resume"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description and the options of the command."""
    parser.usage = "mtl compare [FILE | --tasks+=TASK --tasks+=TASK ...] [options]"
    parser.description = (
        "Train several methods on the same tasks, and say which one to use. FILE is a definition "
        "(docs/compare.md) or the name of a table. Without one, the rows are: each task alone; one "
        "encoder with a head per task, round robin and mixed; one classifier if the classes agree; "
        "LoRA per task; and --methods. Other options, such as --trainer.precision fast, are those "
        "of `mtl fit`, for every run."
    )
    parser.epilog = (
        "Finished runs are not repeated: run the same command again to resume. Exit status: 0; 1 "
        "if runs failed; 2 if the command failed; 130 if it was interrupted."
    )
    parser.add_argument("file", nargs="?", metavar="FILE", help="the definition")
    _add_default_options(parser.add_argument_group("options without FILE"))
    plan = parser.add_argument_group("how many seeds")
    plan.add_argument("--seeds", type=int, nargs="+", metavar="N", help="seeds of every row")
    plan.add_argument(
        "--plan",
        action="store_true",
        help="print what numbers of seeds could tell and their time; keep no run",
    )
    plan.add_argument(
        "--budget", metavar="TIME", help="as many seeds as fit into a time, such as 90min or 2h"
    )
    plan.add_argument(
        "--look", choices=["next"], help="add the seeds of the next look to undecided rows"
    )
    where = parser.add_argument_group("where")
    where.add_argument("--size", metavar="NAME", help="size (default: mini, or the only one)")
    where.add_argument("--root", default="runs", metavar="DIR", help="folder of runs and reports")
    where.add_argument(
        "--jobs", type=int, metavar="N", help="runs at a time (default: one per GPU, or per core)"
    )
    where.add_argument(
        "--where",
        choices=["local", "slurm"],
        default="local",
        help="this machine, or a SLURM cluster",
    )
    where.add_argument(
        "--resources", metavar="FILE", help="YAML file with the resources of a cluster run"
    )
    where.add_argument(
        "--render_only", action="store_true", help="train nothing; report the finished runs"
    )


def _add_default_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--tasks+",
        "--tasks",
        dest="tasks",
        action="append",
        metavar="TASK",
        help="task file, or a name such as tasks/sst2; repeatable",
    )
    group.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="more rows, such as methods/pals or balancing/pcgrad",
    )
    group.add_argument("--backbone", help="pretrained encoder (default: bert-base-uncased)")
    group.add_argument(
        "--epochs", type=int, metavar="N", help="passes over the examples (default: 5)"
    )
    group.add_argument(
        "--batch_size", type=int, metavar="N", help="examples per batch (default: 16)"
    )
    group.add_argument(
        "--trials", type=int, metavar="N", help="learning rates tried for each run (default: 4)"
    )


def run(args: argparse.Namespace) -> int:
    """Plans or runs the comparison.

    Returns:
        The exit status: 1 if runs failed, 128 plus the signal if one ended the command, else 0.
    """
    _check(args)
    check_early("fit", args.options)
    # Before a large definition is checked and the libraries are imported, which takes seconds.
    print("reading tasks and options ...", file=sys.stderr, flush=True)
    if args.file:
        check_definition(args.file, args.size, args.options, look=bool(args.look))
    comparison = _comparison(args)
    for warning in comparison.warnings:
        print(f"Warning: {warning}", file=sys.stderr)
    if args.plan:
        print(comparison.plan(estimate=args.where == "local"))
        return 0
    signal.signal(signal.SIGTERM, _end_resumable)
    try:
        if args.budget:
            _fit_into_budget(comparison, args.budget, args.where)
        return _run(comparison, args)
    except KeyboardInterrupt:
        print(INTERRUPTED, file=sys.stderr)
        return 128 + signal.SIGINT


def _end_resumable(number: int, _: object) -> None:
    """Ends this process at once, as SIGTERM does by default; its runs end with it."""
    os.write(sys.stderr.fileno(), f"{INTERRUPTED}\n".encode())
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _fit_into_budget(comparison: "Comparison", budget: str, where: str) -> None:
    found = comparison.fit_into(budget, estimate=where == "local")
    seeds = len(comparison.runs.seeds)
    print(
        f"{seeds} seeds fit into {budget}; they would detect a difference of "
        f"{found.detectable(seeds):.1f} points",
        flush=True,
    )


def _check(args: argparse.Namespace) -> None:
    """Rejects options that do not go together."""
    given = [name for name in ("tasks", *DEFAULT_OPTIONS) if vars(args)[name] is not None]
    if args.file and given:
        raise UserError(f"--{given[0]} is for a comparison without FILE; edit {args.file} instead")
    if not args.file and not args.tasks:
        raise UserError("give a definition, or tasks: --tasks+=a.yaml --tasks+=b.yaml")
    for name in ("jobs", "epochs", "batch_size", "trials"):
        if vars(args)[name] is not None and vars(args)[name] < 1:
            raise UserError(f"--{name} {vars(args)[name]}: give 1 or more")
    seeds = args.seeds or []
    if len(set(seeds)) < len(seeds) or min(seeds, default=0) < 0:
        raise UserError(f"--seeds {' '.join(map(str, seeds))}: give each seed once, 0 or more")
    if args.budget is not None:
        parse_budget(args.budget)
        others = [name for name in ("plan", "render_only", "seeds") if getattr(args, name)]
        if others:
            raise UserError(f"--budget trains as many seeds as fit; omit --{others[0]}")
    if args.look and not args.file:
        raise UserError("--look next is for a definition with `looks`, such as `looks: [5, 10]`")


def _comparison(args: argparse.Namespace) -> "Comparison":
    from mtl.compare.api import Comparison
    from mtl.compare.default_file import save_default
    from mtl.compare.definition import Experiment
    from mtl.compare.executors import check_precision, executor_maker
    from mtl.compare.plan import Plan, default_size

    root, options = Path(args.root), tuple(args.options)
    definition, facts = args.file, None
    if definition is None:
        settings = {name: vars(args)[name] for name in DEFAULT_OPTIONS if vars(args)[name]}
        settings |= {"seeds": args.seeds} if args.seeds else {}
        definition, facts, options = save_default(args.tasks, options, root, settings)
        print(f"definition: {definition}", file=sys.stderr)
    experiment = Experiment.read(str(definition))
    size = args.size or default_size(experiment)
    plan = Plan(experiment, size, tuple(args.seeds or ()), options)
    check_precision(plan, args.where)
    resources = Path(args.resources) if args.resources else None
    maker = executor_maker(args.where, args.jobs, resources, root)
    return Comparison(str(definition), plan, root, args.jobs, maker, facts)


def _run(comparison: "Comparison", args: argparse.Namespace) -> int:
    from mtl.compare.rendering import show

    looks = not args.seeds and not args.budget
    look = bool(args.look) if looks or args.look else None
    outcome = comparison.run(look, args.render_only, args.command_line)
    show(outcome.report)
    print(f"{outcome.out}/table.html, .md, .csv and .tex")
    for failure in outcome.results.failures():
        print(failure, file=sys.stderr)
    return int(bool(outcome.failed))


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of the comparison, and the options of its runs: dotted ones, and `-c FILE`.

    >>> split_arguments(["mine.yaml", "--trainer.precision", "fast", "--plan"])
    (['mine.yaml', '--plan'], ['--trainer.precision', 'fast'])
    """
    own: list[str] = []
    options: list[str] = []
    remaining = list(arguments)
    while remaining:
        word = remaining.pop(0)
        name, equals, _ = word.partition("=")
        of_runs = name in ("-c", "--config") or (name.startswith("--") and "." in name)
        (options if of_runs else own).append(word)
        if of_runs and not equals and remaining:
            options.append(remaining.pop(0))
    return own, options


def main(arguments: list[str]) -> None:
    """Runs `mtl compare`."""
    own, options = split_arguments(arguments)

    def run_with_options(args: argparse.Namespace) -> int:
        args.options = options
        args.command_line = shlex.join(["mtl", "compare", *arguments])
        return run(args)

    run_command("compare", own, add_arguments, run_with_options)
