"""`mtl doctor`: checks this machine, and whether a training can run on it."""

import argparse
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from mtl.cli.checks import Check
from mtl.cli.command import run_command
from mtl.cli.early import check_early

COLOURS = {"ok": "green", "note": "yellow", "problem": "bold red"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the description of the command; all arguments are options of `mtl fit`."""
    parser.usage = "mtl doctor [options of mtl fit]"
    parser.description = (
        "Report versions, devices, precision, access to the Hub, disk space and memory. With the "
        "options of a training, such as -c my.yaml or --tasks+=my_task.yaml --backbone NAME, also "
        "check its data, and estimate the memory and the disk space that it needs."
    )
    parser.epilog = "Exit status: 0; 1 if there is a problem; 2 if the options are wrong."


def run(args: argparse.Namespace) -> int:
    """Runs all checks.

    Returns:
        The exit status: 1 if there is a problem, else 0.
    """
    check_early("fit", args.unknown, args.options)
    # Here, because they import the libraries.
    from mtl.cli.machine_checks import check_machine
    from mtl.cli.training_checks import check_training

    checks = [*check_machine(), *check_training(args.unknown)]
    _print(checks)
    return int(any(check.status == "problem" for check in checks))


def _print(checks: Sequence[Check]) -> None:
    table = Table(title="mtl doctor", title_justify="left", show_lines=False)
    for column in ("", "result", ""):
        table.add_column(column, overflow="fold")
    for check in checks:
        colour = COLOURS[check.status]
        status = f"[{colour}]{check.status}[/]"
        table.add_row(check.subject, check.result.replace("[", "\\["), status)
    console = Console()
    console.print(table)
    for check in checks:
        if check.remedy:
            message = f"{check.status}: {check.subject}: {check.remedy}"
            console.print(message, markup=False, highlight=False, soft_wrap=True)


def main(arguments: list[str]) -> None:
    """Runs `mtl doctor`."""
    run_command("doctor", arguments, add_arguments, run, accept_unknown=True)
