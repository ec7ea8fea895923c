"""The command line of a row that merges the runs of another row."""

from collections.abc import Iterator, Sequence

from mtl.cli.class_options import options_in
from mtl.cli.merge import takes_option
from mtl.compare.plan import Plan
from mtl.compare.run_arguments import format_option
from mtl.compare.run_spec import RunSpec


def merge_arguments(plan: Plan, run: RunSpec, folders: Sequence[str]) -> list[str]:
    """Arguments of `mtl merge`: of the options of every run only those of an evaluation.

    Args:
        plan: The plan of the run.
        run: The run.
        folders: The folders of the runs that are merged.
    """
    row, score = plan.experiment.rows[run.row], plan.experiment.suite_score
    values = {"seed": run.seed, **plan.size.values}
    arguments = list(folders)
    for name, value in {**plan.size.options, **row.options, **dict(run.choice)}.items():
        if name in row.options or takes_option(f"--{name}"):
            listed = value if isinstance(value, list) else [value]
            arguments += [f"--{name}", *(format_option(each, values) for each in listed)]
    if score:
        arguments += ["--score", score.text]
    return [*arguments, *_extra_options(plan.extra_options)]


def _extra_options(arguments: Sequence[str]) -> Iterator[str]:
    for option, value in options_in(arguments):
        if takes_option(option):
            yield f"{option}={value}"
