"""Mistakes in the definition of a comparison, found before the libraries are imported."""

import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from mtl.cli.option_index import OptionIndex, read_index
from mtl.cli.words import check_words
from mtl.compare.definition import Experiment
from mtl.compare.plan import Plan, default_size
from mtl.compare.run_arguments import format_option, run_arguments
from mtl.errors import UserError


def check_definition(
    file: str, size: str | None, options: Sequence[str], *, look: bool = False
) -> None:
    """Checks the names of a definition and the options of its rows.

    Args:
        file: The definition, or the name of a table.
        size: The size; None for the default one.
        options: Options of every run.
        look: Whether the seeds of the next look are to be added.

    Raises:
        UserError: If a name does not exist, or a value is not accepted.
    """
    experiment = Experiment.read(file)
    if look and not experiment.looks:
        raise UserError(f"--look next: {file} has no `looks`, such as `looks: [5, 10, 20]`")
    size = size or default_size(experiment)
    try:
        plan = Plan(experiment, size, options=tuple(options))
        # Classes that this process has imported are not in the index.
        if index := read_index() if "lightning" not in sys.modules else None:
            for name in plan.experiment.rows:
                _check_row(plan, name, index)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _check_row(plan: Plan, name: str, index: OptionIndex) -> None:
    """Checks the options of a row; the message names the size if its options are at fault."""
    without_size = copy(plan)
    without_size.size = replace(plan.size, options={})
    for each, where in (
        (without_size, f"rows: {name}"),
        (plan, f"sizes: {plan.size_name}: options"),
    ):
        try:
            _check_options(each, name, index)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None


def _check_options(plan: Plan, name: str, index: OptionIndex) -> None:
    row = plan.experiment.rows[name]
    run = next(plan.runs(name), None)
    if run is None:
        return
    folders = dict.fromkeys(row.uses, "runs")
    command = "fit" if row.command == "none" else row.command
    arguments = run_arguments(plan, run, folders)
    check_words(command, arguments, index)
    for option, values in (*row.grid.items(), *plan.search_space(name).items()):
        for value in _each(values):
            words = [f"--{option}", format_option(value, plan.size.values)]
            check_words(command, [*arguments, *words], index)


def _each(values: Any) -> Iterator[Any]:
    """The values of a grid or of a search space: listed, or the ends of an interval."""
    if isinstance(values, list):
        yield from values
    elif isinstance(values, dict):
        yield from (values[end] for end in ("low", "high") if end in values)
