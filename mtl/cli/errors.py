"""How commands report errors: one message on standard error, exit status 2."""

import logging
import os
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from mtl.cli.refusals import refusal_behind
from mtl.errors import UserError, format_error

LIGHTNING_FILES = "lightning"  # the folder of the library's source files
PACKAGE = Path(__file__).parents[1]


def exit_with_error(message: object) -> NoReturn:
    """Prints an error message and exits with status 2."""
    sys.stderr.write(f"{format_error(message)}\n")
    sys.exit(2)


@contextmanager
def refusals() -> Iterator[None]:
    """Context manager: a `UserError` becomes one message and exit status 2."""
    try:
        yield
    except UserError as error:
        exit_with_error(error)


@contextmanager
def report_user_errors() -> Iterator[None]:
    """Context manager: report a `UserError` as one message without a traceback.

    Warnings of the libraries that a user cannot act on are hidden.
    """
    # Lightning 2.6 uses deprecated names of jsonargparse.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # A resumed run writes to the same folder.
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller")
    if "SLURM_JOB_ID" not in os.environ:  # SLURM is installed, but this is not one of its jobs
        warnings.filterwarnings("ignore", message="The `srun` command is available")
    shown, warnings.formatwarning = warnings.formatwarning, _one_line
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.seed"):
        logging.getLogger(name).addFilter(_concerns_the_user)
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except Exception as error:
        message = refusal_behind(error)
        if not message:
            raise
        exit_with_error(message)
    finally:
        warnings.formatwarning = shown


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning of mtl without the place in its source; others as Python shows them."""
    if PACKAGE in Path(filename).parents:
        return f"Warning: {message}\n"
    return f"{filename}:{lineno}: {category.__name__}: {message}\n"


def _concerns_the_user(record: logging.LogRecord) -> bool:
    """Whether a log record is mtl's, a warning, or says which checkpoint is used."""
    own = LIGHTNING_FILES not in Path(record.pathname).parts
    return own or record.levelno > logging.INFO or record.getMessage().startswith("Restor")
