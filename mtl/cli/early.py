"""Mistakes that the words of a command show, found before the libraries are imported."""

import sys
from collections.abc import Sequence
from pathlib import Path

from mtl.cli.class_options import option_value, options_in, trainer_values, with_config_files
from mtl.cli.option_index import read_index
from mtl.cli.words import check_words
from mtl.errors import NO_TASKS, UserError
from mtl.inference.options import MANIFEST
from mtl.training.run_folder import (
    check_links,
    check_writable,
    find_checkpoint,
    read_metrics,
    run_folder_of,
)
from mtl.training.trainer_checks import check_trainer_options

HELP = {"-h", "--help", "--"}
# Options that may name tasks in a file.
NAME_TASKS = ("-c", "--config", "--ckpt_path")
# Values of --ckpt_path that name a checkpoint of the run in --out, or none.
OF_OUT = ("", "best", "last", "null")


def check_early(command: str, arguments: Sequence[str], others: Sequence[str] = ()) -> None:
    """Checks the words of a command, unless the libraries are imported already.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        arguments: Its arguments.
        others: Further options that may have been meant, of the command that runs this one.

    Raises:
        UserError: If a file or a name does not exist, or a value is not accepted.
    """
    check_files(command, arguments)
    if all(option_value(option, arguments) for option in ("--ckpt_path", "--model.init_from")):
        raise UserError(
            "--ckpt_path reads a run with its weights, and --model.init_from begins a new run with "
            "the weights of another; give one of them"
        )
    _check_run_folder(command, arguments)
    values = trainer_values(with_config_files(arguments))
    check_trainer_options(values, training=command == "fit")
    # Classes that this process has imported are not in the index.
    index = read_index() if "lightning" not in sys.modules else None
    if index:
        check_words(command, with_config_files(arguments), index, others)


def check_files(command: str, arguments: Sequence[str]) -> None:
    """Checks that the files exist which a command names, and reads its task files.

    Raises:
        UserError: If a file does not exist, or is not a task, or --out cannot be written to.
    """
    arguments = with_config_files(arguments)
    for option, value in options_in(arguments):
        if option == "--ckpt_path" and value not in OF_OUT:
            find_checkpoint(value, None, command)
        elif option == "--out" and value:
            check_writable(Path(value))
    if any(option in ("--tasks", "--tasks+", "--score") for option, _ in options_in(arguments)):
        from mtl.cli.task_words import check_tasks_in  # here: other commands need not wait for it

        check_tasks_in(arguments)


def check_run(command: str, run: str) -> None:
    """Checks that a run exists, which a command names without an option.

    Raises:
        UserError: If it has no checkpoint.
    """
    if not Path(run, MANIFEST).exists():  # a native export
        try:
            check_files(command, ["--ckpt_path", run])
        except UserError as error:
            raise UserError(str(error).removeprefix("--ckpt_path ")) from error


def check_named(command: str, arguments: Sequence[str]) -> None:
    """Checks that a command names what it works on: tasks, or a run.

    Args:
        command: `fit`, `validate`, `test` or `predict`.
        arguments: Its arguments.

    Raises:
        UserError: If it names neither.
    """
    given = {option for option, _ in options_in(arguments)}
    named = given & {*NAME_TASKS, *HELP} or any(option.startswith("--tasks") for option in given)
    if named or any(option.startswith("--print_") for option in given):
        return
    if command == "fit":
        raise UserError(NO_TASKS)
    raise UserError(f"mtl {command} needs a run: give its folder, with --ckpt_path RUN")


def _check_run_folder(command: str, arguments: Sequence[str]) -> None:
    """Checks the run's folder, if the words of a command name it."""
    out, checkpoint = (option_value(name, arguments) for name in ("--out", "--ckpt_path"))
    folder = Path(out) if out else None
    if not folder and checkpoint and checkpoint not in OF_OUT:
        folder = run_folder_of(find_checkpoint(checkpoint, None, command))
    if folder:
        check_links(folder)
        read_metrics(folder)
